"""Making a block when it is our turn (`proto/spec/consensus.md`, C2, §5 and §9).

With transactions as soon as there are any that can stand in it, and not before its time; without them when the view's pause is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from qnode.core.consensus_blocks import Block, Blocks
from qnode.core.consensus_events import BlockBuilt, Build, RotationBegan
from qnode.core.consensus_limits import EXECUTED_BEHIND, UNEXECUTED_MAX
from qnode.core.ledger.admission import Admission
from qnode.core.ledger.block import Checked
from qnode.core.ledger.state import State
from qnode.service.ancestry import Lineage, anchor_for, lineage, next_set_for
from qnode.service.chain import Chain
from qnode.service.judging import seen, unexecuted_bodies
from qnode.service.mempool import Mempool
from qustream.identity.reveals import HashChain
from qustream.rules.merkle import root as merkle_root
from qustream.wire.consensus import BLOCK_TRANSACTIONS_MAX, ChainHeader

__all__ = ["Building"]

# What has come is looked at so much later, with what comes right behind it: a fifth of the shortest interval a chain may have.
LOOK_S = 0.01
# And so often it is looked at whoever says nothing: the mempool tells what comes, and what is executed here.
LOOK_AT_MOST_S = 0.25


class Building:
    """Of one rotation, by the validator `begun.me`. `blocks`: the core's; `now_ms`: the core's time; `clock_ms`: Unix time."""

    def __init__(
        self, chain: Chain, mempool: Mempool, chains: Sequence[HashChain], begun: RotationBegan, licence: bytes, *,
        blocks: Callable[[], Blocks], now_ms: Callable[[], int], clock_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self._chain, self._mempool, self._chains, self._begun, self._licence = chain, mempool, chains, begun, licence
        self._blocks, self._now_ms, self._clock_ms = blocks, now_ms, clock_ms

    async def build(self, order: Build) -> BlockBuilt | None:
        """The block, its transactions on the disk; None if there can be none: nothing is left to reveal, or what it was to stand on has
        been overtaken."""
        parent = self._blocks().get(order.parent)
        if parent is None:
            return None
        await self._wait_until(order.until_ms if order.must_be_empty else order.from_ms)
        looked_at = None
        while self._now_ms() < order.until_ms:
            change = self._mempool.change()
            if (there := self._there()) != looked_at:
                looked_at = there
                if len(self._mempool) and (built := await self._made(order, parent, is_needed=False)) is not None:
                    return built
            with trio.move_on_after(min(LOOK_AT_MOST_S, max(0, order.until_ms - self._now_ms()) / 1000)):
                await change.wait()
            await trio.sleep(LOOK_S)
        return await self._made(order, parent, is_needed=True)

    def _there(self) -> tuple[int, int, int]:
        """What tells whether it is worth another look."""
        return len(self._mempool), self._mempool.core.bytes, self._chain.executed.height

    async def _wait_until(self, at_ms: int) -> None:
        await trio.sleep(max(0, at_ms - self._now_ms()) / 1000)

    async def _made(self, order: Build, parent: Block, *, is_needed: bool) -> BlockBuilt | None:
        """The block as it would be now; None if nothing stands in it, and that is not `is_needed`."""
        chain = self._chain
        await chain.wait_above(parent.executed - 1)  # its root is to be named
        executed = max(parent.executed, min(chain.executed.height, parent.height - EXECUTED_BEHIND))
        # What is final since a moment ago may not be on the disk yet.
        between = await seen(lambda: lineage(chain, self._blocks(), order.parent, executed), LOOK_S)
        root = chain.store.root(executed)
        if root is None:  # forgotten: the chain has made 256 blocks without executing one here
            return None
        transactions = [] if order.must_be_empty else self._picked(order.height, executed, between)
        if not (transactions or is_needed or self._is_waited_for(executed)):
            return None
        reveal = self._reveal(between, executed)
        if reveal is None:
            return None
        if transactions:
            await chain.keep([(self._raw(checked), checked) for checked in transactions])
        ids = tuple(checked.id for checked in transactions)
        begun = self._begun
        assert begun.me is not None, "a validator builds"
        header = ChainHeader(
            begun.chain, begun.rotation, order.view, order.height, order.parent, order.parent_view,
            max(self._clock_ms(), parent.time_ms + 1), executed, root, merkle_root(list(ids)), len(ids), reveal,
            next_set_for(chain, begun.rotation, executed), begun.me,
        )  # fmt: skip
        return BlockBuilt(header, ids)

    def _picked(self, height: int, executed: int, between: Lineage) -> list[Checked]:
        """What the mempool has for this block."""
        chain, view = self._chain, self._chain.view_at(executed)
        bodies = unexecuted_bodies(chain, self._mempool, between)
        if view is None or bodies is None or height - executed > UNEXECUTED_MAX:
            return []
        admission = Admission(State(view), [checked.body for checked in bodies], chain.parameters)
        return self._mempool.pick(admission, height, chain.parameters.body_bytes_max, BLOCK_TRANSACTIONS_MAX)

    def _is_waited_for(self, executed: int) -> bool:
        """Whether transactions wait until empty blocks have led from a state that is not held any more to one that is: after a start of
        the whole network nobody holds those from before."""
        return self._chain.view_at(executed) is None

    def _raw(self, checked: Checked) -> bytes:
        found = self._mempool.get(checked.id)
        assert found is not None, "picked from there a moment ago"
        return found[0]

    def _reveal(self, between: Lineage, executed: int) -> bytes | None:
        anchor = anchor_for(self._chain, between, executed, self._licence)
        return next((found for own in self._chains if anchor and (found := own.reveal(anchor))), None)
