"""Which states a node holds for those who begin, and what it answers."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio.testing
from support.signed_chain import SignedChain

from qnode.core.snapshot_offer import PlanParts, wrong_with
from qnode.net.strangers import LIMITS, Kind, Stranger, Strangers
from qnode.service import snapshot_serve as module
from qnode.service.snapshot_serve import SnapshotAnswers
from qustream.errors import QuStreamError
from qustream.model.state import Progress, Table
from qustream.rules import radix_plan
from qustream.rules.radix_plan import Chunk, Plan, PlanNode, chunks_of, open_chunk
from qustream.wire.codec import decode, encode
from qustream.wire.snapshot import NEWEST, SNAPSHOT_ANSWER_MAX_BYTES, ChunkAsk, ChunkTold, SnapshotAsk, SnapshotTold

PEER: Any = SimpleNamespace(peer=b"p" * 32)
OTHER: Any = SimpleNamespace(peer=b"o" * 32)


class Place:
    """A chain that is executed block by block, and its answers."""

    def __init__(self, directory: Path, **given: int) -> None:
        self.signed = SignedChain(directory, people=120, **given)
        self.store = self.signed.store
        self.listeners: list[Any] = []
        self.answers = SnapshotAnswers(self, directory, Strangers())  # type: ignore[arg-type]

    @property
    def executed(self) -> Progress:
        return self.store.executed

    async def grow(self, blocks: int) -> None:
        """One after the other; what is named is written before the next."""
        for _ in range(blocks):
            self.signed.grow(1)
            for listen in self.listeners:
                listen(self.executed, None)
            if (named := self.answers._named) is not None:
                self.answers._named = None
                await self.answers._write(named)

    async def ask(self, message: SnapshotAsk | ChunkAsk, *, peer: Any = PEER) -> Any:
        said = await self.answers.answer(peer, encode(message), 20_000)
        assert len(said) <= SNAPSHOT_ANSWER_MAX_BYTES
        return decode(said, SnapshotTold | ChunkTold, max_bytes=SNAPSHOT_ANSWER_MAX_BYTES)

    async def code(self, message: SnapshotAsk | ChunkAsk, *, peer: Any = PEER) -> str:
        with pytest.raises(QuStreamError) as caught:
            await self.answers.answer(peer, encode(message), 20_000)
        return caught.value.code


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(radix_plan, "CHUNK_BYTES", 4096)
    made = Place(tmp_path / "chain")
    yield made
    made.answers.close()
    made.store.close()


async def test_the_state_each_rotation_begins_with_is_held_and_two_at_most(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_MS", 5_000)
    assert await place.code(SnapshotAsk(NEWEST, 0)) == "E-NOT-HELD"
    await place.grow(4)
    assert place.answers.heights == (1,)  # the first that is named after a start
    boundaries = []
    for _ in range(40):
        await place.grow(1)
        if place.executed.over:
            boundaries.append(place.executed.height)
        elif boundaries and place.executed.height == boundaries[-1] + 3:  # named by the third block behind
            assert place.answers.heights[-1] == boundaries[-1]
            assert len(place.answers.heights) <= 2
        elif boundaries and place.executed.height >= boundaries[-1] + 9:  # a while later the one before has gone
            assert place.answers.heights == (boundaries[-1],)
    assert len(boundaries) >= 3


async def test_what_is_told_is_a_state_that_holds_together(place: Place) -> None:
    await place.grow(16)
    first = await place.ask(SnapshotAsk(NEWEST, 0))
    assert first.offer is not None
    assert wrong_with(first.offer, first.root, place.signed.world.genesis.chain) == ""
    parts = PlanParts(first.root, first.count)
    assert parts.take(first.nodes)
    assert parts.is_whole
    entries = {}
    for prefix in [each.prefix for each in chunks_of(first.root, Plan(first.nodes))]:
        told = await place.ask(ChunkAsk(first.root, prefix))
        found = {each.prefix: each for each in chunks_of(first.root, Plan(first.nodes))}[prefix]
        open_chunk(found, Chunk(told.entries))
        entries |= {entry.key: entry.value for entry in told.entries}
    progress = decode(entries[bytes([Table.PROGRESS])], Progress, max_bytes=512)
    assert progress.height == first.offer.block.height == place.answers.heights[-1]
    assert place.store.root(progress.height) == first.root
    # The rest of a plan comes without the offer.
    rest = await place.ask(SnapshotAsk(first.root, first.count))
    assert (rest.offer, rest.nodes) == (None, ())


async def test_a_plan_comes_in_parts_that_fit(place: Place) -> None:
    await place.grow(16)
    first = await place.ask(SnapshotAsk(NEWEST, 0))
    nodes = tuple(PlanNode(bytes((number >> 8, number & 255)), bytes(516)) for number in range(2_000))
    place.answers._held[-1].state.plan = Plan(nodes)
    found: list[PlanNode] = []
    while len(found) < len(nodes):
        told = await place.ask(SnapshotAsk(first.root, len(found)))
        assert (told.offer is None, told.count) == (bool(found), 2_000)
        assert len(told.nodes) > 700 or len(found) + len(told.nodes) == 2_000
        found += told.nodes
    assert tuple(found) == nodes


async def test_what_is_not_there_is_refused(place: Place) -> None:
    await place.grow(16)
    told = await place.ask(SnapshotAsk(NEWEST, 0))
    assert await place.code(SnapshotAsk(b"r" * 32, 0)) == "E-NOT-HELD"
    assert await place.code(ChunkAsk(b"r" * 32, b"")) == "E-NOT-HELD"
    assert await place.code(SnapshotAsk(told.root, told.count + 1)) == "E-REQUEST-INVALID"
    for prefix in (b"", bytes(40)):  # no chunks of the plan
        assert await place.code(ChunkAsk(told.root, prefix)) == "E-NOT-HELD"
    with pytest.raises(QuStreamError, match="E-WIRE"):
        await place.answers.answer(PEER, b"\x93\x6b\xc0\x00", 20_000)


async def test_each_peer_has_its_own_quota(place: Place) -> None:
    await place.grow(16)
    root = (await place.ask(SnapshotAsk(NEWEST, 0))).root
    for _ in range(module.CHUNKS_MAX):
        place.answers._chunks.spend(PEER.peer)
    assert await place.code(ChunkAsk(root, b"\0")) == "E-PEER-LIMIT"
    await place.ask(ChunkAsk(root, b"\0"), peer=OTHER)
    await place.ask(SnapshotAsk(root, 0))


async def test_a_held_state_outlives_a_database_that_grows_and_is_no_reading(place: Place) -> None:
    await place.grow(16)
    told = await place.ask(SnapshotAsk(NEWEST, 0))
    environment = place.store._environment
    environment.grow(environment.info()["map_bytes"] + (1 << 26))
    assert (await place.ask(ChunkAsk(told.root, b"\0"))).entries
    readings = set(environment._readings)
    await place.grow(3)
    place.answers.close()
    assert len(environment._readings) <= len(readings)


async def test_a_disk_without_room_and_a_damaged_file_are_nobody_elses_fault(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESERVE_BYTES", 1 << 60)
    await place.grow(6)
    assert place.answers.heights == ()
    monkeypatch.undo()
    monkeypatch.setattr(radix_plan, "CHUNK_BYTES", 4096)
    await place.grow(12)
    told = await place.ask(SnapshotAsk(NEWEST, 0))
    state = place.answers._held[-1].state
    assert not list(place.store.path.glob("tmp*"))  # it has no name
    os.ftruncate(state._file, 10)
    assert await place.code(ChunkAsk(told.root, b"\0")) == "E-DATA-CORRUPT"


async def test_one_that_waits_in_vain_to_be_named_holds_no_more_than_it_may(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANDIDATES_MAX", 1)
    place.answers._is_waiting = True
    await place.grow(3)
    assert place.answers.heights == ()
    assert not place.answers._candidates


async def test_a_stranger_gets_the_same_within_what_strangers_have(place: Place, mock_clock: trio.testing.MockClock) -> None:
    await place.grow(16)
    root = (await place.ask(SnapshotAsk(NEWEST, 0))).root
    who, other = Stranger(b"s" * 32, "10.1.0.0/16"), Stranger(b"o" * 32, "10.2.0.0/16")
    strangers = place.answers._strangers
    for ask, kind in ((SnapshotAsk(root, 0), Kind.PLANS), (ChunkAsk(root, b"\0"), Kind.CHUNKS)):
        said = await place.answers.answer_stranger(who, encode(ask), 20_000)
        assert said == await place.answers.answer(PEER, encode(ask), 20_000)
        while strangers.answered[kind] < LIMITS[kind].key.most:
            await place.answers.answer_stranger(who, encode(ask), 20_000)
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
            await place.answers.answer_stranger(who, encode(ask), 20_000)
        assert await place.answers.answer_stranger(other, encode(ask), 20_000) == said
        assert await place.answers.answer(PEER, encode(ask), 20_000) == said, "links have quotas of their own"
    with pytest.raises(QuStreamError, match="E-NOT-HELD"):
        await place.answers.answer_stranger(other, encode(ChunkAsk(b"r" * 32, b"")), 20_000)
