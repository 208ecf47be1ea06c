"""The service unit of the QRNG server: how little it may do, and what the daemon needs of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.qrng_server import NodeEnd, Server, node_key
from support.units import DEPLOY, Unit, calls_of

UNIT = Unit("qrngd.service")
NODE = node_key(1)


@pytest.mark.e2e
@pytest.mark.needs("systemd-analyze", "strace")
async def test_every_system_call_of_daemon_and_workers_is_allowed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    server = Server(tmp_path / "qrngd", allow=[NODE], memory_lock=True)
    server.command_line = ["strace", "-D", "-f", "-qq", "-o", str(trace)]
    with server.running():
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(30)
            await node.units(30)
        server.page("/metrics")
        server.page("/v1/log/0")
    made = calls_of(trace)
    assert {"memfd_create", "mlockall", "socketpair", "poll", "fdatasync", "execve"} <= made
    # numpy's OpenBLAS asks where its memory shall lie and does not look at the answer.
    assert made - UNIT.allowed_calls() <= {"mbind"}


def test_the_unit_asks_for_what_the_daemon_does() -> None:
    text = (DEPLOY / "systemd" / "qrngd.service").read_text()
    for line in ("LimitMEMLOCK=infinity", "KillMode=mixed", "DeviceAllow=/dev/hwrng r"):
        assert f"\n{line}\n" in text
    # pyOpenSSL's callbacks need memory that is written and then executed; with this directive the first handshake ends the daemon.
    assert not re.search(r"^MemoryDenyWriteExecute", text, re.MULTILINE)


def test_the_sockets_have_the_names_the_daemon_knows() -> None:
    from qrngd.sockets import NAMES

    files = (DEPLOY / "systemd").glob("qrngd*.socket")
    found = sorted(re.findall(r"^FileDescriptorName=(\w+)$", "\n".join(f.read_text() for f in files), re.MULTILINE))
    assert found == sorted(NAMES)
