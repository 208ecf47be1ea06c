"""The state for nodes that begin (`proto/spec/sync.md`, §7): which ones are held, their plans and chunks.

Of each rotation that state is held which the first of its headers names that names one at or above the rotation's base: all nodes hold the
same, and a certificate of the running rotation vouches for it. A node that has just been started holds the first that is named.

A held state is a reading of the database: what blocks change meanwhile goes into new pages, and the old ones are free again when it is let
go.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import trio

from qnode.core.ledger.block import Executed
from qnode.core.snapshot_offer import PROGRESS
from qnode.net.answers import Quota
from qnode.net.session import Session
from qnode.service.chain import Chain
from qnode.service.sync_serve import blocks_above
from qnode.store.chain import ChainStore, StateView
from qustream.errors import QuStreamError, fault
from qustream.model.state import Progress
from qustream.rules.radix_plan import Plan, PlanNode
from qustream.wire.codec import decode, encode
from qustream.wire.light import ProvenEntry
from qustream.wire.snapshot import (
    NEWEST,
    SNAPSHOT_ANSWER_MAX_BYTES,
    SNAPSHOT_ASK_MAX_BYTES,
    ChunkAsk,
    ChunkTold,
    Offer,
    SnapshotAsk,
    SnapshotTold,
)
from qustream.wire.sync import HEADERS_MAX, BlocksAsk

__all__ = ["SNAPSHOT_TAGS", "SnapshotAnswers"]

SNAPSHOT_TAGS = (range(107, 108), range(123, 124))
# A plan of a state of 40 GB has forty parts; 1,200 chunks are 300 MB, five megabytes a second.
PLANS_MAX, CHUNKS_MAX, SPAN_MS = 120, 1_200, 60_000
# Read from the disk at once, in threads: each reads and hashes a quarter of a megabyte.
WORKED_ON_MAX = 2
# States that wait to be named: a header is at most 32 blocks behind, and then some of a chain that is idle.
CANDIDATES_MAX = 64
# When there is a newer one, the last is held for so long: whoever has begun with it may be through by then. By the time of the chain.
KEEP_MS = 20 * 60_000
# Of an answer, what is neither offer nor nodes; and a node's own head.
HEAD_BYTES, NODE_BYTES = 64, 8


class _Prepared(NamedTuple):
    """What is made when it is asked for first."""

    offer: Offer
    plan: Plan


@dataclass
class _Held:
    """`view`: of the state after the block `height`; `named`: height of the header that names it; `since_ms`: when, by the chain."""

    view: StateView
    named: int
    since_ms: int
    prepared: _Prepared | None = None


class SnapshotAnswers:
    """One node's. `close` it before the store."""

    def __init__(self, chain: Chain) -> None:
        self._chain, self._store = chain, chain.store
        self._plans, self._chunks = Quota(PLANS_MAX, SPAN_MS), Quota(CHUNKS_MAX, SPAN_MS)
        self._places, self._preparing = trio.Semaphore(WORKED_ON_MAX), trio.Lock()
        self._held: list[_Held] = []  # the newest last
        self._candidates: dict[int, StateView] = {}
        self._is_waiting = True
        self._note(chain.executed)
        chain.listeners.append(self._executed)

    @property
    def heights(self) -> tuple[int, ...]:
        """Of the blocks whose states are given away."""
        return tuple(held.view.height for held in self._held)

    def close(self) -> None:
        """Let go of everything."""
        self._drop_candidates()
        for held in self._held:
            held.view.close()
        self._held.clear()

    # -- which ------------------------------------------------------------------------------------------------------------------

    def _executed(self, progress: Progress, _done: Executed) -> None:
        header = self._store.header_at(progress.height)
        assert header is not None, "it has been executed"
        view = self._candidates.pop(header.executed, None)
        if view is not None:
            self._held.append(_Held(view, progress.height, progress.time_ms))
            self._is_waiting = False
            self._drop_candidates()
        if progress.over:
            self._is_waiting = True
            self._drop_candidates()
        self._note(progress)
        is_over = len(self._held) > 2 or (len(self._held) > 1 and progress.time_ms - self._held[-1].since_ms > KEEP_MS)
        if is_over and not self._preparing.locked():  # or letting go would wait for the whole state to be looked at
            self._let_go(self._held[0])

    def _note(self, progress: Progress) -> None:
        """A state that a header may name. Block 0's is nobody's need."""
        if not self._is_waiting or not progress.height:
            return
        self._candidates[progress.height] = self._store.state()
        if len(self._candidates) > CANDIDATES_MAX:
            self._is_waiting = False
            self._drop_candidates()

    def _drop_candidates(self) -> None:
        for view in self._candidates.values():
            view.close()
        self._candidates.clear()

    def _let_go(self, held: _Held) -> None:
        if held in self._held:
            self._held.remove(held)
            held.view.close()

    # -- answers ----------------------------------------------------------------------------------------------------------------

    async def answer(self, session: Session, body: bytes, _deadline_ms: int) -> bytes:
        """Errors: the refusal."""
        ask = decode(body, SnapshotAsk | ChunkAsk, max_bytes=SNAPSHOT_ASK_MAX_BYTES)
        (self._plans if isinstance(ask, SnapshotAsk) else self._chunks).spend(session.peer)
        held = next((each for each in reversed(self._held) if ask.root in (NEWEST, each.view.root)), None)
        if held is None:
            raise fault("E-NOT-HELD", "that state is not held here")
        try:
            if isinstance(ask, ChunkAsk):
                async with self._places:
                    chunk = await trio.to_thread.run_sync(self._store.snapshots.chunk, held.view, ask.prefix)
                return encode(ChunkTold(chunk.entries))
            return encode(await self._told(held, ask.first))
        except QuStreamError:
            self._look(held)
            raise

    def _look(self, held: _Held) -> None:
        """A state whose reading was taken away, because the database grew, is held no more."""
        try:
            held.view.get(PROGRESS)
        except QuStreamError:
            with suppress(QuStreamError):
                self._let_go(held)

    async def _told(self, held: _Held, first: int) -> SnapshotTold:
        async with self._preparing:
            prepared = held.prepared
            if prepared is None:
                prepared = held.prepared = await trio.to_thread.run_sync(_prepared, self._store, held)
        nodes = prepared.plan.nodes
        if first > len(nodes):
            raise fault("E-REQUEST-INVALID", "the plan has fewer nodes")
        offer = None if first else prepared.offer
        room = SNAPSHOT_ANSWER_MAX_BYTES - HEAD_BYTES - (len(encode(offer)) if offer is not None else 0)
        return SnapshotTold(held.view.root, offer, len(nodes), _fitting(nodes[first:], room))


def _fitting(nodes: Sequence[PlanNode], room: int) -> tuple[PlanNode, ...]:
    end = 0
    while end < len(nodes) and (room := room - NODE_BYTES - len(nodes[end].prefix) - len(nodes[end].node)) >= 0:
        end += 1
    return tuple(nodes[:end])


def _prepared(store: ChainStore, held: _Held) -> _Prepared:
    """Blocking: looks at every entry. Errors: `E-NOT-HELD`, `E-DATA-CORRUPT`."""
    view = held.view
    run, block = blocks_above(store, BlocksAsk(held.named - 1, HEADERS_MAX, 0)), store.block_at(view.height)
    if run.certificate is None or not run.headers or block is None:
        raise fault("E-NOT-HELD", "what proves this state is not here")
    progress = ProvenEntry(view.get(PROGRESS), view.prove(PROGRESS))
    return _Prepared(Offer(run.headers, run.certificate, block.header, block.ids, progress), store.snapshots.plan(view))
