"""The state for nodes that begin (`proto/spec/sync.md`, §7): which ones are held, their plans and chunks.

Of each rotation that state is held which the first of its headers names that names one at or above the rotation's base: all nodes hold the
same, and a certificate of the running rotation vouches for it. A node that has just been started holds the first that is named.

It is written to a file at once (`qnode.store.chain.given`); until then, and while it waits to be named, it is a reading of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import trio

from qnode.core.ledger.block import Executed
from qnode.core.snapshot_offer import PROGRESS
from qnode.net.answers import Quota
from qnode.net.session import Session
from qnode.net.strangers import Kind, Stranger, Strangers
from qnode.net.tags import tag_of
from qnode.service.chain import Chain
from qnode.service.sync_serve import blocks_above
from qnode.store.chain import ChainStore, GivenState, StateView
from qustream.aio.logs import logger
from qustream.errors import QuStreamError, fault
from qustream.model.state import Progress
from qustream.rules.radix_plan import PlanNode
from qustream.wire.codec import decode, encode
from qustream.wire.light import ProvenEntry
from qustream.wire.snapshot import (
    NEWEST,
    SNAPSHOT_ANSWER_MAX_BYTES,
    SNAPSHOT_ASK_MAX_BYTES,
    ChunkAsk,
    Offer,
    SnapshotAsk,
    SnapshotTold,
)
from qustream.wire.sync import HEADERS_MAX, BlocksAsk

__all__ = ["SNAPSHOT_TAGS", "SnapshotAnswers"]

SNAPSHOT_TAGS = (range(107, 108), range(123, 124))
CHUNK_TAG = 123
# A plan of a state of 40 GB has forty parts; 1,200 chunks are 300 MB, five megabytes a second.
PLANS_MAX, CHUNKS_MAX, SPAN_MS = 120, 1_200, 60_000
# Read from the disk at once, in threads: each reads and hashes a quarter of a megabyte.
WORKED_ON_MAX = 2
# States that wait to be named: a header is at most 32 blocks behind, and then some of a chain that is idle.
CANDIDATES_MAX = 64
# When there is a newer one, the last is held for so long: whoever has begun with it may be through by then. By the time of the chain.
KEEP_MS = 20 * 60_000
# What no state is written into: the chain and the erasures of one-time keys come first.
RESERVE_BYTES = 256 * 1024 * 1024
# Of an answer, what is neither offer nor nodes; and a node's own head.
HEAD_BYTES, NODE_BYTES = 64, 8


class _Named(NamedTuple):
    """A state that is to be written. `named`: height of the header that names it; `since_ms`: when, by the chain."""

    view: StateView
    named: int
    since_ms: int


class _Held(NamedTuple):
    """One that is given away."""

    state: GivenState
    offer: Offer
    since_ms: int


class SnapshotAnswers:
    """One node's. `run` it; `close` it before the store. `directory`: where the files are."""

    def __init__(self, chain: Chain, directory: Path, strangers: Strangers) -> None:
        self._store, self._directory, self._strangers = chain.store, directory, strangers
        self._plans, self._chunks = Quota(PLANS_MAX, SPAN_MS), Quota(CHUNKS_MAX, SPAN_MS)
        self._places = trio.Semaphore(WORKED_ON_MAX)
        self._held: list[_Held] = []  # the newest last
        self._named: _Named | None = None
        self._news = trio.Event()
        self._log = logger("snapshot")
        self._candidates: dict[int, StateView] = {}
        self._is_waiting = True
        self._note(chain.executed)
        chain.listeners.append(self._executed)

    @property
    def heights(self) -> tuple[int, ...]:
        """Of the blocks whose states are given away."""
        return tuple(held.state.height for held in self._held)

    def close(self) -> None:
        """Let go of everything."""
        self._drop_candidates()
        if self._named is not None:
            self._named.view.close()
            self._named = None
        for held in self._held:
            held.state.close()
        self._held.clear()

    async def run(self) -> None:
        """Write what is named, until cancelled."""
        while True:
            while (named := self._named) is not None:
                self._named = None
                await self._write(named)
            await self._news.wait()
            self._news = trio.Event()

    async def _write(self, named: _Named) -> None:
        try:
            with trio.CancelScope(shield=True):  # or the reading would be closed under the thread
                state, offer = await trio.to_thread.run_sync(_written, self._store, self._directory, named)
        except QuStreamError as error:  # a full disk, or the database grew meanwhile: the next rotation's comes
            self._log.warning("no state is held for nodes that begin", code=error.code, detail=error.detail)
        else:
            self._held.append(_Held(state, offer, named.since_ms))
        finally:
            named.view.close()

    # -- which ------------------------------------------------------------------------------------------------------------------

    def _executed(self, progress: Progress, _done: Executed) -> None:
        header = self._store.header_at(progress.height)
        assert header is not None, "it has been executed"
        view = self._candidates.pop(header.executed, None)
        if view is not None:
            if self._named is not None:
                self._named.view.close()
            self._named = _Named(view, progress.height, progress.time_ms)
            self._news.set()
            self._is_waiting = False
            self._drop_candidates()
        if progress.over:
            self._is_waiting = True
            self._drop_candidates()
        self._note(progress)
        while len(self._held) > 2 or (len(self._held) > 1 and progress.time_ms - self._held[-1].since_ms > KEEP_MS):
            self._held.pop(0).state.close()

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

    # -- answers ----------------------------------------------------------------------------------------------------------------

    async def answer(self, session: Session, body: bytes, _deadline_ms: int) -> bytes:
        """Answer a known node. Errors: the refusal."""
        ask = decode(body, SnapshotAsk | ChunkAsk, max_bytes=SNAPSHOT_ASK_MAX_BYTES)
        (self._plans if isinstance(ask, SnapshotAsk) else self._chunks).spend(session.peer)
        held = self._held_for(ask)
        if isinstance(ask, ChunkAsk):
            async with self._places:
                return await trio.to_thread.run_sync(held.state.chunk, ask.prefix)
        return encode(_told(held, ask.first))

    async def answer_stranger(self, who: Stranger, body: bytes, _deadline_ms: int) -> bytes:
        """Answer anybody else, out of what strangers may have. Errors: the refusal."""
        kind = Kind.CHUNKS if tag_of(body) == CHUNK_TAG else Kind.PLANS
        self._strangers.begin(who, kind)
        ask = decode(body, SnapshotAsk | ChunkAsk, max_bytes=SNAPSHOT_ASK_MAX_BYTES)
        async with self._strangers.working(kind):
            held = self._held_for(ask)  # it may be another one after a while in the queue
            if isinstance(ask, ChunkAsk):
                said = await trio.to_thread.run_sync(held.state.chunk, ask.prefix)
            else:
                said = encode(_told(held, ask.first))
        return self._strangers.end(who, kind, said)

    def _held_for(self, ask: SnapshotAsk | ChunkAsk) -> _Held:
        held = next((each for each in reversed(self._held) if ask.root in (NEWEST, each.state.root)), None)
        if held is None:
            raise fault("E-NOT-HELD", "that state is not held here")
        return held


