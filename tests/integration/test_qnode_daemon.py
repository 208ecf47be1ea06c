"""The node daemon as its operator meets it: starting, refusing to start, readiness, status, systemd, stopping."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from support.daemon import PATIENCE_S
from support.node import PASSPHRASE, QNode, until
from support.places import host
from support.qrng_server import CHAIN, Server

from qnode.daemon import DRAIN_S
from qustream.errors import CODES, QuStreamError
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.transport.blocking import connect
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role

pytestmark = pytest.mark.e2e
KEY, STRANGER = SigningKey(b"n" * 32), SigningKey(b"s" * 32)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running QRNG server with a healthy emulator that feeds the test's node."""
    folder = tmp_path / "qrngd"
    folder.mkdir()
    with Server(folder, allow=[KEY]).running() as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, server: Server) -> QNode:
    """A node that is not running yet."""
    return QNode(tmp_path / "qnode", [server], key=KEY)


def dial(node: QNode) -> object:
    return connect(node.addresses[0], key=STRANGER, hello=LocalHello(CHAIN, (Role.DEVICE,)), expect=node.key.id, timeout_ms=60_000)


def test_a_node_becomes_ready_and_all_its_faces_agree(node: QNode, server: Server) -> None:
    with node.running():
        snapshot = node.until_ready()
        assert (snapshot.node, snapshot.node_class, snapshot.chain) == (node.id, "foundation", CHAIN)
        node.until(lambda status: status.pool.units == 8)
        assert snapshot.links[0].server == to_text(IdKind.QRNG, server.key.id)
        assert node.page("/livez")[0] == node.page("/readyz")[0] == 200
        text = node.page("/metrics")[1].decode()
        values = {
            (s.name, *s.labels.values()): s.value for family in text_string_to_metric_families(text) for s in family.samples
        }  # fmt: skip
        assert values["qnode_ready",] == 1
        assert values["qnode_pool_units",] == node.status().pool.units == 8
        assert values["qnode_qrngd_live", to_text(IdKind.QRNG, server.key.id)] == 1
        shown = node.command("status", "--url", node.pages)
        assert (shown.code, "state       ready" in shown.out) == (0, True)
        as_json = json.loads(node.command("status", "--json", "--url", node.pages).out)
        assert as_json["pool"]["units"] == 8
    assert node.command("status", "--url", node.pages).code == 75


def test_readiness_follows_the_qrng_server(node: QNode, server: Server) -> None:
    """Its death is a condition while there are units in memory; it is found again when it is back."""
    with node.running():
        node.until(lambda status: status.pool.units == 8)
        server.kill()
        keep_address(server)
        snapshot = node.until(lambda status: status.links[0].code == "E-PEER-UNREACHABLE")
        assert snapshot.ready
        assert [(c.code, c.stops) for c in snapshot.conditions] == [("E-PEER-UNREACHABLE", False)]
        server.start()
        assert node.until(lambda status: status.links[0].state == "live").conditions == ()


def test_a_node_without_randomness_says_whose_fault_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "qrngd"
    folder.mkdir()
    with Server(folder, device='kind = "emulator"\nfaults = "stuck"', allow=[KEY]).running() as server:
        node = QNode(tmp_path / "qnode", [server], key=KEY)
        with node.running():
            snapshot = node.until(lambda status: any(c.code == "E-ENTROPY-SHORT" for c in status.conditions))
            assert not snapshot.ready
            code, body = node.page("/readyz")
            [reason] = json.loads(body)["reasons"]
            assert (code, reason["code"], reason["remedy"]) == (503, "E-ENTROPY-SHORT", CODES["E-ENTROPY-SHORT"].remedy)
            assert server.address in reason["detail"]
            waited = node.command("wait", "--url", node.pages, "--timeout", "0.5")
            assert (waited.code, "E-ENTROPY-SHORT" in waited.err) == (1, True)
            assert node.command("status", "--url", node.pages).code == 1


def test_a_qrng_server_that_is_another_one_is_refused(node: QNode, server: Server) -> None:
    other = SigningKey(b"o" * 32)
    node.writer.add_qrng_server(replace(server.record(), key=other.public))
    node.writer.write()
    node.configure([(server.address, other.id)])
    with node.running():
        snapshot = node.until(lambda status: status.links[0].state == "refused")
        assert snapshot.links[0].code == "E-PEER-IDENTITY"
        assert not snapshot.ready or snapshot.pool.units == 0


