"""The daemon as its operator meets it: starting, refusing to start, status, metrics, systemd, stopping."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from support.daemon import PATIENCE_S
from support.places import host
from support.qrng_server import PASSPHRASE, NodeEnd, Server, node_key

from qustream.model.entropy import UNIT_BYTES
from qustream.model.ids import IdKind, to_text

pytestmark = pytest.mark.e2e
NODE = node_key(1)
PROGRAM = Path(sys.executable).with_name("qrngd")


def qrngd(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "CREDENTIALS_DIRECTORY"}
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=clean | environment, timeout=60
    )


async def test_status_json_text_and_metrics_are_one_picture(tmp_path: Path) -> None:
    with Server(tmp_path, allow=[NODE]).running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(3)
            await node.units(3)
            assert server.page("/livez")[0] == 200
            assert server.page("/readyz")[0] == 200
            assert server.page("/secret")[0] == 404
            text = server.page("/metrics")[1].decode()
            status = server.status()
        families = list(text_string_to_metric_families(text))
        values = {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}
        assert values["qrngd_units_delivered_total",] == status.feed.units_delivered == 3
        assert values["qrngd_device_state", "device", "live"] == 1
        assert values["qrngd_device_state", "device", "failed"] == 0
        assert values["qrngd_device_emulated", "device"] == 1
        assert values["qrngd_feed_nodes",] == 1
        assert values["qrngd_health_windows_total", "device", "discarded"] == 0
        assert values["qrngd_units_made_total",] == 3
        for family in families:
            assert family.name.startswith(("qrngd_", "process_", "qrngd"))
            assert family.documentation
        shown = qrngd("status", "--url", server.pages)
        assert (shown.returncode, "live: the start-up test passed" in shown.stdout) == (0, True)
        as_json = json.loads(qrngd("status", "--url", server.pages, "--json").stdout)
        assert as_json["devices"][0]["state"] == "live"
        assert as_json["feed"]["units_delivered"] == 3
    assert qrngd("status", "--url", server.pages).returncode == 75


async def test_no_secret_reaches_log_or_pages(tmp_path: Path) -> None:
    with Server(tmp_path, allow=[NODE], log_level="debug").running() as server:
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(2)
            units = await node.units(2)
        everything = server.log_path.read_bytes() + b"".join(server.page(p)[1] for p in ("/metrics", "/v1/status", "/readyz"))
    assert PASSPHRASE not in everything
    assert server.key.seed.hex().encode() not in everything
    for unit in units:
        assert unit.unit[:8].hex().encode() not in everything
    on_disk = b"".join(path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file())
    assert units[0].unit[: UNIT_BYTES // 1000] not in on_disk


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        said: list[str] = []
        server = Server(tmp_path, allow=[NODE])
        with server.running(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000"):
            while not ("READY=1" in said and any(line.startswith("STATUS=live") for line in said) and said.count("WATCHDOG=1") >= 3):
                said += manager.recv(4096).decode().splitlines()
        while "STOPPING=1" not in said:
            said += manager.recv(4096).decode().splitlines()


# What systemd does: sockets become descriptors 3, 4, … of a process that knows its own number. With --alone the process
# leaves every network first, so that only these sockets connect it to anything.
ACTIVATE = """
import os, sys
alone, descriptors, rest = sys.argv[1] == "--alone", sys.argv[2].split(","), sys.argv[3:]
for number, descriptor in enumerate(descriptors, 3):
    os.dup2(int(descriptor), number, inheritable=True)
if alone:
    import ctypes
    assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(descriptors)), LISTEN_FDNAMES=os.environ["NAMES"])
