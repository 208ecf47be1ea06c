"""Which blocks a validator votes for: rules V3 to V7, each broken alone, and what it waits for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec.structs import replace
from support.mempool_world import WorldLedger
from support.peers_town import until
from support.running_chain import RunningChain, running_chain
from support.stored_chain import raw_of

from qnode.core.consensus_blocks import Blocks
from qnode.core.consensus_events import Base, Final, Judge
from qnode.core.ledger.block import Checked
from qnode.service.ancestry import lineage, next_set_for
from qnode.service.judging import CLOCK_AHEAD_MS, Judging, unexecuted_bodies
from qnode.service.mempool import Mempool
from qnode.service.mempool_pull import Obtained
from qnode.service.verify import Verifier
from qustream.wire.consensus import NO_DIGEST, ChainHeader, header_digest

NO_BASE = Base(b"B" * 32, 0, 0, 0)


class Bench:
    """A judge over a running chain. `here`: what a pull finds; `bad`: what it finds and does not hold; `now_ms`: its clock."""

    def __init__(self, made: RunningChain) -> None:
        self.made, self.now_ms = made, 1 << 50
        self.blocks = Blocks(NO_BASE, 1 << 60)
        self.here: dict[bytes, Checked] = {}
        self.bad: dict[bytes, str] = {}
        self.pulled: list[tuple[Sequence[bytes], int]] = []
        self.mempool = Mempool(WorldLedger(made.world), Verifier(made.world.genesis.chain))
        self.judging = Judging(made.chain, self.mempool, lambda: self.blocks, self.pull, lambda: self.now_ms)

    async def pull(self, ids: Sequence[bytes], proposer: int) -> Obtained:
        self.pulled.append((ids, proposer))
        await trio.lowlevel.checkpoint()
        found = {name: (raw_of(self.here[name]), self.here[name]) for name in ids if name in self.here}
        bad = {name: code for name, code in self.bad.items() if name in ids}
        return Obtained(found, bad, tuple(name for name in ids if name not in found and name not in bad))

    def stands_on(self, last: Final) -> None:
        self.blocks = Blocks(NO_BASE, 1 << 60, last)

    def proposed(self, *transactions: Checked, change: Callable[[ChainHeader], ChainHeader] = lambda header: header) -> Judge:
        """The next block, changed somehow."""
        block = self.made.made(*transactions, kept=False)
        header = change(block.header)
        return Judge(header_digest(header), header, block.ids)

    async def judged(self, question: Judge) -> bool:
        with trio.fail_after(60):
            return await self.judging.judge(question)


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    """On a chain of four blocks."""
    async with running_chain(folder) as made:
        last = (await made.blocks(4))[-1]
        found = Bench(made)
        found.stands_on(last)
        yield found


async def test_an_honest_block_is_valid_with_transactions_and_without(tmp_path: Path) -> None:
    async with bench(tmp_path) as judge:
        assert await judge.judged(judge.proposed())
        transfer = judge.made.stored.transfer(0, 1, 5)
        judge.here[transfer.id] = transfer
        question = judge.proposed(transfer)
        assert await judge.judged(question)
        assert judge.pulled == [((transfer.id,), question.header.proposer)]
        assert judge.made.stored.store.transaction(transfer.id) == raw_of(transfer)  # before anybody votes for it


BREACHES: dict[str, Callable[[ChainHeader], ChainHeader]] = {
    "V3": lambda header: replace(header, executed_root=bytes(32)),
    "V4": lambda header: replace(header, payload=b"p" * 32),
    "V4 count": lambda header: replace(header, count=1),
    "V6": lambda header: replace(header, reveal=b"r" * 32),
    "V6 again": lambda header: replace(header, proposer=(header.proposer + 1) % 4),
    "V7": lambda header: replace(header, next_set=NO_DIGEST),
}


@pytest.mark.parametrize("rule", BREACHES)
async def test_a_block_that_breaks_a_rule_is_not(tmp_path: Path, rule: str) -> None:
    async with bench(tmp_path) as judge:
        assert not await judge.judged(judge.proposed(change=BREACHES[rule]))


async def test_transactions_have_to_be_admissible_well_formed_and_small(tmp_path: Path) -> None:
    async with bench(tmp_path) as judge:
        first, second = judge.made.stored.transfer(0, 1, 5), judge.made.stored.transfer(0, 1, 6)
        judge.here |= {each.id: each for each in (first, second)}
        assert not await judge.judged(judge.proposed(second, first))  # V5: nonces
        assert await judge.judged(judge.proposed(first, second))
        judge.bad[second.id] = "E-LEDGER-SIGNATURE"
        del judge.here[second.id]
        assert not await judge.judged(judge.proposed(first, second))
        judge.here[second.id] = second
        judge.bad.clear()
        question = judge.proposed(first, second)
        assert not await judge.judged(Judge(question.digest, question.header, (first.id, first.id)))
        judge.made.chain.parameters = replace(judge.made.chain.parameters, body_bytes_max=first.size + second.size - 1)
        assert not await judge.judged(question)


async def test_ancestors_that_are_not_executed_count(tmp_path: Path) -> None:
    async with bench(tmp_path) as judge:
        spent = judge.made.stored.transfer(0, 1, 5)
        final = await judge.made.block(spent)
        judge.stands_on(final)
        again = judge.made.world.checked(judge.made.world.people[0], spent.body.action, nonce=0)
        after = judge.made.world.checked(judge.made.world.people[0], spent.body.action, nonce=1)
        judge.here |= {each.id: each for each in (again, after)}
        # `executed` is two behind: in that state the account has sent nothing.
        assert not await judge.judged(judge.proposed(again))
        assert await judge.judged(judge.proposed(after))


async def later(judge: Bench, question: Judge, comes: Callable[[], object]) -> bool:
    """It is not answered before `comes` has been called."""
    answers: list[bool] = []

    async def ask() -> None:
        answers.append(await judge.judging.judge(question))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []
        comes()
        await until(lambda: answers)
    return answers[0]


async def test_it_waits_until_a_blocks_time_has_come(tmp_path: Path) -> None:
    async with bench(tmp_path) as judge:
        question = judge.proposed()
        judge.now_ms = question.header.time_ms - CLOCK_AHEAD_MS - 1

        def tick() -> None:
            judge.now_ms += 1

        assert await later(judge, question, tick)


async def test_it_waits_for_transactions(tmp_path: Path) -> None:
    async with bench(tmp_path) as judge:
        transfer = judge.made.stored.transfer(0, 1, 5)
        assert await later(judge, judge.proposed(transfer), lambda: judge.here.update({transfer.id: transfer}))


async def test_it_waits_for_its_own_execution(tmp_path: Path) -> None:
    async with bench(tmp_path) as judge:
        ahead = judge.made.chain.executed.height + 1
        question = judge.proposed(change=lambda header: replace(header, executed=ahead, executed_root=bytes(32)))
        async with trio.open_nursery() as nursery:
            answers: list[bool] = []

            async def ask() -> None:
                answers.append(await judge.judging.judge(question))

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            assert answers == []
            await judge.made.block()
            await until(lambda: answers)
        assert answers == [False]  # it is executed now, and another root


async def test_what_was_overtaken_has_no_lineage(tmp_path: Path) -> None:
    async with bench(tmp_path) as judge:
        chain, last = judge.made.chain, judge.made.chain.head
        assert lineage(chain, judge.blocks, b"n" * 32, 2) is None
        found = lineage(chain, judge.blocks, last.digest, 2)
        assert found is not None
        assert [header.height for header, _ in found] == [3, 4]
        assert lineage(chain, judge.blocks, last.digest, 4) == []
        missing = [(replace(found[0][0], count=1), (b"m" * 32,))]
        assert unexecuted_bodies(chain, judge.mempool, missing) is None


async def test_the_next_set_is_named_from_where_it_is_made(tmp_path: Path) -> None:
    async with bench(tmp_path) as judge:
        assert next_set_for(judge.made.chain, 1, 0) != NO_DIGEST  # genesis makes both
        assert next_set_for(judge.made.chain, 2, 0) == NO_DIGEST  # that one has not begun
