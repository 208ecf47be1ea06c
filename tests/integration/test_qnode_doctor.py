"""`qnode doctor` on set-ups that are in order, broken in one place, broken everywhere, and beside a running node."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import until
from support.network import Finished
from support.node import QNode
from support.places import free_ports, host
from support.qrng_server import Server

from qustream.errors import CODES
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text

pytestmark = pytest.mark.e2e
KEY = SigningKey(b"n" * 32)
HOST = host(8)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "qrngd").mkdir()
    with Server(tmp_path / "qrngd", allow=[KEY]).running() as running:
        until(lambda: running.status().ready)
        yield running


@pytest.fixture
def node(tmp_path: Path, server: Server) -> QNode:
    """A node in order, at fixed addresses, not running."""
    listen, status = free_ports(8, 2)
    node = QNode(
        tmp_path / "qnode", [server], key=KEY, listen=[f"{HOST}:{listen}"], status_listen=f"{HOST}:{status}", held_blocks=64
    )  # fmt: skip
    node.writer.set_node_addresses(KEY.id, (f"{HOST}:{listen}",))
    node.writer.write()
    return node


def examined(node: QNode) -> tuple[Finished, dict[str, str]]:
    """What doctor said: name of the check to `ok` or the code that failed."""
    done = node.command("doctor")
    found = {}
    for line in done.out.splitlines()[:-1]:
        verdict, name, *rest = line[:4].strip(), *line[6:].split(": ")
        found[name] = verdict if verdict == "ok" else rest[0]
        if verdict != "ok":
            assert CODES[rest[0]].remedy in line
    assert done.code == (1 if any(verdict != "ok" for verdict in found.values()) else 0), done
    return done, found


def test_a_node_in_order_before_it_runs_and_while_it_does(node: QNode, server: Server) -> None:
    done, found = examined(node)
    assert set(found.values()) == {"ok"}, done.out
    assert {"configuration", "keystore", "cryptography", "clock", "data directory", "disk space", "network file", "licence"} <= set(found)
    assert f"QRNG server {server.address}: its device is live" in done.out
    with node.running():
        node.until_ready()
        done, found = examined(node)
        assert set(found.values()) == {"ok"}, done.out
        assert done.out.count("in use by this node") == 3
        assert "running node: ready" in done.out
        assert node.status().links[0].units == 8  # the feed was not disturbed
        assert server.status().feed.opened <= 2  # doctor's own, before, and the node's
        credential = node.folder / "credentials" / "qnode"
        passphrase = credential.read_bytes()
        credential.write_text("wrong")
        done, found = examined(node)  # as whoever has not the node's passphrase: what can be judged without it still is
        credential.write_bytes(passphrase)
        assert {name for name, verdict in found.items() if verdict != "ok"} == {"keystore", "licence and bandwidth"}, done.out
        assert done.out.count("in use by this node") == 3
    assert examined(node)[1]["data directory"] == "ok"


def test_everything_that_can_be_wrong_is_named_at_once(node: QNode) -> None:
    stranger = SigningKey(b"x" * 32)
    with socket.create_server((HOST, 0)) as taken:
        address = f"{HOST}:{taken.getsockname()[1]}"
        node.configure(
            [(f"{HOST}:1", stranger.id)], listen=[address], status_listen="192.0.2.1:7480", held_blocks=1_000_000,
        )  # fmt: skip
        (node.folder / "credentials" / "qnode").write_text("wrong")
        done, found = examined(node)
    assert found["keystore"] == "E-KEYSTORE-OPEN"
    assert found["disk space"] == "E-DISK-FULL"
    assert found[f"address {address}"] == "E-ADDRESS-IN-USE"
    assert found["status address 192.0.2.1:7480"] == "E-ADDRESS-IN-USE"
    assert found[f"QRNG server {HOST}:1"] == "E-SECRET-MISSING"
    assert done.out.splitlines()[-1] == "6 of the checks failed"


@pytest.mark.parametrize(
    ("damage", "check", "code"),
    [
        (lambda node: node.config.write_text("chian = 1"), "configuration", "E-CONFIG"),
        (lambda node: (node.folder / "network.toml").write_text("x"), "network file", "E-REGISTRY-SIGNATURE"),
        (lambda node: shutil.rmtree(node.data_dir), "data directory", "E-FILE"),
        (lambda node: node.writer.set_node_active(KEY.id, False) or node.writer.write(), "licence", "E-PEER-UNLICENSED"),
        (lambda node: node.writer.set_node_addresses(KEY.id, (f"{HOST}:1",)) or node.writer.write(), "licence", "E-CONFIG"),
    ],
    ids=["configuration", "network file", "data directory", "licence", "address"],
)
def test_one_thing_that_is_wrong(node: QNode, damage: object, check: str, code: str) -> None:
    damage(node)  # type: ignore[operator]
    assert examined(node)[1][check] == code


def test_an_address_elsewhere_is_the_routers_business(node: QNode) -> None:
    """At home the network knows the router's address, which this machine cannot check."""
    node.writer.set_node_addresses(KEY.id, ("192.0.2.7:7400",))
    node.writer.write()
    done, found = examined(node)
    assert found["licence"] == "ok"
    assert "connect to 192.0.2.7:7400: see to it that this leads to" in done.out


def test_a_qrng_server_that_is_away_another_one_or_refuses(node: QNode, server: Server) -> None:
    name = f"QRNG server {server.address}"
    node.configure([(server.address, SigningKey(b"o" * 32).id)])
    assert examined(node)[1][name] == "E-PEER-IDENTITY"
    node.configure([(server.address, server.key.id)])
    server.stop()
    assert examined(node)[1][name] == "E-PEER-UNREACHABLE"
    text = server.config.read_text().replace(f"{host(9)}:0", server.address, 1)
    server.config.write_text(text.replace(node.id, to_text(IdKind.NODE, SigningKey(b"z" * 32).id)))
    server.start()
    assert examined(node)[1][name] == "E-FEED-REFUSED"


def test_a_directory_somebody_else_works_in(node: QNode, tmp_path: Path) -> None:
    with node.running():
        other = QNode(tmp_path / "other", key=KEY, others=[("127.0.0.1:1", bytes(32))], data_dir=str(node.data_dir))
        assert examined(other)[1]["data directory"] == "E-DATA-LOCKED"