os.execv(rest[0], rest)
"""


async def activated(tmp_path: Path, *, alone: bool) -> None:
    with socket.create_server((host(9), 0)) as feed, socket.create_server((host(9), 0)) as pages:
        server = Server(tmp_path, allow=[NODE], listen=[f"{host(9)}:1"], status_listen=f"{host(9)}:2")  # not to be opened
        # Descriptors well above those they become, so that none is overwritten on the way.
        high = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, 50) for sock in (feed, pages)]
        server.command_line = [sys.executable, "-c", ACTIVATE, "--alone" if alone else "--here", ",".join(map(str, high))]
        server.start(pass_fds=high, NAMES="feed:pages")
        try:
            assert server.addresses == [f"{host(9)}:{feed.getsockname()[1]}"]
            assert server.pages == f"{host(9)}:{pages.getsockname()[1]}"
            async with await NodeEnd.dial(server, NODE) as connection:
                node = NodeEnd(server, NODE, connection)
                await node.open(3)
                assert len(await node.units(3)) == 3
            assert server.page("/readyz")[0] == 200
        finally:
            assert server.stop() == 0
            for descriptor in high:
                os.close(descriptor)


async def test_sockets_may_come_from_systemd(tmp_path: Path) -> None:
    await activated(tmp_path, alone=False)


@pytest.mark.needs("root")
async def test_with_such_sockets_it_needs_no_network(tmp_path: Path) -> None:
    await activated(tmp_path, alone=True)


def test_a_second_daemon_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path, allow=[NODE]).running() as server:
        second = qrngd("run", "--config", server.config, CREDENTIALS_DIRECTORY=server.environment["CREDENTIALS_DIRECTORY"])
        assert (second.returncode, "E-DATA-LOCKED" in second.stderr) == (78, True)
        assert server.page("/livez")[0] == 200


async def test_strangers_who_use_up_all_descriptors_end_nothing(tmp_path: Path) -> None:
    with Server(tmp_path, allow=[NODE]).running() as server, ExitStack() as strangers:
        await server.wait_for("live")
        pid = server.process.pid
        host, port = server.address.rsplit(":", 1)
        async with await NodeEnd.dial(server, NODE) as connection:
            node = NodeEnd(server, NODE, connection)
            await node.open(2)
            before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (40, before[1]))
            for _ in range(60):  # what is not accepted waits with the kernel
                strangers.enter_context(socket.create_connection((host, int(port))))
            for worker in server.children():
                os.kill(worker, signal.SIGKILL)
            await node.until_told("absent")
            with trio.fail_after(60):
                while "no worker can be started" not in node.health[-1].reason:
                    await node.next_message()
            strangers.close()
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            await node.until_told("live")
            await node.grant(4)
            await node.units(1)


def test_an_address_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server((host(9), 0)) as taken:
        server = Server(tmp_path, allow=[NODE], listen=[f"{host(9)}:{taken.getsockname()[1]}"])
        refused = qrngd("run", "--config", server.config, CREDENTIALS_DIRECTORY=server.environment["CREDENTIALS_DIRECTORY"])
    assert (refused.returncode, "E-ADDRESS-IN-USE" in refused.stderr) == (78, True)


def test_a_typing_error_in_the_configuration_is_named(tmp_path: Path) -> None:
    server = Server(tmp_path, allow=[NODE])
    server.config.write_text(server.config.read_text().replace("stock_units", "stok_units"))
    refused = qrngd("run", "--config", server.config)
    assert refused.returncode == 78
    assert "stok_units; did you mean stock_units?" in refused.stderr


def test_without_a_passphrase_it_says_what_is_missing(tmp_path: Path) -> None:
    refused = qrngd("run", "--config", Server(tmp_path, allow=[NODE]).config)
    assert (refused.returncode, "E-SECRET-MISSING" in refused.stderr) == (78, True)


def test_init_makes_what_run_needs(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_bytes(b"of this test")
    (tmp_path / "passphrase").chmod(0o600)
    home = tmp_path / "home"
    made = qrngd("init", "--dir", home, "--device", "emulator", "--passphrase-file", tmp_path / "passphrase", "--listen", f"{host(9)}:0")
    assert made.returncode == 0, made.stderr
    config = home / "qrngd.toml"
    assert "E-CONFIG" in qrngd("id", "--config", config).stderr  # nobody is allowed yet
    with config.open("a") as file:
        file.write(f'[[allow]]\nid = "{to_text(IdKind.NODE, NODE.id)}"\n')
    shown = qrngd("id", "--config", config, CREDENTIALS_DIRECTORY=str(_credential(tmp_path)))
    assert shown.stdout == made.stdout
    assert shown.stdout.startswith("qr1")
    again = qrngd("init", "--dir", home, "--device", "emulator", "--passphrase-file", tmp_path / "passphrase")
    assert (again.returncode, "E-KEYSTORE-EXISTS" in again.stderr) == (78, True)
    assert (home / "data" / "identity").stat().st_mode & 0o077 == 0


def _credential(folder: Path) -> Path:
    (folder / "credentials").mkdir()
    (folder / "credentials" / "qrngd").write_bytes(b"of this test")
    return folder / "credentials"


def test_selftest_says_in_words_what_it_found() -> None:
    good = qrngd("selftest", "--device", "emulator", "--bytes", "4000000", "--json")
    assert good.returncode == 0, good.stderr
    report = json.loads(good.stdout)
    assert report["passed"] is True
    assert report["windows"] >= 60
    assert report["conditioned_bytes"] > 1_800_000
    bad = qrngd("selftest", "--device", "emulator:biased@permille=200", "--bytes", "4000000")
    assert bad.returncode == 1
    assert "FAILED" in bad.stdout
    assert "adaptive proportion" in bad.stdout
    gone = qrngd("selftest", "--device", "emulator:vanish@bytes=100000")
    assert (gone.returncode, "E-DEV-ABSENT" in gone.stdout) == (1, True)
    assert qrngd("selftest").returncode == 2


def test_devices_lists_without_reading() -> None:
    found = json.loads(qrngd("devices", "--json").stdout)
    assert found[-1]["kind"] == "emulator"
    assert all({"path", "usable", "current", "available", "note"} <= set(entry) for entry in found)
