"""Getting the chain from others: performs what `qnode.core.sync` decides (`proto/spec/sync.md`).

whom it can ask ─▶ core ─▶ asks ─▶ core ─▶ signatures: the verifier; transactions: the store ─▶ Chain.finalise ─▶ core
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from qnode.core import sync_events as events
from qnode.core.sync import Sync as Core
from qnode.core.sync import step
from qnode.core.sync_events import Effect, Event, Head
from qnode.net.answers import Desk
from qnode.net.stepping import Stepping
from qnode.net.strangers import Strangers
from qnode.service.asked import LINK, SOURCES, Asked
from qnode.service.chain import Chain
from qnode.service.keys_workers import settled
from qnode.service.sync_serve import SYNC_TAGS, SyncAnswers
from qnode.service.verify import Verifier
from qustream.aio.logs import logger
from qustream.errors import QuStreamError
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import Certificate, Kind, Statement, voters_of
from qustream.wire.sync import SYNC_ANSWER_MAX_BYTES, BlocksAnswer, BlocksAsk, BodyAnswer, BodyAsk
from qustream.wire.transactions import transaction_id

__all__ = ["Sync"]

TICK_S = 0.25
DRAW_BITS = 64
# Final blocks that are not executed yet: beyond, nothing more is asked for. A run has 64.
UNEXECUTED_MAX = 128
# What a refusal says that only means: later.
LATER = frozenset({"E-PEER-LIMIT"})
LATER_MS = 1_000


class Sync:
    """One node's. `run` it beside the peers and the chain; `close` it when the node stops. `held`: a transaction that waits in the mempool;
    `is_validator`: consensus brings the blocks as long as it can. `fetched_from`, `refused_by`: blocks, and questions without an answer, of
    links and of others."""

    def __init__(
        self, chain: Chain, verifier: Verifier, asked: Asked, desk: Desk, strangers: Strangers, *,
        held: Callable[[bytes], bytes | None] = lambda _: None, is_validator: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.core = Core(chain.genesis.chain)
        self.answers = SyncAnswers(chain, strangers)
        self.charged = 0  # who lied
        self.fetched_from, self.refused_by = Counter(dict.fromkeys(SOURCES, 0)), Counter(dict.fromkeys(SOURCES, 0))
        self._chain, self._verifier, self._asked = chain, verifier, asked
        self._held, self._is_validator = held, is_validator
        self._known: set[bytes] = set()
        self._head: Head | None = None
        self._step: Stepping[Event, Effect] = Stepping(lambda event: step(self.core, event, asked.steady_ms), self._perform)
        self._nursery: trio.Nursery | None = None
        self._log = logger("sync")
        desk.route(SYNC_TAGS, self.answers.answer)
        desk.route_strangers(SYNC_TAGS, self.answers.answer_stranger)

    @property
    def fetched(self) -> int:
        """Blocks that came this way."""
        return self.fetched_from.total()

    @property
    def behind(self) -> int:
        """How many final blocks others speak of that are not here. A claim."""
        return max(0, self.core.spoken - self._chain.store.final.height)

    def close(self) -> None:
        """Answer whoever waits."""
        self.answers.close()

    async def run(self) -> None:
        """Until cancelled. The chain and the verifier must run."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._watch_chain)
                while True:
                    self._look()
                    self._step(events.Ticked(secrets.randbits(DRAW_BITS)))
                    await trio.sleep(TICK_S)
        finally:
            self._nursery = None

    async def _watch_chain(self) -> None:
        """Tell the core at once what is final here; `_look` would notice it a moment later."""
        while True:
            height = self._chain.store.final.height
            self._look()
            await self._chain.wait_final_above(height)

    def _look(self) -> None:
        """See who can be asked, and how far the chain is."""
        there = set(self._asked.sources())
        for peer in self._known - there:
            self._step(events.PeerLost(peer))
        for peer in there - self._known:
            self._step(events.PeerFound(peer))
        self._known = there
        head = self._head_now()
        if head is not None and head != self._head:
            self._head = head
            self._step(events.Moved(head))

    def _head_now(self) -> Head | None:
        """The last final block, if what was executed says who votes on the next."""
        final, executed = self._chain.store.final, self._chain.executed
        if final.height - executed.height > UNEXECUTED_MAX:
            return None
        if final.height == executed.height:
            rotation = executed.rotation + (1 if executed.over else 0)
        else:
            assert final.header is not None, "only the beginning has no header, and it is executed"
            rotation = final.header.rotation
            entry = self._chain.rotation(rotation)
            if entry is None or not entry.edge_ms or final.header.time_ms >= entry.edge_ms:
                return None  # it ends its rotation; what comes next is known when it is executed
        found = self._chain.rotation(rotation)
        if found is None:
            return None
        return Head(final.height, final.digest, rotation, tuple(seat.weight for seat in found.seats), self._is_validator())

    # -- effects ----------------------------------------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> None:
        if self._nursery is None:
            return
        match effect:
            case events.AskBlocks():
                self._nursery.start_soon(self._ask_blocks, effect)
            case events.AskBody():
                self._nursery.start_soon(self._ask_body, effect)
            case events.Verify(run, certificate):
                self._nursery.start_soon(self._verify, run, certificate)
            case events.Look():
                self._nursery.start_soon(self._find, effect)
            case events.Keep():
                self._nursery.start_soon(self._keep, effect)
            case events.Finalise():
                self._nursery.start_soon(self._finalise, effect)
            case events.Charge(peer, why):
                self._charge(peer, why)

    async def _ask_blocks(self, ask: events.AskBlocks) -> None:
        said = await self._call(ask, BlocksAsk(ask.above, ask.most, ask.wait_ms))
        if said is None:
            return
        try:
            answer = decode(said, BlocksAnswer, max_bytes=SYNC_ANSWER_MAX_BYTES)
        except QuStreamError:
            self._step(events.Refused(ask.peer, ask.ask, is_lie=True))
        else:
            self._step(events.BlocksTold(ask.peer, ask.ask, answer))

    async def _ask_body(self, ask: events.AskBody) -> None:
        said = await self._call(ask, BodyAsk(ask.height, ask.first, ask.count))
        if said is None:
            return
        try:
            answer = decode(said, BodyAnswer, max_bytes=SYNC_ANSWER_MAX_BYTES)
        except QuStreamError:
            self._step(events.Refused(ask.peer, ask.ask, is_lie=True))
        else:
            names = tuple(map(transaction_id, answer.transactions))
            self._step(events.BodyTold(ask.peer, ask.ask, answer, names))

    async def _call(self, ask: events.AskBlocks | events.AskBody, message: BlocksAsk | BodyAsk) -> bytes | None:
        """The answer; None if there is none, which has been told then."""
        source = self._source(ask.peer)
        try:
            return await self._asked.call(ask.peer, encode(message), ask.within_ms, max_answer_bytes=SYNC_ANSWER_MAX_BYTES)
        except QuStreamError as error:
            self.refused_by[source] += 1
            after_ms = (error.retry_after_ms or LATER_MS) if error.code in LATER else 0
            self._step(events.Refused(ask.peer, ask.ask, after_ms=after_ms))
            return None

    def _source(self, peer: bytes) -> str:
        """How it is asked; it may be gone."""
        return self._asked.sources().get(peer, LINK)

    async def _verify(self, run: int, certificate: Certificate) -> None:
        keys = self._chain.vote_keys(certificate.rotation)
        stated = Statement(self._chain.genesis.chain, certificate.rotation, certificate.view, Kind.FINAL, certificate.digest)
        items = [(keys[voter], stated, signature) for voter, signature in zip(voters_of(certificate), certificate.signatures, strict=True)]
        held = await self._verifier.statements(items)
        self._step(events.Verified(run, all(held)))

    async def _find(self, look: events.Look) -> None:
        """Look on the disk and among those that wait for a block; these are put on the disk."""
        there = await trio.to_thread.run_sync(self._chain.store.transactions, look.ids)
        waiting = [(name, raw) for name in look.ids if name not in there and (raw := self._held(name)) is not None]
        if waiting and not await self._put(waiting):
            return
        here = there.keys() | {name for name, _ in waiting}
        self._step(events.Found(look.height, tuple(place for place, name in enumerate(look.ids) if name not in here)))

    async def _keep(self, keep: events.Keep) -> None:
        if await self._put(list(zip(keep.ids, keep.transactions, strict=True))):
            self._step(events.Kept(keep.height, keep.numbers))

    async def _put(self, transactions: Sequence[tuple[bytes, bytes]]) -> bool:
        try:
            await settled(self._chain.store.keep_transactions(transactions))
        except QuStreamError:
            self._step(events.NotFinalised())  # the store says so, as a condition
            return False
        return True

    async def _finalise(self, finalise: events.Finalise) -> None:
        before, source = self._chain.store.final.height, self._source(self.core.giver)
        await self._chain.finalise(finalise.blocks, finalise.certificate, finalise.tail)
        self.fetched_from[source] += max(0, self._chain.store.final.height - before)
        self._look()

    def _charge(self, peer: bytes, why: str) -> None:
        self.charged += 1
        self._log.debug("a peer lied about the chain", why=why)
        self._asked.charge(peer, "what was told of the chain is not true")
