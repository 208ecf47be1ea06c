"""A node and real QRNG servers: several of them, one that dies, one that fails, a licence that comes late, a Unix socket."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.node import QNode
from support.places import host
from support.qrng_server import Server

from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text

pytestmark = pytest.mark.e2e
KEY = SigningKey(b"n" * 32)
FIXED = f"{host(9)}:17391"  # an address that outlives a server's end


def server_in(folder: Path, **settings: object) -> Server:
    folder.mkdir()
    return Server(folder, allow=[KEY], **settings)  # type: ignore[arg-type]


def units_of(node: QNode, server: Server) -> int:
    name = to_text(IdKind.QRNG, server.key.id)
    return next(link.units for link in node.status().links if link.server == name)


def test_the_other_server_goes_on_when_one_dies(tmp_path: Path) -> None:
    with server_in(tmp_path / "a").running() as first, server_in(tmp_path / "b").running() as second:
        node = QNode(tmp_path / "qnode", [first, second], key=KEY, pool_units=16)
        with node.running():
            node.until(lambda status: status.pool.units == 16)
            node.until(lambda status: all(link.state == "live" for link in status.links))
            first.kill()
            snapshot = node.until(lambda status: status.links[0].code == "E-PEER-UNREACHABLE")
            assert (snapshot.ready, snapshot.links[1].state) == (True, "live")
        with node.running():  # with one dead from the start
            node.until(lambda status: status.pool.units == 16)
            assert (units_of(node, first), units_of(node, second)) == (0, 16)


def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    first, second = server_in(tmp_path / "a", listen=[FIXED]), server_in(tmp_path / "b")
    with first.running(), second.running():
        node = QNode(tmp_path / "qnode", [first, second], key=KEY, pool_units=16)
        # What a server gave that is struck off is thrown away, so the pool shows who fills it.
        node.writer.set_qrng_server_active(second.key.id, False)
        node.writer.write()
        with node.running():
            node.until(lambda status: status.pool.units == units_of(node, first) == 16)
            first.kill()
            node.until(lambda status: status.links[0].code == "E-PEER-UNREACHABLE")
            node.writer.set_qrng_server_active(second.key.id, True)
            node.writer.set_qrng_server_active(first.key.id, False)
            node.writer.write()
            node.until(lambda status: status.pool.units == units_of(node, second) == 16)
            first.start()
            node.writer.set_qrng_server_active(first.key.id, True)
            node.writer.set_qrng_server_active(second.key.id, False)
            node.writer.write()
            node.until(lambda status: status.pool.units == 16 and units_of(node, first) == 32)
            assert node.status().ready


def test_a_device_that_fails_is_told_apart_from_a_server_that_is_gone(tmp_path: Path) -> None:
    stuck = server_in(tmp_path / "a", device='kind = "emulator"\nfaults = "stuck"')
    with stuck.running() as first, server_in(tmp_path / "b").running() as second:
        node = QNode(tmp_path / "qnode", [first, second], key=KEY)
        with node.running():
            node.until(lambda status: status.pool.units == 8)
            snapshot = node.until(lambda status: status.links[0].code in ("E-DEV-HEALTH", "E-DEV-LATCHED"))
            assert snapshot.links[0].state in ("suspect", "failed")
            assert snapshot.links[0].reason
            assert (snapshot.ready, units_of(node, first)) == (True, 0)


def test_a_licence_that_comes_late_needs_no_restart(tmp_path: Path) -> None:
    node = QNode(tmp_path / "qnode", others=[("127.0.0.1:1", bytes(32))], key=KEY)
    node.writer.set_node_active(KEY.id, False)
    node.writer.write()
    (tmp_path / "qrngd").mkdir()
    licensing = {"network_file": str(node.folder / "network.toml"), "network_key": node.writer.network_key_text}
    with Server(tmp_path / "qrngd", **licensing).running() as server:
        node.writer.add_qrng_server(server.record())
        node.writer.write()
        node.configure([(server.address, server.key.id)])
        with node.running():
            snapshot = node.until(lambda status: status.links[0].state == "refused")
            assert snapshot.links[0].code == "E-FEED-REFUSED"
            assert {c.code for c in snapshot.conditions if c.stops} >= {"E-PEER-UNLICENSED"}
            node.writer.set_node_active(KEY.id, True)
            node.writer.write()
            node.until(lambda status: status.ready and status.pool.units == 8)
            node.writer.set_qrng_server_active(server.key.id, False)
            node.writer.write()
            node.until(lambda status: status.links[0].code == "E-ATTESTATION" or status.pool.units == 0)
            assert node.status().pool.expired == 8  # nobody would accept a block made of these


def test_a_server_on_the_same_machine_by_its_unix_socket(tmp_path: Path) -> None:
    with server_in(tmp_path / "a", listen=[], unix=str(tmp_path / "a" / "feed.sock")).running() as server:
        node = QNode(tmp_path / "qnode", [server], key=KEY)
        assert server.address.startswith("unix:")
        with node.running():
            snapshot = node.until(lambda status: status.pool.units == 8)
            assert snapshot.links[0].address == server.address
