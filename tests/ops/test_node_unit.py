"""The node's systemd unit: how much it is exposed, and that what it forbids a node never does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.chain_circle import ChainCircle
from support.node import QNode
from support.qrng_server import Server
from support.units import DEPLOY, Unit, calls_of

from qustream.identity.signing import SigningKey

UNIT = Unit("qnode.service")


def test_a_process_beside_the_daemon_may_die_alone() -> None:
    """What checks signatures is started again; the unit must not be stopped for it."""
    assert UNIT.settings("OOMPolicy") == ["continue"]


def test_the_unit_and_the_daemon_agree() -> None:
    assert float(UNIT.settings("TimeoutStopSec")[0]) >= 10  # draining takes five seconds, closing one more
    assert UNIT.settings("LoadCredentialEncrypted")[0].startswith("qnode:")
    assert UNIT.settings("User") == ["qnode"]
    assert re.search(r"^u qnode ", (DEPLOY / "sysusers.d" / "qnode.conf").read_text(), re.MULTILINE)


@pytest.mark.e2e
@pytest.mark.needs("systemd-analyze", "strace")
def test_every_system_call_of_a_node_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "qrngd").mkdir()
    key, trace = SigningKey(b"n" * 32), tmp_path / "trace"
    with Server(tmp_path / "qrngd", allow=[key]).running() as server:
        node = QNode(tmp_path / "qnode", [server], key=key)
        node.command_line = ["strace", "-D", "-f", "-qq", "-o", str(trace)]
        with node.running():
            node.until_ready()
            node.page("/metrics")
    made = calls_of(trace)
    assert {"openat", "mmap", "epoll_wait", "fdatasync"} <= made
    assert made - UNIT.allowed_calls() == set()


@pytest.mark.e2e
@pytest.mark.needs("systemd-analyze", "strace")
def test_every_system_call_of_a_validator_and_of_what_checks_signatures_for_it_is_allowed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with ChainCircle(tmp_path, 1) as circle:
        [node] = circle.nodes
        node.command_line = ["strace", "-D", "-f", "-qq", "-o", str(trace)]
        node.start_s = 60
        circle.start()
        raw = circle.transfer(0, 1, 0)
        assert node.submit(raw)[0] == 202
        circle.until(lambda each: each.has_executed(raw))
        node.page("/metrics")
        assert node.ledger.verify_starts >= 1
    made = calls_of(trace)
    assert {"execve", "socketpair", "fdatasync"} <= made
    assert made - UNIT.allowed_calls() == set()
