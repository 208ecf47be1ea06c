"""A node that begins with a checkpoint: it gets the chain's state from others before it follows the chain (`proto/spec/sync.md`, §7).

    whom it can ask ─▶ core.snapshot ─▶ asks ─▶ core ─▶ the offer: Following; plan and chunks: the store ─▶ core ─▶ `done`

Until then it knows of the network what genesis says. It serves nobody; the daemon starts anew with the chain when the state is here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import trio

from qnode.api.chain_status import ChainStatus, MempoolStatus
from qnode.api.status import Condition, condition
from qnode.api.sync_status import SyncStatus
from qnode.core import snapshot_events as events
from qnode.core.consensus_events import Final
from qnode.core.snapshot import Snapshot, Stage, step
from qnode.core.snapshot_events import Effect, Event, Verdict
from qnode.net.answers import Desk
from qnode.net.stepping import Stepping
from qnode.service.asked import LINK, STRANGER, Asked
from qnode.service.beginning import Beginning
from qnode.service.chain_node import FOLDER
from qnode.service.following import Following
from qnode.service.gossip import Judge
from qnode.service.light import first_checkpoint
from qnode.service.peers import PeerService
from qnode.service.registry import ChainRegistry
from qnode.store.chain import ChainStore
from qustream.aio.http import Folder
from qustream.aio.logs import logger
from qustream.errors import PeerFault, QuStreamError
from qustream.model.genesis import Genesis
from qustream.rules.radix_plan import PLAN_MAX_NODES, chunks_of
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import header_digest
from qustream.wire.gossip import Topic
from qustream.wire.light import LIGHT_ANSWER_MAX_BYTES, checkpoint_digest
from qustream.wire.snapshot import SNAPSHOT_ANSWER_MAX_BYTES, ChunkAsk, ChunkTold, SnapshotTold

__all__ = ["Joining"]

TICK_S = 0.25
DRAW_BITS = 64
# For the answer to a light client's question: looked up in milliseconds, half a megabyte on a slow line.
QUESTION_MS = 15_000
# A chain in its first rotation may have no state to give yet. Then, and only with the checkpoint that it begins with, replaying it is as
# good: after so long without anybody who has one.
YOUNG_S = 30.0
# Chunks of the largest plan.
PREFIXES_MAX = 16 * PLAN_MAX_NODES
LATER_MS = 1_000


class Joining:
    """`open` it, `join` it with the peers, `run` it, `close` it when it is `done`: the store then has the state, or the beginning."""

    def __init__(self, store: ChainStore, genesis: Genesis, pinned: bytes, *, clock_ms: Callable[[], int]) -> None:
        self.store, self.genesis = store, genesis
        self.registry = ChainRegistry(lambda: Beginning(genesis), genesis)
        self.judges: Mapping[Topic, Judge] = {}
        self.on_servers: Callable[[], None] = lambda: None
        self.done = trio.Event()
        self.charged = 0
        self.trouble: QuStreamError | None = None
        self.core = Snapshot(genesis.chain)
        self._pinned, self._clock_ms = pinned, clock_ms
        self._is_first = pinned == checkpoint_digest(first_checkpoint(genesis))
        self._known: set[bytes] = set()
        self._asked: Asked | None = None
        self._following: Following | None = None
        self._nursery: trio.Nursery | None = None
        self._refused_s: float | None = None  # since when nobody has a state
        self._height = self._chunks = self._missing = 0
        self._step: Stepping[Event, Effect] = Stepping(self._advance, self._perform)
        self._log = logger("snapshot")

    @classmethod
    def open(cls, directory: Path, genesis: Genesis, pinned: bytes, *, clock_ms: Callable[[], int]) -> Joining | None:
        """For the chain's store in a data directory; None if there is a chain in it. Errors: of `ChainStore.open`."""
        store = ChainStore.open(directory / FOLDER, genesis)
        try:
            if store.snapshots.incoming() is None and (store.final.height or store.executed.height):
                store.close()
                return None
            return cls(store, genesis, pinned, clock_ms=clock_ms)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Let go of everything."""
        self.registry.close()
        self.store.close()

    def join(self, peers: PeerService, _desk: Desk, asked: Asked | None = None) -> None:
        """Work with these peers from now on; `asked`: and whoever else can be asked. Nothing is answered."""
        self._asked = asked or Asked(peers)
        # Others may have this node among the validators, and be right. What they vote means nothing here yet, but it is no lie.
        peers.mesh(frozenset(), None)
        self._following = Following(
            self._pinned, self.genesis.chain, ask=self._question, peers=lambda: tuple(self._known), charge=self._charge,
            clock_ms=self._clock_ms,
        )  # fmt: skip

    def folders(self) -> Mapping[str, Folder]:
        """There is no chain to show."""
        return {}

    def stop(self) -> None:
        """Nobody waits here."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until the state is here."""
        assert self._asked is not None, "peers come first"
        incoming = await trio.to_thread.run_sync(self.store.snapshots.incoming)
        async with trio.open_nursery() as self._nursery:
            if self._asked.outside is not None:
                self._nursery.start_soon(self._asked.outside.run)
            if incoming is not None:
                await self._count(incoming.block.header.height)
                self._step(events.Resumed(incoming.root))
            task_status.started()
            while not self.done.is_set():
                self._look()
                self._step(events.Ticked(secrets.randbits(DRAW_BITS)))
                await self._replay_if_young()
                await trio.sleep(TICK_S)
            self._nursery.cancel_scope.cancel()

    def _advance(self, event: Event) -> list[Effect]:
        was, effects = self.core.stage, step(self.core, event, self._steady_ms())
        if self.core.stage is Stage.OFFERS and was in (Stage.CHUNKS, Stage.FINISHING):
            why = "nobody gives this state any more" if was is Stage.CHUNKS else "this state is not that of its block"
            self._log.info(f"{why}; another is looked for", height=self._height, missing=self._missing)
        return effects

    def _steady_ms(self) -> int:
        return 0 if self._asked is None else self._asked.steady_ms

    def _look(self) -> None:
        assert self._asked is not None
        there = set(self._asked.sources())
        for peer in self._known - there:
            self._step(events.PeerLost(peer))
        for peer in there - self._known:
            self._step(events.PeerFound(peer))
        self._known = there

    async def _replay_if_young(self) -> None:
        if not self._is_first or not self.core.is_refused:
            self._refused_s = None
            return
        now_s = trio.current_time()
        self._refused_s = now_s if self._refused_s is None else self._refused_s
        if now_s - self._refused_s > YOUNG_S and await trio.to_thread.run_sync(self.store.snapshots.incoming) is None:
            self._log.info("nobody has a state of this young chain; it is followed from its beginning")
            self.done.set()

    # -- effects ----------------------------------------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> None:
        if self._nursery is None:
            return
        match effect:
            case events.Ask():
                self._nursery.start_soon(self._ask, effect)
            case events.Check():
                self._nursery.start_soon(self._check, effect)
            case events.Begin():
                self._nursery.start_soon(self._begin, effect)
            case events.Look(limit):
                self._nursery.start_soon(self._look_for, limit)
            case events.Take():
                self._nursery.start_soon(self._take, effect)
            case events.Finish():
                self._nursery.start_soon(self._finish)
            case events.Charge(peer, why):
                self._charge(peer, why)

    async def _ask(self, ask: events.Ask) -> None:
        assert self._asked is not None
        try:
            said = await self._asked.call(ask.peer, encode(ask.message), ask.within_ms, max_answer_bytes=SNAPSHOT_ANSWER_MAX_BYTES)
        except QuStreamError as error:
            after_ms = (error.retry_after_ms or LATER_MS) if error.code == "E-PEER-LIMIT" else 0
            self._step(events.Refused(ask.peer, ask.ask, has_not=error.code == "E-NOT-HELD", after_ms=after_ms))
            return
        told: Event
        try:
            if isinstance(ask.message, ChunkAsk):
                told = events.ChunkCame(ask.peer, ask.ask, decode(said, ChunkTold, max_bytes=SNAPSHOT_ANSWER_MAX_BYTES))
            else:
                told = events.PlanCame(ask.peer, ask.ask, decode(said, SnapshotTold, max_bytes=SNAPSHOT_ANSWER_MAX_BYTES))
        except QuStreamError:
            told = events.Refused(ask.peer, ask.ask, is_lie=True)
        self._step(told)

    async def _question(self, peer: bytes, body: bytes) -> bytes:
        assert self._asked is not None
        return await self._asked.call(peer, body, QUESTION_MS, max_answer_bytes=LIGHT_ANSWER_MAX_BYTES)

    async def _check(self, check: events.Check) -> None:
        assert self._following is not None
        verdict = Verdict.TRUE
        try:
            await self._following.require(check.offer.headers, check.offer.certificate, check.peer)
        except PeerFault:
            verdict = Verdict.LIE
        except QuStreamError as error:
            verdict, self.trouble = Verdict.UNKNOWN, error
        self._step(events.Checked(check.peer, verdict))

    async def _begin(self, begin: events.Begin) -> None:
        block = begin.offer.block
        final = Final(header_digest(block), block, begin.offer.ids)
        verdict = await self._stored(lambda: self.store.snapshots.begin(begin.root, final, begin.plan))
        if verdict is Verdict.TRUE:
            await self._count(block.height)
            self._log.info("a state is being taken in", height=block.height, chunks=self._chunks, missing=self._missing)
        self._step(events.Began(verdict is Verdict.TRUE))

    async def _count(self, height: int) -> None:
        """How much of it there is, for the operator."""

        def count() -> tuple[int, int]:
            incoming = self.store.snapshots.incoming()
            chunks = 0 if incoming is None else len(chunks_of(incoming.root, incoming.plan))
            return chunks, len(self.store.snapshots.missing(PREFIXES_MAX))

        self._height = height
        self._chunks, self._missing = await trio.to_thread.run_sync(count)

    async def _look_for(self, limit: int) -> None:
        self._step(events.Missing(tuple(await trio.to_thread.run_sync(self.store.snapshots.missing, limit))))

    async def _take(self, take: events.Take) -> None:
        verdict = await self._stored(lambda: self.store.snapshots.take(take.prefix, take.chunk))
        if verdict is Verdict.TRUE:
            self._missing = max(0, self._missing - 1)
        self._step(events.Taken(take.peer, take.prefix, verdict))

    async def _finish(self) -> None:
        verdict = await self._stored(self.store.snapshots.finish)
        self._step(events.Finished(verdict))
        if self.core.stage is Stage.DONE:
            self._log.info("the state is here", height=self._height)
            self.done.set()

    async def _stored(self, act: Callable[[], None]) -> Verdict:
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(act)
        except PeerFault:
            return Verdict.LIE
        except QuStreamError as error:
            self.trouble = error
            return Verdict.UNKNOWN
        self.trouble = None
        return Verdict.TRUE

    def _charge(self, peer: bytes, why: str) -> None:
        assert self._asked is not None
        self.charged += 1
        self._log.debug("a peer lied about the state", why=why)
        self._asked.charge(peer, "what was told of the state is not true")

    # -- for operators ----------------------------------------------------------------------------------------------------------

    @property
    def taking(self) -> str:
        """How far it is, in words."""
        if self.core.stage in (Stage.CHUNKS, Stage.FINISHING, Stage.DONE):
            return f"the state of block {self._height} is on its way: {self._chunks - self._missing} of {self._chunks} chunks are here"
        ways = self._asked.counts() if self._asked is not None else {}
        others = f" and {ways[STRANGER]} that are asked as by a stranger" if ways.get(STRANGER) else ""
        return f"a state is looked for among {ways.get(LINK, 0)} linked nodes{others}"

    def status(self) -> ChainStatus:
        """There is no chain yet."""
        rotation = self._following.rotation if self._following is not None else 0
        return ChainStatus(
            final=0, final_ms=self.genesis.time_ms, executed=0, epoch=0, rotation=rotation, view=0, validators=0, views=0, skipped=0,
            voting=None, mempool=MempoolStatus(0, 0, {}, {}), transactions=0, verified=0, accusations=(),
            store_bytes=self.store.sizes()["used_bytes"], taking=self.taking, sync=self._sync_status(),
        )  # fmt: skip

    def _sync_status(self) -> SyncStatus:
        """Whether its licence is active is not known before the chain is here."""
        asked = self._asked
        outside = asked.outside if asked is not None else None
        return SyncStatus(
            nodes=asked.counts() if asked is not None else {}, known=outside.candidates if outside is not None else 0, charged=self.charged,
            chunks=self._chunks, missing=self._missing,
        )  # fmt: skip

    def conditions(self, _now_ms: int) -> list[Condition]:
        """It serves nobody yet; and why it does not go on."""
        found = [condition("E-CHAIN-STALE", self.taking, stops=True)]
        if self.trouble is not None:
            found.append(condition(self.trouble.code, self.trouble.detail, stops=True))
        return found
