"""Whom a node asks that nobody is linked to: real nodes on loopback, and those that are not there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from support.peers_town import CHAIN, Town, TownNode, town, until

from qnode.net.dialer import Dialer
from qnode.service import outside as module
from qnode.service.outside import PLACES, Outside
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.network import NodeClass, NodeRecord
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import UNKNOWN_PEER_CHANNELS
from qustream.wire.codec import encode
from qustream.wire.hello import Role
from qustream.wire.peers import DialBackAsk

STRANGER = SigningKey(b"stranger" * 4)
ASK_MS = 10_000


class NoRegistry:
    """A chain that knows these nodes, if any."""

    def __init__(self, *nodes: NodeRecord) -> None:
        self.nodes_height, self.listed = 1, nodes

    def nodes(self, node_class: NodeClass) -> Sequence[NodeRecord]:
        return [node for node in self.listed if node.node_class is node_class]


class Place:
    """`outside` of a town's stranger. `is_wanted`, `is_within`: as a test sets them; `tried`: addresses and what of them may be local."""

    def __init__(self, t: Town, named: Sequence[TownNode], genesis: Sequence[TownNode], registry: NoRegistry) -> None:
        self.is_wanted, self.is_within = True, False
        self.tried: list[tuple[bytes, Collection[str] | None]] = []
        dialer = Dialer(STRANGER, lambda: LocalHello(CHAIN, (Role.NODE,)), UNKNOWN_PEER_CHANNELS)
        reach = dialer.reach

        async def noted(peer: bytes, addresses: Sequence[str], *, local: Collection[str] | None = None) -> Any:
            self.tried.append((peer, local))
            return await reach(peer, addresses, local=local)

        dialer.reach = noted  # type: ignore[method-assign]
        self.outside = Outside(
            dialer, own=STRANGER.id, named={each.id: (each.listen,) for each in named},
            genesis={each.id: (each.listen,) for each in genesis}, registry=registry,  # type: ignore[arg-type]
            is_wanted=lambda: self.is_wanted, is_within=lambda: self.is_within,
        )  # fmt: skip

    @property
    def nodes(self) -> set[bytes]:
        return set(self.outside.nodes)


@asynccontextmanager
async def placed(
    t: Town, *, named: Sequence[TownNode] = (), genesis: Sequence[TownNode] = (), registry: NoRegistry | None = None
) -> AsyncIterator[Place]:
    place = Place(t, named, genesis, registry or NoRegistry())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.outside.run)
        yield place
        nursery.cancel_scope.cancel()


def record_of(node: TownNode, *, active: bool = True, addresses: tuple[str, ...] = ()) -> NodeRecord:
    return NodeRecord(node.key.public, NodeClass.COMMUNITY, node.operator, node.id[:16], addresses or (node.listen,), 1, active)


async def test_it_asks_named_nodes_and_others_and_ends_when_it_is_not_wanted_any_more(tmp_path: Path) -> None:
    async with town(tmp_path, 6) as t:
        await t.start()
        named = t.nodes[:3]
        async with placed(t, named=named, genesis=t.nodes[3:]) as place:
            await until(lambda: len(place.nodes) == PLACES)
            assert len(place.nodes & {each.id for each in named}) == module.NAMED_PLACES, "two are the operator's"
            node = next(iter(place.nodes))
            assert await place.outside.call(node, b"a key", ASK_MS, max_answer_bytes=99) == b"answer to a key"
            assert place.outside.candidates == 6
            place.is_wanted = False
            await until(lambda: not place.outside.is_open)
            with pytest.raises(QuStreamError, match="E-PEER-UNREACHABLE"):
                await place.outside.call(node, b"a key", ASK_MS, max_answer_bytes=99)
            place.is_wanted = True
            await until(lambda: len(place.nodes) == PLACES)