def test_a_second_daemon_on_the_same_directory_is_refused(node: QNode) -> None:
    with node.running():
        second = node.command("run")
        assert (second.code, second.err.splitlines()[-1].startswith("qnode: E-DATA-LOCKED: ")) == (78, True)
        assert CODES["E-DATA-LOCKED"].remedy in second.err
        assert node.page("/livez")[0] == 200


def keep_address(server: Server) -> None:
    """Let the server come back where it was."""
    server.config.write_text(server.config.read_text().replace(f"{host(9)}:0", server.address, 1))


def misspell(node: QNode, before: str, after: str) -> None:
    node.config.write_text(node.config.read_text().replace(before, after))


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        (lambda node: misspell(node, "data_dir", "data_dri"), "E-CONFIG", "did you mean data_dir?"),
        (lambda node: node.config.write_text("chain = "), "E-CONFIG", "not TOML"),
        (lambda node: node.config.unlink(), "E-FILE", "No such file"),
        (lambda node: (node.folder / "network.toml").unlink(), "E-FILE", "network.toml"),
        (lambda node: (node.folder / "network.toml").write_text("nonsense"), "E-REGISTRY-SIGNATURE", ""),
        (lambda node: node.configure([("127.0.0.1:1", bytes(32))], chain="another"), "E-REGISTRY-CHAIN", "another"),
        (lambda node: (node.folder / "node.keystore").chmod(0o644), "E-KEYSTORE-MODE", "node.keystore"),
        (lambda node: (node.folder / "credentials" / "qnode").write_text("wrong"), "E-KEYSTORE-OPEN", "node.keystore"),
        (lambda node: (node.folder / "credentials" / "qnode").unlink(), "E-SECRET-MISSING", "credential"),
        (lambda node: node.configure([("127.0.0.1:1", bytes(32))], listen=["192.0.2.1:7400"]), "E-ADDRESS-IN-USE", "192.0.2.1:7400"),
        (lambda node: (node.data_dir / "network-height").write_text(f"{CHAIN} 9\n"), "E-KEYSTORE-MODE", "network-height"),
    ],
)  # fmt: skip
def test_what_an_operator_must_mend_is_one_line_and_exit_78(tmp_path: Path, damage: object, code: str, said: str) -> None:
    node = QNode(tmp_path / "qnode", others=[("127.0.0.1:1", bytes(32))])
    damage(node)  # type: ignore[operator]
    done = node.command("run")
    assert done.code == 78, done.err
    line = done.err.splitlines()[-1]
    assert line.startswith(f"qnode: {code}: ")
    assert said in line
    assert CODES[code].remedy in line
    assert "Traceback" not in done.err


def test_a_taken_address_is_named(tmp_path: Path) -> None:
    with socket.create_server((host(8), 0)) as taken:
        address = f"{host(8)}:{taken.getsockname()[1]}"
        for settings in ({"listen": [address]}, {"status_listen": address}):
            node = QNode(tmp_path / next(iter(settings)), others=[("127.0.0.1:1", bytes(32))], **settings)
            done = node.command("run")
            assert (done.code, "E-ADDRESS-IN-USE" in done.err, address in done.err) == (78, True, True)


def test_a_bad_network_file_keeps_the_old_view_and_a_good_one_takes_over(node: QNode) -> None:
    path = node.folder / "network.toml"
    with node.running():
        node.until_ready()
        damaged = path.with_suffix(".new")  # put in place whole: the node looks at it all the time
        damaged.write_text(path.read_text()[:-100])
        damaged.replace(path)
        snapshot = node.until(lambda status: status.conditions)
        assert [(c.code, c.stops) for c in snapshot.conditions] == [("E-REGISTRY-SIGNATURE", False)]
        assert (snapshot.ready, snapshot.height) == (True, 1)
        node.writer._on_disk = node.writer._found()  # the writer would notice that somebody else wrote
        node.writer.write()
        snapshot = node.until(lambda status: status.height == 2)
        assert (snapshot.ready, snapshot.conditions) == (True, ())
        node.writer.set_node_active(node.key.id, False)
        node.writer.write()
        assert not node.until(lambda status: status.height == 3).ready
        assert node.status().node_class == "unlicensed"
    node.writer.set_node_active(node.key.id, True)
    older = node.writer.version
    assert (node.data_dir / "network-height").read_text() == f"{CHAIN} {older}\n"


def test_an_older_network_file_does_not_pass_at_the_next_start(node: QNode) -> None:
    path = node.folder / "network.toml"
    old = path.read_bytes()
    node.writer.write()
    with node.running():
        assert node.status().height == 2
    path.write_bytes(old)
    done = node.command("run")
    assert (done.code, "E-REGISTRY-VERSION" in done.err) == (78, True)


