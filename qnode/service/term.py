"""A validator's part in one rotation: tells the core what happens, performs what it orders (`proto/spec/consensus.md`).

    sessions ─▶ hear ─┐                    ┌─▶ Verify: processes (`verifying`)    Judge: `judging`    Build: `building`   ─┐
    answers ──────────┴▶ events ─▶ core ───┼─▶ Persist: sign-state and what was kept, on the disk; nothing goes on before ├─▶ events
                                           ├─▶ then Sign, and what is to be said: `ballots`                              ─┘
                                           └─▶ Finalise: the chain, in order

All events that are there are taken together: what they lead to is persisted once. Questions and orders are tasks, and what becomes of
them in a later term nobody hears: a term ends when its rotation is over, or when others have made more final than it has seen.
"""

from __future__ import annotations

import heapq
import math
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from qnode.core.consensus import Consensus, step
from qnode.core.consensus_catchup import words_of
from qnode.core.consensus_events import (
    Accuse,
    Broadcast,
    Build,
    Effect,
    Event,
    Finalise,
    Heard,
    Judge,
    Judged,
    Keep,
    Persist,
    RotationBegan,
    SendEnd,
    SendKept,
    SendTo,
    Sign,
    Signed,
    SignState,
    Ticked,
    Verified,
    Verify,
    Wake,
)
from qnode.core.consensus_hearing import rotation_of
from qnode.core.consensus_view import voters_of
from qnode.service.ballots import Ballots
from qnode.service.building import Building
from qnode.service.chain import Chain
from qnode.service.judging import Judging
from qnode.service.keys_workers import settled
from qnode.service.verifying import Checkable, Verifying
from qnode.service.voter import Voter
from qustream.aio.admission import Bucket
from qustream.aio.logs import logger
from qustream.errors import QuStreamError
from qustream.wire.consensus import NO_DIGEST, Certificate, ConsensusAsk, ConsensusMessage, Kind, Proposal, Vote

__all__ = ["Duties", "Term"]

# Messages that wait for the core: more than it has under verification. It takes thousands a second, so only a disk that stands fills it.
HEARD_MAX = 8192
# Events that are taken together: their effects share one write, and the first of them shall not wait for long.
TOGETHER_MAX = 256
# Signatures that one validator may make us verify, a second and at once: two full certificates a second, its own votes, ten seconds of it.
SIGNATURES_PER_S, SIGNATURES_BURST = 256, 2560
# Finalisations that were kept a moment ago: the core names one by its view, at most so many behind.
FINALS_REMEMBERED = 16
# How often a validator that asks is told what we have of its votes: 40 KB, as often as it may ask for anything else.
REMIND_S = 1.0
DRAW_BITS = 64


@dataclass(frozen=True, slots=True)
class Duties:
    """What a term works with. `now_ms`: time that does not go back; `lied`: a node has sent what does not hold; `accuse`: a validator has
    signed what nobody signs who obeys the rules."""

    chain: Chain
    ballots: Ballots
    voter: Voter | None
    now_ms: Callable[[], int]
    lied: Callable[[bytes, str], None]
    accuse: Callable[[RotationBegan, Accuse], None]


