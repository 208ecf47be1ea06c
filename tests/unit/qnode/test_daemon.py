"""The daemon inside one process: what a defect of our own does, what stopping does to requests in flight."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.keys_world import CHAIN, World, named_key
from support.node import QNode

from qnode import daemon as module
from qnode.config import Config, load_config
from qnode.daemon import Daemon, open_registry, open_store
from qustream.aio.connection import Connection, connect
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass, NodeRecord
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import Channel
from qustream.wire.codec import encode
from qustream.wire.hello import Role
from qustream.wire.peers import LinkOpen, LinkReason

NOBODY = ("127.0.0.1:1", bytes(32))
HELLO = LocalHello("feed-test", (Role.DEVICE,))
# Random bytes may begin as a message of nodes does, which strangers are refused before anybody reads it.
NO_MESSAGE = b"\xc1" * 50


@asynccontextmanager
async def serving(folder: Path, neighbours: Sequence[SigningKey] = (), **settings: object) -> AsyncIterator[Daemon]:
    """A daemon whose tasks run; leaving stops it at once. `neighbours`: other active nodes, which are not there."""
    home = QNode(folder / "node", others=[NOBODY], **settings)
    for key in neighbours:
        home.writer.add_node(NodeRecord(key.public, NodeClass.COMMUNITY, "somebody", key.id[:16], (), 1, True))
    home.writer.write()
    config = load_config(home.config)
    with open_store(config, home.key) as store:
        daemon = Daemon(config, home.key, open_registry(config), store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.serve)
            with trio.fail_after(60):
                while not daemon.snapshot().peers.accepted and not daemon._picture.addresses:
                    await trio.sleep(0.01)
            yield daemon
            nursery.cancel_scope.cancel()


async def dial(daemon: Daemon, name: str = "somebody") -> Connection:
    return await connect(daemon.snapshot().addresses[0], key=named_key(name), hello=HELLO, expect=daemon._key.id)


async def test_a_defect_in_one_task_ends_the_whole_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw must not leave a node behind that only looks alive."""
    home = QNode(tmp_path / "node", others=[NOBODY])

    async def broken() -> None:
        raise ZeroDivisionError("a defect")

    config = load_config(home.config)
    with open_store(config, home.key) as store:
        daemon = Daemon(config, home.key, open_registry(config), store)
        monkeypatch.setattr(daemon._keys, "sweep", broken)
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True), trio.fail_after(60):
            await daemon.serve()


async def test_answers_in_flight_go_out_and_nothing_new_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_finish = trio.Event(), trio.Event()

    async def slow(_peer: object, body: bytes, _deadline_ms: int) -> bytes:
        begun.set()
        await may_finish.wait()
        return body.upper()

    async with serving(tmp_path) as daemon:
        monkeypatch.setattr(daemon._keys, "answer", slow)
        answers: list[bytes] = []
        async with await dial(daemon) as first, await dial(daemon) as second:

            async def ask() -> None:
                answers.append(await first.call(b"early", deadline_ms=60_000))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await begun.wait()
                nursery.start_soon(daemon._drain)
                await trio.testing.wait_all_tasks_blocked()
                assert [c.code for c in daemon.snapshot().conditions if c.stops][-1] == "E-PEER-CLOSED"
                with pytest.raises(QuStreamError) as refused:
                    await second.call(b"late", deadline_ms=60_000)
                assert refused.value.code == "E-PEER-CLOSED"
                assert answers == []
                may_finish.set()
        assert answers == [b"EARLY"]


async def test_a_request_that_never_ends_does_not_keep_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_S", 0.1)
    begun = trio.Event()

    async def stuck(_peer: object, _body: bytes, _deadline_ms: int) -> bytes:
        begun.set()
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    async with serving(tmp_path) as daemon:
        monkeypatch.setattr(daemon._keys, "answer", stuck)
        async with await dial(daemon) as connection, trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(QuStreamError):
                    await connection.call(b"x", deadline_ms=60_000)

            nursery.start_soon(ask)
            await begun.wait()
            with trio.fail_after(60):
                await daemon._drain()
            nursery.cancel_scope.cancel()