def test_sigterm_ends_it_cleanly_with_connections_open(node: QNode) -> None:
    took_s = []
    while not took_s or (len(took_s) < 5 and min(took_s) > DRAIN_S):  # a busy machine may take that long for anything
        with node.running():
            node.until_ready()
            with dial(node):  # type: ignore[attr-defined]
                began_s = time.monotonic()
                assert node.stop() == 0
                took_s.append(time.monotonic() - began_s)
            assert [line["event"] for line in node.log()][-1] == "stopping"
    assert min(took_s) < DRAIN_S, "it waited for a connection that asks nothing"
    with node.running():  # and its data is as it was
        node.until_ready()


def test_sigint_too(node: QNode) -> None:
    with node.running():
        assert node.process is not None
        node.process.send_signal(signal.SIGINT)
        assert node.process.wait(60) == 0


def test_systemd_is_told(node: QNode, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        said: list[str] = []

        def hear(wanted: str) -> None:
            while not any(wanted in message for message in said):
                said.append(manager.recv(4096).decode())

        with node.running(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="2000000"):
            hear("READY=1")
            hear("STATUS=ready; pool")
            hear("WATCHDOG=1")
            began = len(said)
            while sum("WATCHDOG=1" in message for message in said[began:]) < 2:
                said.append(manager.recv(4096).decode())
        hear("STOPPING=1")
    assert said[0].startswith("READY=1\nSTATUS=")
    assert all("\n\n" not in message for message in said)


def test_no_secret_reaches_log_pages_or_disk_in_clear(node: QNode, server: Server) -> None:
    node.configure([(server.address, server.key.id)], log_level="debug")
    with node.running():
        node.until(lambda status: status.pool.units == 8)
        pages = b"".join(node.page(path)[1] for path in ("/metrics", "/v1/status", "/readyz", "/livez"))
    everything = node.log_path.read_bytes() + pages
    for secret in (PASSPHRASE, node.key.seed.hex().encode(), node.key.seed):
        assert secret not in everything
    for path in node.data_dir.rglob("*"):
        assert not path.is_file() or node.key.seed not in path.read_bytes()


def test_peers_alone_cannot_cause_a_line_above_debug(node: QNode) -> None:
    """Strangers, garbage, half handshakes, requests of every wrong kind, slow and mad HTTP clients."""
    with node.running():
        node.until_ready()
        until(lambda: any(line["event"] == "ready" for line in node.log()))
        # What the node says of its QRNG server comes ten seconds later if it said something else before.
        until(lambda: [line["state"] for line in node.log() if line["event"] == "qrngd"][-1:] == ["live"])
        before = len(node.log())
        host, port = node.addresses[0].split(":")
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(500), b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection((host, int(port)), timeout=60) as sock:
                sock.sendall(data)
        for _ in range(3):
            with dial(node) as connection:  # type: ignore[attr-defined]
                for body in (b"", b"nonsense", bytes(30_000)):
                    with pytest.raises(QuStreamError):
                        connection.call(body, deadline_ms=60_000)
        status_host, status_port = node.pages.split(":")
        for data in (b"", b"\x00" * 3000, b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /" + b"x" * 20_000):
            with socket.create_connection((status_host, int(status_port)), timeout=60) as sock:
                sock.sendall(data)
        snapshot = node.until(lambda status: status.peers.handshakes_failed >= 4 and sum(status.refused.values()) >= 9)
        assert snapshot.ready
        assert set(snapshot.refused) <= set(CODES)
        assert node.log()[before:] == []


def test_slow_http_clients_keep_nobody_out(node: QNode) -> None:
    host, port = "", 0
    with node.running():
        host, _, port_text = node.pages.partition(":")
        port = int(port_text)
        slow = [socket.create_connection((host, port), timeout=60) for _ in range(100)]
        try:
            for sock in slow:
                with contextlib.suppress(OSError):  # displaced already
                    sock.sendall(b"GET /metrics HT")
            for _ in range(20):
                assert node.page("/livez")[0] == 200
        finally:
            for sock in slow:
                sock.close()


def test_a_killed_node_starts_again_on_its_data(node: QNode) -> None:
    with node.running():
        node.until_ready()
        assert node.process is not None
        node.process.kill()
        assert node.process.wait(60) == -9
        node.process = None
    with node.running():
        node.until_ready()
