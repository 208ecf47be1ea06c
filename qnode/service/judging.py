"""Whether a block is valid, as far as that takes more than its header: V3 to V7 of `proto/spec/consensus.md`, §4.

A question is answered when it can be: when this node has executed as far as the header says, has every transaction, and the block's time
has come. Nobody waits for the answer, and a question of a view that is over is dropped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from qnode.core.consensus_blocks import Blocks
from qnode.core.consensus_events import Judge
from qnode.core.ledger.admission import Admission
from qnode.core.ledger.block import Checked
from qnode.core.ledger.state import State
from qnode.service.ancestry import Lineage, anchor_for, lineage, next_set_for
from qnode.service.chain import Chain, checked_of
from qnode.service.mempool import Mempool
from qnode.service.mempool_pull import Obtained
from qustream.aio.logs import logger
from qustream.errors import QuStreamError
from qustream.rules.merkle import root as merkle_root
from qustream.rules.rotation import anchor_of
from qustream.wire.consensus import ChainHeader

__all__ = ["CLOCK_AHEAD_MS", "Judging", "seen", "unexecuted_bodies"]

# Clocks of servers differ by less; a leader whose clock is further ahead makes all others wait, and loses his view.
CLOCK_AHEAD_MS = 500
# Between two looks at what nobody tells us of: a block's way to the disk, a peer that has what another had not.
LOOK_S = 0.05
# Between two rounds of asking peers, doubled up to here: a view that waits for a body is over a few seconds later.
PULL_MAX_S = 1.0

T = TypeVar("T")
# Brings transactions here from the validators, first from this one.
Pull = Callable[[Sequence[bytes], int], Awaitable[Obtained]]


class Judging:
    """Of one rotation. `blocks`: the core's; `clock_ms`: Unix time."""

    def __init__(self, chain: Chain, mempool: Mempool, blocks: Callable[[], Blocks], pull: Pull, clock_ms: Callable[[], int]) -> None:
        self._chain, self._mempool, self._blocks, self._pull, self._clock_ms = chain, mempool, blocks, pull, clock_ms
        self._log = logger("consensus")

    async def judge(self, question: Judge) -> bool:
        """Whether the block is valid; its transactions are on their way to the disk then."""
        header = question.header
        why = _misfit(header, question.ids) or await self._look(header, question.ids)
        if why:
            self._log.debug("a block is not valid", height=header.height, view=header.view, proposer=header.proposer, reason=why)
        return not why

    async def _look(self, header: ChainHeader, ids: tuple[bytes, ...]) -> str:
        """Why it is not valid, empty if it is."""
        chain = self._chain
        await self._until_its_time(header.time_ms)
        await chain.wait_above(header.executed - 1)
        if await self._root(header.executed) != header.executed_root:
            return "V3: another root"
        if next_set_for(chain, header.rotation, header.executed) != header.next_set:
            return "V7: another set"
        between = await self._lineage(header)
        entry = chain.rotation(header.rotation)
        assert entry is not None, "the rotation that runs is in the state"
        anchor = anchor_for(chain, between, header.executed, entry.seats[header.proposer].licence)
        if anchor is None or anchor_of(header.reveal) != anchor:
            return "V6: no reveal"
        return await self._transactions(header, ids, between) if ids else ""

    async def _until_its_time(self, time_ms: int) -> None:
        await seen(lambda: time_ms - CLOCK_AHEAD_MS <= self._clock_ms() or None)

    async def _root(self, height: int) -> bytes:
        """Of a state that was executed. So old a one that it is forgotten is never told, and the question stays open."""
        return await seen(lambda: self._chain.store.root(height), every_s=1.0)

    async def _lineage(self, header: ChainHeader) -> Lineage:
        # What is final since a moment ago may not be on the disk yet.
        return await seen(lambda: lineage(self._chain, self._blocks(), header.parent, header.executed))

    async def _transactions(self, header: ChainHeader, ids: tuple[bytes, ...], between: Lineage) -> str:
        """V4, V5."""
        chain = self._chain
        pause_s = LOOK_S
        while (found := await self._pull(ids, header.proposer)).missing and not found.bad:
            await trio.sleep(pause_s)  # who has not what it proposed makes nobody ask others without end
            pause_s = min(PULL_MAX_S, 2 * pause_s)
        if found.bad:
            return f"V4: {next(iter(found.bad.values()))}"
        bodies = await self._ancestors(between, header.proposer)
        view = chain.view_at(header.executed)
        if view is None:  # from before our start: others can tell, we cannot
            await trio.sleep_forever()
        transactions = [found.found[name][1] for name in ids]
        if sum(checked.size for checked in transactions) > chain.parameters.body_bytes_max:
            return "V4: too large"
        admission = Admission(State(view), [checked.body for checked in bodies], chain.parameters)
        for checked in transactions:
            if (code := admission.add(checked, header.height)) is not None:
                return f"V5: {code}"
        await chain.keep([found.found[name] for name in ids])
        return ""

    async def _ancestors(self, between: Lineage, proposer: int) -> list[Checked]:
        chain = self._chain
        while (bodies := unexecuted_bodies(chain, self._mempool, between)) is None:
            missing = [name for _, ids in between for name in ids if chain.ready(name) is None and self._mempool.get(name) is None]
            found = await self._pull(missing, proposer)
            try:
                await chain.keep(list(found.found.values()))
            except QuStreamError:  # the disk is full or busy: a condition says so
                await trio.sleep(LOOK_S * 20)
        return bodies


async def seen(look: Callable[[], T | None], every_s: float = LOOK_S) -> T:
    """What `look` says as soon as it says anything, for what nobody tells of."""
    while (found := look()) is None:  # noqa: ASYNC110 - see above
        await trio.sleep(every_s)
    return found


def _misfit(header: ChainHeader, ids: Sequence[bytes]) -> str:
    """V4, as far as the ids tell."""
    if header.count != len(ids) or len(set(ids)) != len(ids):
        return "V4: not these transactions"
    return "" if merkle_root(list(ids)) == header.payload else "V4: another payload"


def unexecuted_bodies(chain: Chain, mempool: Mempool, between: Lineage) -> list[Checked] | None:
    """The transactions of blocks that are not executed, in order; None if one is not here."""
    bodies = []
    for _, ids in between:
        for name in ids:
            here = mempool.get(name)
            checked = chain.ready(name) or (here[1] if here is not None else None)
            if checked is not None:
                bodies.append(checked)
            elif (raw := chain.store.transaction(name)) is not None:
                bodies.append(checked_of(raw))
            else:
                return None
    return bodies