class Term:
    """`hear` it, `run` it. `core` is for displays and for the other parts of the term."""

    def __init__(self, begun: RotationBegan, kept: Sequence[Proposal | Certificate], duties: Duties) -> None:
        self.begun, self.core = begun, Consensus()
        self.height = begun.base.height if begun.reached is None else begun.reached.header.height  # of the last final block it knows
        self.twin: str = ""  # what of ours others have that we do not remember
        self.heard = self.dropped = 0
        self._duties = duties
        self._kept = kept
        self._events: deque[Event] = deque()
        self._news = trio.Event()
        self._due: list[int] = []
        self._alarm: trio.CancelScope | None = None
        self._finals: dict[int, Certificate] = {}
        self._finalised: deque[Finalise] = deque()
        self._final_news = trio.Event()
        self._paces: dict[bytes, Bucket] = {}
        self._reminded_s: dict[bytes, float] = {}  # validators alone, so there are few
        self._asked: dict[trio.CancelScope, int] = {}  # judging and building, and of which view
        self._nursery: trio.Nursery | None = None
        self._log = logger("consensus")

    # -- what happens -----------------------------------------------------------------------------------------------------

    def hear(self, peer: bytes, messages: Sequence[ConsensusMessage]) -> None:
        """What the node `peer`, a validator's, has said. A vote comes from who cast it, or is dropped: so nobody makes us verify votes in
        another's name."""
        nodes = self._duties.ballots.nodes
        for message in messages:
            is_strange = isinstance(message, Vote) and not self._is_from(message, peer, nodes)
            if (is_strange and rotation_of(message) == self.begun.rotation) or len(self._events) >= HEARD_MAX:
                self.dropped += 1
                continue
            self.heard += 1
            self._feed(Heard(peer, message))

    def _is_from(self, vote: Vote, peer: bytes, nodes: Sequence[bytes | None]) -> bool:
        """Whether this node may say this: its own votes, and to us ours, of which we may have forgotten."""
        return vote.validator < len(nodes) and (nodes[vote.validator] == peer or vote.validator == self.begun.me)

    def _feed(self, event: Event) -> None:
        self._events.append(event)
        self._news.set()

    # -- running ----------------------------------------------------------------------------------------------------------

    async def run(self, verifying: Verifying, judging: Judging, building: Building | None) -> None:
        """Until cancelled. `verifying`, `judging`, `building`: of this rotation; the last None for who only looks on."""
        self._verifying, self._judging, self._building = verifying, judging, building
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(verifying.run)
            self._nursery.start_soon(self._ring)
            self._nursery.start_soon(self._finalise_all)
            self._feed(self.begun)
            for message in self._kept:
                self._feed(Verified(message, True))
            while True:
                await self._news.wait()
                self._news = trio.Event()
                while self._events:
                    await self._turn()

    async def _turn(self) -> None:
        effects: list[Effect] = []
        for _ in range(min(TOGETHER_MAX, len(self._events))):
            effects += self._step(self._events.popleft())
        await self._perform(effects)

    def _step(self, event: Event) -> list[Effect]:
        effects = step(self.core, event, self._duties.now_ms())
        sender = event.peer if isinstance(event, Heard) else None
        if isinstance(event, Heard) and isinstance(event.message, ConsensusAsk):
            self._remind(event.peer, event.message)
        for effect in effects:
            if isinstance(effect, Verify):
                self._verify(effect.message, sender)
        return effects

    def _remind(self, peer: bytes, ask: ConsensusAsk) -> None:
        """Tell a validator who asks anything what we have of its own votes, now and then."""
        nodes, now_s = self._duties.ballots.nodes, trio.current_time()
        is_due = now_s - self._reminded_s.get(peer, -math.inf) >= REMIND_S
        if not self.core.view or ask.rotation != self.begun.rotation or not is_due or peer not in nodes:
            return
        self._reminded_s[peer] = now_s
        for vote in words_of(self.core, nodes.index(peer)):
            self._duties.ballots.send(peer, vote)

    async def _perform(self, effects: Sequence[Effect]) -> None:
        """What stays on this machine first; then what is signed is put down, with all that was kept before; then the rest, in order."""
        state: SignState | None = None
        for effect in effects:
            match effect:
                case Persist():
                    state = effect.state
                case Keep():
                    self._keep(effect.message)
                case Judge():
                    self._begin(effect.header.view, partial(self._judge, effect))
                case Build():
                    self._begin(effect.view, partial(self._build, effect))
                case Wake():
                    self._plan(effect.at_ms)
                case Accuse():
                    self._duties.accuse(self.begun, effect)
        if state is not None:
            await self._persist(state)
        answers: dict[bytes, list[SendKept | SendEnd]] = {}
        for effect in effects:
            match effect:
                case Sign():
                    self._sign(effect)
                case Broadcast():
                    self._duties.ballots.broadcast(effect.message)
                case SendTo():
                    self._duties.ballots.send(effect.to, effect.message)
                case SendKept() | SendEnd():
                    answers.setdefault(effect.to, []).append(effect)
                case Finalise():
                    self.height = max(self.height, effect.blocks[-1].header.height)
                    self._finalised.append(effect)
                    self._final_news.set()
        for peer, parts in answers.items():
            self._duties.ballots.answer(peer, parts)

    # -- the disk ---------------------------------------------------------------------------------------------------------

    def _keep(self, message: Proposal | Certificate) -> None:
        if isinstance(message, Certificate) and message.kind is Kind.FINAL:
            self._finals[message.view] = message
            if len(self._finals) > FINALS_REMEMBERED:
                del self._finals[min(self._finals)]
        try:
            self._duties.chain.store.keep(message)
        except QuStreamError:
            return  # more waits for the disk than it takes: others have it, too

    async def _persist(self, state: SignState) -> None:
        """The sign-state, and the blocks and bodies it is about, on the disk."""
        voter = self._duties.voter
        assert voter is not None, "who signs has a key"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(voter.persist, state)
            nursery.start_soon(self._flush)

    async def _flush(self) -> None:
        try:
            await settled(self._duties.chain.store.flush())
        except QuStreamError:
            return  # the store says so as a condition; what was signed is put down all the same

    async def _finalise_all(self) -> None:
        while True:
            while not self._finalised:
                self._final_news = trio.Event()
                await self._final_news.wait()
            effect = self._finalised.popleft()
            certificate = self._finals.get(effect.view) or await self._kept_final(effect.view)
            await self._duties.chain.finalise(effect.blocks, certificate)

    async def _kept_final(self, view: int) -> Certificate:
        """A finalisation whose blocks came long after it."""
        await self._flush()
        found = self._duties.chain.store.certificate(self.begun.rotation, view, Kind.FINAL, NO_DIGEST)
        assert found is not None, "it was kept when it was certified"
        return found

    # -- signing and verifying --------------------------------------------------------------------------------------------

    def _sign(self, effect: Sign) -> None:
        voter = self._duties.voter
        assert voter is not None, "who signs has a key"
        signature = voter.sign(effect.statement)
        if signature is not None:
            self._feed(Signed(effect.statement, signature))

    def _verify(self, message: Checkable, peer: bytes | None) -> None:
        count = len(message.signatures) if isinstance(message, Certificate) else 1
        if peer is not None and self._pace(peer).spend(count, trio.current_time()) > 0:
            self.dropped += 1
            self._feed(Verified(message, False))
        else:
            self._verifying.verify(message, peer)

    def _pace(self, peer: bytes) -> Bucket:
        if peer not in self._paces:  # validators alone, so there are few
            self._paces[peer] = Bucket(SIGNATURES_BURST, SIGNATURES_PER_S, trio.current_time())
        return self._paces[peer]

    def told(self, message: Checkable, good: bool, peer: bytes | None) -> None:
        """A message has been verified."""
        if not good and peer is not None:
            self._duties.lied(peer, "a signature does not hold")
        me = self.begun.me
        voters = voters_of(message) if isinstance(message, Certificate) else (message.validator,) if isinstance(message, Vote) else ()
        if good and me is not None and me in voters and not isinstance(message, Proposal):
            self._look_for_a_twin(message)
            good = not (self.twin and isinstance(message, Vote))  # not counted, and nobody accuses himself
        self._feed(Verified(message, good))

    def _look_for_a_twin(self, message: Certificate | Vote) -> None:
        """Whether we have signed what we do not remember: another of us is somewhere, or our memory is an old one."""
        assert self.begun.me is not None
        if not self.core.view or not self.core.may_sign(message.view) or message.view < self.core.final_view:
            return
        view = self.core.views.get(message.view)
        own = view.own if view is not None else self.begun.had.votes.get(message.view)
        said = None if own is None else {Kind.NOTAR: own.notarised, Kind.FINAL: own.finalised}.get(message.kind)
        is_known = own is not None and (own.skipped if message.kind is Kind.SKIP else said == message.digest)
        if not is_known:
            self.twin = f"others have its {message.kind.name.lower()} of view {message.view}, which it does not remember"

    # -- questions and orders ---------------------------------------------------------------------------------------------

    def _begin(self, view: int, act: Callable[[], Awaitable[None]]) -> None:
        """Start it, and drop what was asked of views before."""
        assert self._nursery is not None
        for scope, asked in self._asked.items():
            if asked < view:
                scope.cancel()
        self._nursery.start_soon(self._within, view, act)

    async def _within(self, view: int, act: Callable[[], Awaitable[None]]) -> None:
        with trio.CancelScope() as scope:
            self._asked[scope] = view
            try:
                await act()
            finally:
                del self._asked[scope]

    async def _judge(self, effect: Judge) -> None:
        try:
            self._feed(Judged(effect.digest, await self._judging.judge(effect)))
        except QuStreamError as error:  # the disk is full, or a state that was held had to give way: others can tell
            self._log.debug("a block cannot be judged", code=error.code, detail=error.detail)

    async def _build(self, effect: Build) -> None:
        try:
            if self._building is not None and (built := await self._building.build(effect)) is not None:
                self._feed(built)
        except QuStreamError as error:
            self._log.debug("no block can be made", code=error.code, detail=error.detail)

    # -- time -------------------------------------------------------------------------------------------------------------

    def _plan(self, at_ms: int) -> None:
        heapq.heappush(self._due, at_ms)
        if self._alarm is not None:
            self._alarm.deadline = self._deadline()

    def _deadline(self) -> float:
        if not self._due:
            return math.inf
        return trio.current_time() + max(0, self._due[0] - self._duties.now_ms()) / 1000

    async def _ring(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._deadline()) as self._alarm:
                await trio.sleep_forever()
            while self._due and self._due[0] <= self._duties.now_ms():
                heapq.heappop(self._due)
                self._feed(Ticked(secrets.randbits(DRAW_BITS)))