async def test_refusals_are_counted_by_code_and_channels_of_nodes_are_closed(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        async with await dial(daemon) as connection:
            with pytest.raises(QuStreamError):
                await connection.call(NO_MESSAGE, deadline_ms=60_000)
            assert sum(daemon.snapshot().refused.values()) == 1
            assert await connection.send(Channel.GOSSIP, b"hello")
            assert (await connection.wait_closed()).code == "E-PEER-UNLICENSED"
        assert daemon.snapshot().durations.counts == (0,) * 13


async def test_units_of_a_server_that_is_struck_off_are_dropped(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        supply = daemon._pool.supply()
        supply.set_live(True)
        supply.reserve()
        world = World(tmp_path)
        for unit in world.shelf(2).units:
            supply.put(replace(unit, server=bytes(32), expires_ms=1 << 62))
        daemon._network_changed()  # the network file knows no server with this id
        assert (len(daemon._pool), daemon._pool.expired) == (0, 2)


def test_the_storage_key_is_the_nodes_own(tmp_path: Path) -> None:
    """A data directory is opened by the node that made it and no other."""
    home = QNode(tmp_path / "node", others=[NOBODY])
    config: Config = load_config(home.config)
    open_store(config, home.key).close()
    with pytest.raises(QuStreamError) as refused:
        open_store(config, SigningKey(bytes(32)))
    assert refused.value.code == "E-KEYSTORE-OPEN"
    assert CHAIN not in str(refused.value)


OPEN = encode(LinkOpen(LinkReason.CHOSEN, 0))


async def test_a_node_of_the_network_is_linked_and_shown_and_asks_as_devices_do(tmp_path: Path) -> None:
    async with serving(tmp_path, [named_key("neighbour")]) as daemon:
        async with await dial(daemon, "neighbour") as connection:
            with pytest.raises(QuStreamError) as refused:
                await connection.call(NO_MESSAGE, deadline_ms=60_000)
            assert refused.value.code.startswith("E-WIRE-")  # the key service has looked at it
            assert daemon.snapshot().network.links == ()
            await connection.call(OPEN, deadline_ms=60_000)
            [link] = daemon.snapshot().network.links
            assert (link.node, link.direction) == (to_text(IdKind.NODE, named_key("neighbour").id), "in")
            assert len(daemon._all_connections()) == 1
        with trio.fail_after(60):
            while daemon.snapshot().network.links:
                await trio.sleep(0.01)


async def test_a_stranger_is_refused_as_a_node_and_counted_by_nobody_as_a_request(tmp_path: Path) -> None:
    async with serving(tmp_path, [named_key("neighbour")]) as daemon, await dial(daemon) as connection:
        with pytest.raises(QuStreamError) as refused:
            await connection.call(OPEN, deadline_ms=60_000)
        assert refused.value.code == "E-PEER-UNLICENSED"
        assert daemon.snapshot().refused == {}


async def test_a_node_that_wants_no_peers_has_none(tmp_path: Path) -> None:
    async with serving(tmp_path, [named_key("neighbour")], peers=False) as daemon:
        async with await dial(daemon, "neighbour") as connection:
            with pytest.raises(QuStreamError) as refused:
                await connection.call(OPEN, deadline_ms=60_000)
            assert refused.value.code == "E-PEER-UNLICENSED"
            assert await connection.send(Channel.GOSSIP, b"hello")
            assert (await connection.wait_closed()).code == "E-PEER-UNLICENSED"
        network = daemon.snapshot().network
        assert (network.enabled, network.known, network.links, network.lonely) == (False, 0, (), False)


async def test_links_are_not_made_while_stopping(tmp_path: Path) -> None:
    async with serving(tmp_path, [named_key("neighbour")]) as daemon, await dial(daemon, "neighbour") as connection:
        await daemon._drain()
        with pytest.raises(QuStreamError) as refused:
            await connection.call(OPEN, deadline_ms=60_000)
        assert refused.value.code == "E-PEER-CLOSED"


def test_what_is_known_of_peers_is_a_convenience(tmp_path: Path) -> None:
    """A node starts without it, and with an empty one in place of a damaged one."""
    config = load_config(QNode(tmp_path / "node", others=[NOBODY]).config)
    folder = config.data_dir / module.PEERS_FOLDER
    with ExitStack() as opened:
        keeper = module.open_keeper(folder, opened)
        assert keeper is not None
        keeper.keep_anchors([bytes(32)])
    (folder / "data.mdb").write_bytes(b"damaged" * 1000)
    with ExitStack() as opened:
        keeper = module.open_keeper(folder, opened)
        assert keeper is not None
        assert keeper.anchors() == ()
    shutil.rmtree(folder)
    folder.write_bytes(b"a file in the way")
    with ExitStack() as opened:
        assert module.open_keeper(folder, opened) is None