async def test_the_chains_own_nodes_are_asked_when_those_of_its_beginning_have_gone(tmp_path: Path) -> None:
    async with town(tmp_path, 4) as t:
        here, gone, struck_off, _ = t.nodes
        await t.start(here, struck_off)
        registry = NoRegistry()
        async with placed(t, genesis=[gone], registry=registry) as place:
            await until(lambda: place.outside.failed)
            assert not place.nodes
            registry.listed = (record_of(here), record_of(struck_off, active=False))
            place.is_within = True
            registry.nodes_height += 1
            await until(lambda: place.nodes == {here.id})
            assert place.outside.candidates == 2


async def test_who_is_not_there_is_let_alone_longer_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first rest was bound when the class was made.
    monkeypatch.setattr(module._Rest.__init__, "__defaults__", (0.0, 0.01))
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    async with town(tmp_path, 1) as t, placed(t, named=t.nodes) as place:
        await until(lambda: place.outside.failed >= 3)
        failed = place.outside.failed
        assert place.outside._rests[t.nodes[0].id].span_s == 0.01 * 2**failed
        assert failed <= len(place.tried) <= failed + place.outside.is_open, "one may be under way already"


async def test_who_lied_or_answers_no_strangers_is_asked_no_more_for_a_while(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        liar, closed = t.nodes
        await t.start()
        async with placed(t, named=t.nodes) as place:
            await until(lambda: len(place.nodes) == 2)
            place.outside.drop(liar.id)
            with pytest.raises(QuStreamError, match="E-PEER-UNLICENSED"):
                await place.outside.call(closed.id, encode(DialBackAsk()), ASK_MS, max_answer_bytes=99)
            await until(lambda: not place.outside.is_open)
            now_s = trio.current_time()
            assert all(rest.until_s - now_s > 500 for rest in place.outside._rests.values())
            await trio.sleep(3 * module.LOOK_S)
            assert len(place.tried) == 2


async def test_the_oldest_gives_way_to_another_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_S", 0.0)
    async with town(tmp_path, PLACES + 2) as t:
        await t.start()
        async with placed(t, genesis=t.nodes) as place:
            seen: set[bytes] = set()

            def all_seen() -> bool:
                seen.update(place.nodes)
                return len(seen) == len(t.nodes)

            await until(all_seen)
            assert all(not place.outside._rest_of(node) or node in seen for node in place.nodes)


async def test_only_what_is_vouched_for_leads_into_a_local_network(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        vouched, claimed = t.nodes
        t.cut([vouched], [claimed])  # a town's node knocks by itself
        await t.start()
        async with placed(t, genesis=[], registry=NoRegistry(record_of(claimed))) as place:
            await until(lambda: place.outside.failed)
            assert place.tried[0] == (claimed.id, set())
            assert not place.nodes
            assert not claimed.stats.accepted, "nothing has knocked there"
        async with placed(t, genesis=[vouched], registry=NoRegistry(record_of(claimed))) as place:
            await until(lambda: vouched.id in place.nodes)
            assert place.tried.count((vouched.id, {vouched.listen})) == 1
            assert place.outside.local(claimed.id) is None, "this node is in a local network itself"
            await until(lambda: claimed.id in place.nodes)


async def test_a_node_that_asks_is_asked_nothing(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as t:
        await t.start()
        [node] = t.nodes
        asked: list[str] = []
        serve = node.service.talk

        async def ask_back(connection: Any) -> None:
            try:
                await connection.call(b"who are you", deadline_ms=ASK_MS)
            except QuStreamError as error:
                asked.append(error.code)
            await serve(connection)

        node.service.talk = ask_back  # type: ignore[method-assign]
        node.service.known._nodes[STRANGER.id] = record_of(node)
        async with placed(t, named=t.nodes):
            await until(lambda: asked)
        assert asked == ["E-PEER-UNLICENSED"]


async def test_what_the_dialer_did_not_expect_ends_no_task(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as t, placed(t, named=t.nodes) as place:

        async def broken(*_: Any, **__: Any) -> Any:
            raise fault("E-TLS-HANDSHAKE", "another key")

        place.outside._dialer.reach = broken  # type: ignore[method-assign]
        await until(lambda: place.outside.failed)
