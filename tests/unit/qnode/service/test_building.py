"""What a leader proposes, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing
from support.ledger_world import hash_chain, signed
from support.mempool_world import WorldLedger
from support.peers_town import until
from support.running_chain import RunningChain, running_chain

from qnode.core.consensus_blocks import Blocks
from qnode.core.consensus_events import Base, BlockBuilt, Build, Final, Judge, RotationBegan
from qnode.core.ledger import rotations
from qnode.service.building import Building
from qnode.service.judging import Judging
from qnode.service.mempool import Mempool
from qnode.service.mempool_pull import Obtained
from qnode.service.verify import Verifier
from qustream.wire.consensus import header_digest
from qustream.wire.transactions import Transfer

NO_BASE = Base(b"B" * 32, 0, 0, 0)


class Bench:
    """A leader over a running chain of some blocks, with a mempool. Its clock is `now_ms`."""

    def __init__(self, made: RunningChain, last: Final, mempool: Mempool) -> None:
        self.made, self.last, self.mempool, self.now_ms = made, last, mempool, last.header.time_ms + 10
        entry = made.chain.rotation(1)
        assert entry is not None
        self.me = 2
        self.begun = RotationBegan(
            made.world.genesis.chain, 1, tuple(seat.weight for seat in entry.seats), rotations.order(entry), NO_BASE, 1 << 60, self.me
        )  # fmt: skip
        self.blocks = Blocks(NO_BASE, 1 << 60, last)
        licence = entry.seats[self.me].licence
        self.building = Building(
            made.chain, mempool, [hash_chain(99), hash_chain(made.world.licences.index(licence))], self.begun, licence,
            blocks=lambda: self.blocks, now_ms=lambda: self.now_ms, clock_ms=lambda: self.now_ms,
        )  # fmt: skip

    def order(self, *, from_ms: int = 0, until_ms: int = 0, must_be_empty: bool = False) -> Build:
        header = self.last.header
        return Build(header.view + 1, self.last.digest, header.view, header.height + 1, from_ms, until_ms, must_be_empty)

    async def valid(self, built: BlockBuilt) -> bool:
        """Whether another validator would vote for it."""

        async def pull(ids: object, _proposer: int) -> Obtained:
            await trio.lowlevel.checkpoint()
            return Obtained({name: found for name in built.ids if (found := self.mempool.get(name)) is not None})

        judging = Judging(self.made.chain, self.mempool, lambda: self.blocks, pull, lambda: self.now_ms)
        with trio.fail_after(60):
            return await judging.judge(Judge(header_digest(built.header), built.header, built.ids))

    def transfer(self, person: int) -> bytes:
        world = self.made.world
        return signed(world.people[person], world.body(world.people[person], Transfer(world.account(0), 7)))


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    async with running_chain(folder) as made, trio.open_nursery() as nursery:
        verifier = Verifier(made.world.genesis.chain, workers=1)
        await nursery.start(verifier.run)
        last = (await made.blocks(4))[-1]
        yield Bench(made, last, Mempool(WorldLedger(made.world), verifier, height=4))
        nursery.cancel_scope.cancel()


async def test_an_empty_block_when_the_pause_is_over(tmp_path: Path) -> None:
    async with bench(tmp_path) as leader:
        built = await leader.building.build(leader.order())
        assert built is not None
        header = built.header
        assert (header.height, header.parent, header.view, header.proposer, built.ids) == (5, leader.last.digest, 5, leader.me, ())
        assert header.executed == 2  # two behind the parent, though more is executed here
        assert await leader.valid(built)


async def test_a_block_as_soon_as_something_waits_and_not_before_its_time(tmp_path: Path) -> None:
    async with bench(tmp_path) as leader:
        found: list[BlockBuilt | None] = []
        order = leader.order(from_ms=leader.now_ms, until_ms=leader.now_ms + 1_000_000)

        async def build() -> None:
            found.append(await leader.building.build(order))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(build)
            await trio.testing.wait_all_tasks_blocked()
            assert found == []
            names = {await leader.mempool.submit(leader.transfer(person)) for person in (0, 1, 2)}
            await until(lambda: found)
        built = found[0]
        assert built is not None
        assert set(built.ids) <= names
        assert built.ids
        assert await leader.valid(built)
        stored = leader.made.stored.store
        assert all(stored.transaction(name) is not None for name in built.ids)  # before anybody hears of the block


async def test_what_waits_comes_whole(tmp_path: Path) -> None:
    async with bench(tmp_path) as leader:
        names = [await leader.mempool.submit(leader.transfer(person)) for person in (0, 1, 2, 0)]
        built = await leader.building.build(leader.order(until_ms=leader.now_ms + 1_000_000))
        assert built is not None
        assert set(built.ids) == set(names)
        assert await leader.valid(built)


async def test_a_descendant_of_the_boundary_block_is_empty(tmp_path: Path) -> None:
    async with bench(tmp_path) as leader:
        await leader.mempool.submit(leader.transfer(0))
        built = await leader.building.build(leader.order(must_be_empty=True))
        assert built is not None
        assert built.ids == ()


async def test_time_rises_though_the_clock_stands_before_the_parents(tmp_path: Path) -> None:
    async with bench(tmp_path) as leader:
        leader.now_ms = leader.last.header.time_ms - 5_000
        built = await leader.building.build(leader.order())
        assert built is not None
        assert built.header.time_ms == leader.last.header.time_ms + 1


async def test_there_is_none_without_a_reveal_or_on_what_was_overtaken(tmp_path: Path) -> None:
    async with bench(tmp_path) as leader:
        order = leader.order()
        leader.blocks = Blocks(NO_BASE, 1 << 60)
        assert await leader.building.build(order) is None
        leader.blocks = Blocks(NO_BASE, 1 << 60, leader.last)
        leader.building._chains = [hash_chain(99)]
        assert await leader.building.build(order) is None