def _told(held: _Held, first: int) -> SnapshotTold:
    nodes = held.state.plan.nodes
    if first > len(nodes):
        raise fault("E-REQUEST-INVALID", "the plan has fewer nodes")
    offer = None if first else held.offer
    room = SNAPSHOT_ANSWER_MAX_BYTES - HEAD_BYTES - (len(encode(offer)) if offer is not None else 0)
    return SnapshotTold(held.state.root, offer, len(nodes), _fitting(nodes[first:], room))


def _fitting(nodes: Sequence[PlanNode], room: int) -> tuple[PlanNode, ...]:
    end = 0
    while end < len(nodes) and (room := room - NODE_BYTES - len(nodes[end].prefix) - len(nodes[end].node)) >= 0:
        end += 1
    return tuple(nodes[:end])


def _written(store: ChainStore, directory: Path, named: _Named) -> tuple[GivenState, Offer]:
    """Blocking: looks at every entry. Errors: of `GivenState.write`."""
    view = named.view
    run, block = blocks_above(store, BlocksAsk(named.named - 1, HEADERS_MAX, 0)), store.block_at(view.height)
    if run.certificate is None or not run.headers or block is None:
        raise fault("E-NOT-HELD", "what proves this state is not here")
    offer = Offer(run.headers, run.certificate, block.header, block.ids, ProvenEntry(view.get(PROGRESS), view.prove(PROGRESS)))
    return GivenState.write(directory, store.snapshots, view, lambda: store.sizes()["free_bytes"] > RESERVE_BYTES), offer
