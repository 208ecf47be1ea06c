"""Getting a state from others: whom to ask for what, and what of the answers to believe (`proto/spec/sync.md`, §7).

`step(state, event, now_ms) -> effects`. Theory of operation. A few peers are asked for their newest state. Of what they offer, the state
that most of them have is looked at: that its root stands in a header that a quorum of the present rotation has made final. Whoever offered
it is asked for its plan, each node of which is checked when it comes. Then chunks are asked for, of all who have the state, until none is
missing; the store checks each against the plan before it keeps it. What is missing is on the disk, so a restart goes on. If nobody gives
anything of that state any more, a newer one takes its place, and what fits it stays.

All randomness is in the draws of `Ticked`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from qnode.core import snapshot_events as events
from qnode.core import snapshot_limits as limits
from qnode.core.snapshot_events import Effect, Event, Verdict
from qnode.core.snapshot_offer import PlanParts, wrong_with
from qustream.rules.radix_plan import Chunk, Plan
from qustream.wire.snapshot import NEWEST, ChunkAsk, Offer, SnapshotAsk, SnapshotTold

__all__ = ["Snapshot", "Stage", "step"]


class Stage(Enum):
    """`OFFERS`: nothing is chosen; `CHECKING`: the signatures of an offer; `PLAN`: it comes; `BEGINNING`: it goes to the disk; `CHUNKS`,
    `FINISHING`, `DONE`."""

    OFFERS = 1
    CHECKING = 2
    PLAN = 3
    BEGINNING = 4
    CHUNKS = 5
    FINISHING = 6
    DONE = 7


@dataclass(slots=True)
class _Peer:
    """What a peer did. `has_not`: the root of a state that it has not; `rests_until_ms`: nothing is asked of it before."""

    has_not: bytes = b""
    rests_until_ms: int = 0
    rest_ms: int = limits.REST_MS
    is_here: bool = True


@dataclass(frozen=True, slots=True)
class _Ask:
    """What is asked for: a chunk, else an offer or a part of a plan."""

    peer: bytes
    prefix: bytes | None
    asked_ms: int


class Snapshot:
    """The state of one node. Use `step`; the properties are for displays and tests."""

    def __init__(self, chain: str) -> None:
        self.stage = Stage.OFFERS
        self.root = b""
        self.taken = 0  # chunks that came
        self._chain = chain
        self._peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self._asks: dict[int, _Ask] = {}
        self._next = 0
        self._draw = 0
        self._offers: dict[bytes, SnapshotTold] = {}
        self._offered_ms = 0
        self._source = b""
        self._offer: Offer | None = None
        self._parts: PlanParts | None = None
        self._window: list[bytes] = []  # missing, and asked of nobody
        self._keeping: set[bytes] = set()
        self._is_looking = self._is_all = False  # `_is_all`: no other chunks are missing than those that are asked for or kept
        self._gave_ms = self._stopped_until_ms = self._now_ms = 0
        self._out: list[Effect] = []

    @property
    def sizes(self) -> dict[str, int]:
        """How much of everything bounded there is."""
        plan = len(self._parts.nodes) if self._parts is not None else 0
        kept = {"offers": len(self._offers), "plan": plan, "window": len(self._window), "keeping": len(self._keeping)}
        return kept | {"peers": len(self._peers), "asks": len(self._asks)}

    @property
    def is_refused(self) -> bool:
        """Whether all who are here have said that they give no state."""
        here = [peer.has_not == NEWEST for peer in self._peers.values() if peer.is_here]
        return self.stage is Stage.OFFERS and bool(here) and all(here)

    # -- events ---------------------------------------------------------------------------------------------------------------

    def resumed(self, event: events.Resumed, now_ms: int) -> None:
        self.root, self.stage, self._gave_ms = event.root, Stage.CHUNKS, now_ms

    def peer_found(self, event: events.PeerFound, _now_ms: int) -> None:
        peer = self._peers.setdefault(event.peer, _Peer())
        peer.is_here = True
        while len(self._peers) > limits.PEERS_MAX:
            gone = next((name for name, each in self._peers.items() if not each.is_here), next(iter(self._peers)))
            self._lose(gone)
            del self._peers[gone]

    def peer_lost(self, event: events.PeerLost, _now_ms: int) -> None:
        self._lose(event.peer)

    def _lose(self, name: bytes) -> None:
        if (peer := self._peers.get(name)) is not None:
            peer.is_here = False
        self._offers.pop(name, None)
        for number in [number for number, ask in self._asks.items() if ask.peer == name]:
            self._forget(number)

    def _forget(self, number: int) -> _Ask | None:
        """The question is over; what it was for is missing again, unless somebody else was asked, too."""
        ask = self._asks.pop(number, None)
        if ask is not None and ask.prefix is not None:
            self._miss(ask.prefix)
        return ask

    def _miss(self, prefix: bytes) -> None:
        is_asked = any(ask.prefix == prefix for ask in self._asks.values())
        if self.stage is Stage.CHUNKS and not is_asked and prefix not in self._keeping and prefix not in self._window:
            self._window.insert(0, prefix)

    def refused(self, event: events.Refused, now_ms: int) -> None:
        ask = self._forget(event.ask)
        if ask is None:
            return
        if event.is_lie:
            self._lie(ask.peer, "an answer that is none", now_ms)
        elif event.has_not:
            self._peers[ask.peer].has_not = self.root if ask.prefix is not None else NEWEST
            if ask.prefix is None:
                self._rest(ask.peer, now_ms)
        else:
            self._rest(ask.peer, now_ms, event.after_ms)

    def plan_came(self, event: events.PlanCame, now_ms: int) -> None:
        if self._asks.pop(event.ask, None) is None:
            return
        told, peer = event.told, event.peer
        self._peers[peer].has_not = b""
        if self.stage is Stage.PLAN and peer == self._source and self._parts is not None:
            if (told.root, told.count) != (self.root, self._parts.count) or not told.nodes or not self._parts.take(told.nodes):
                self._lie(peer, "a plan that does not fit its root", now_ms)
            return
        wrong = "no offer" if told.offer is None else wrong_with(told.offer, told.root, self._chain)
        if wrong:
            self._lie(peer, wrong, now_ms)
        elif self.stage is Stage.OFFERS:
            self._offered_ms = self._offered_ms if self._offers else now_ms
            self._offers[peer] = told

    def checked(self, event: events.Checked, now_ms: int) -> None:
        if self.stage is not Stage.CHECKING or event.peer != self._source:
            return
        told = self._offers.pop(event.peer, None)
        self.stage = Stage.OFFERS
        if event.verdict is Verdict.LIE:
            self._lie(event.peer, "an offer that no quorum has signed", now_ms)
        elif event.verdict is Verdict.UNKNOWN:
            self._rest(event.peer, now_ms)
        elif told is not None:
            self.root, self._offer, self._parts = told.root, told.offer, PlanParts(told.root, told.count)
            self.stage = Stage.PLAN
            if not self._parts.take(told.nodes):
                self._lie(event.peer, "a plan that does not fit its root", now_ms)

    def began(self, event: events.Began, now_ms: int) -> None:
        if self.stage is not Stage.BEGINNING:
            return
        if event.good:
            self.stage, self._gave_ms, self._parts, self._offer = Stage.CHUNKS, now_ms, None, None
            self._offers.clear()
        else:  # nobody's fault but ours
            self.stage, self._stopped_until_ms = Stage.PLAN, now_ms + limits.RETRY_MS

    def missing(self, event: events.Missing, _now_ms: int) -> None:
        if self.stage is not Stage.CHUNKS:
            return
        self._is_looking = False
        asked = {ask.prefix for ask in self._asks.values()} | self._keeping
        self._window = [prefix for prefix in event.prefixes if prefix not in asked]
        self._is_all = len(event.prefixes) < limits.WINDOW
        if not event.prefixes:
            self.stage = Stage.FINISHING
            self._out.append(events.Finish())

    def chunk_came(self, event: events.ChunkCame, now_ms: int) -> None:
        ask = self._asks.pop(event.ask, None)
        if ask is None or ask.prefix is None or self.stage is not Stage.CHUNKS:
            return
        self._gave_ms = now_ms
        if ask.prefix not in self._keeping:
            self._keeping.add(ask.prefix)
            self._out.append(events.Take(ask.peer, ask.prefix, Chunk(event.told.entries)))

    def taken_in(self, event: events.Taken, now_ms: int) -> None:
        self._keeping.discard(event.prefix)
        if event.verdict is Verdict.TRUE:
            self.taken += 1
            if (peer := self._peers.get(event.peer)) is not None:
                peer.rest_ms = limits.REST_MS
            if event.prefix in self._window:
                self._window.remove(event.prefix)
            return
        self._miss(event.prefix)
        if event.verdict is Verdict.LIE:
            self._lie(event.peer, "a chunk that is not of the state", now_ms)
        else:
            self._stopped_until_ms = now_ms + limits.RETRY_MS

    def finished(self, event: events.Finished, now_ms: int) -> None:
        if event.verdict is Verdict.TRUE:
            self.stage = Stage.DONE
        elif event.verdict is Verdict.LIE:
            self._start_over(now_ms)
        else:
            self.stage, self._is_all, self._stopped_until_ms = Stage.CHUNKS, False, now_ms + limits.RETRY_MS

    def ticked(self, event: events.Ticked, _now_ms: int) -> None:
        self._draw = event.draw

    # -- what to do next --------------------------------------------------------------------------------------------------------

    def advance(self, now_ms: int) -> None:
        """Everything that can be done now."""
        passed_ms, self._now_ms = now_ms - self._now_ms, now_ms
        if not any(peer.is_here for peer in self._peers.values()):
            self._gave_ms = min(now_ms, self._gave_ms + passed_ms)  # it stands still while there is nobody to ask
        if now_ms < self._stopped_until_ms:
            return
        if self.stage is Stage.OFFERS:
            self._ask_offers(now_ms)
        elif self.stage is Stage.PLAN:
            self._ask_plan(now_ms)
        elif self.stage is Stage.CHUNKS:
            self._ask_chunks(now_ms)

    def _ask_offers(self, now_ms: int) -> None:
        asked = {ask.peer for ask in self._asks.values()}
        for name in self._askable(now_ms):
            if len(asked | self._offers.keys()) >= limits.OFFERS_MAX:
                break
            if name not in asked and name not in self._offers:
                asked.add(name)
                self._ask(name, SnapshotAsk(NEWEST, 0), None, now_ms)
        if self._offers and (not asked or now_ms - self._offered_ms >= limits.OFFERS_MS):
            had = Counter(told.root for told in self._offers.values())

            def rank(name: bytes) -> tuple[object, ...]:
                told = self._offers[name]
                height = told.offer.block.height if told.offer is not None else 0
                return -had[told.root], -height, self._order(name)

            self._source = min(self._offers, key=rank)
            told = self._offers[self._source]
            assert told.offer is not None, "those without have been sent away"
            self.stage = Stage.CHECKING
            self._out.append(events.Check(self._source, told.root, told.offer))

    def _ask_plan(self, now_ms: int) -> None:
        assert self._parts is not None
        source = self._peers.get(self._source)
        if self._parts.is_whole and self._keeping:
            return  # chunks of another state are on their way to the disk
        if self._parts.is_whole:
            assert self._offer is not None
            self.stage = Stage.BEGINNING
            self._window, self._is_looking, self._is_all = [], False, False
            self._out.append(events.Begin(self.root, self._offer, Plan(tuple(self._parts.nodes))))
        elif source is None or not source.is_here or source.rests_until_ms > now_ms:
            self._start_over(now_ms)
        elif not any(ask.peer == self._source for ask in self._asks.values()):
            self._ask(self._source, SnapshotAsk(self.root, len(self._parts.nodes)), None, now_ms)

    def _ask_chunks(self, now_ms: int) -> None:
        chunks = [ask for ask in self._asks.values() if ask.prefix is not None]
        is_idle = not chunks and not self._keeping
        if not self._window and not self._is_looking and (is_idle or not self._is_all):
            self._is_looking = True
            self._out.append(events.Look(limits.WINDOW))
        here = [peer for peer in self._peers.values() if peer.is_here]
        is_gone = bool(here) and all(peer.has_not == self.root for peer in here)
        if here and is_idle and self._window and (is_gone or now_ms - self._gave_ms > limits.GONE_MS):
            self._start_over(now_ms)
            return
        room = limits.CHUNK_ASKS_MAX - len(chunks) - len(self._keeping)
        busy = Counter(ask.peer for ask in chunks)
        late = [ask.prefix for ask in chunks if ask.prefix is not None and now_ms - ask.asked_ms >= limits.CHUNK_MS]
        asked = Counter(ask.prefix for ask in chunks)
        wanted = [*(prefix for prefix in late if asked[prefix] == 1), *self._window[:room]]
        for prefix in wanted[: max(0, room)]:
            name = self._holder(prefix, busy, now_ms)
            if name is None:
                continue
            if prefix in self._window:
                self._window.remove(prefix)
            busy[name] += 1
            self._ask(name, ChunkAsk(self.root, prefix), prefix, now_ms)

    def _holder(self, prefix: bytes, busy: Counter[bytes], now_ms: int) -> bytes | None:
        for name in sorted(self._askable(now_ms), key=lambda name: busy[name]):
            is_asked = any(ask.peer == name and ask.prefix == prefix for ask in self._asks.values())
            if self._peers[name].has_not != self.root and busy[name] < limits.CHUNK_ASKS_PEER_MAX and not is_asked:
                return name
        return None

    def _start_over(self, now_ms: int) -> None:
        """Look for another state; of the one that was on its way, what is on the disk stays there until then."""
        self._rest(self._source, now_ms)
        for peer in self._peers.values():
            peer.has_not = b""
        self.stage, self._source, self._parts, self._offer = Stage.OFFERS, b"", None, None
        self._offers.clear()
        self._asks.clear()
        self._window, self._is_looking, self._is_all = [], False, False

    def _ask(self, name: bytes, message: SnapshotAsk | ChunkAsk, prefix: bytes | None, now_ms: int) -> None:
        self._next += 1
        self._asks[self._next] = _Ask(name, prefix, now_ms)
        self._out.append(events.Ask(name, self._next, message, limits.ANSWER_MS))

    # -- peers ------------------------------------------------------------------------------------------------------------------

    def _order(self, name: bytes) -> tuple[object, ...]:
        """Who failed the least first, those alike in an order that is drawn."""
        return self._peers[name].rest_ms, int.from_bytes(name[:8], "big") ^ self._draw, name

    def _askable(self, now_ms: int) -> list[bytes]:
        return sorted((name for name, peer in self._peers.items() if peer.is_here and peer.rests_until_ms <= now_ms), key=self._order)

    def _rest(self, name: bytes, now_ms: int, least_ms: int = 0) -> None:
        if (peer := self._peers.get(name)) is not None:
            is_resting = peer.rests_until_ms > now_ms  # several questions that end together are one failure
            peer.rests_until_ms = max(peer.rests_until_ms, now_ms + max(0 if is_resting else peer.rest_ms, least_ms))
            peer.rest_ms = peer.rest_ms if is_resting else min(limits.REST_MAX_MS, 2 * peer.rest_ms)

    def _lie(self, name: bytes, why: str, now_ms: int) -> None:
        if (peer := self._peers.get(name)) is not None:
            peer.rests_until_ms = now_ms + limits.LIE_REST_MS
        self._offers.pop(name, None)
        self._out.append(events.Charge(name, why))
        if self.stage is Stage.PLAN and name == self._source:
            self._start_over(now_ms)

    def take_effects(self) -> list[Effect]:
        """The effects of the last event, in order."""
        out, self._out = self._out, []
        return out


_HANDLERS: dict[type, Callable[..., None]] = {
    events.Resumed: Snapshot.resumed,
    events.PeerFound: Snapshot.peer_found,
    events.PeerLost: Snapshot.peer_lost,
    events.PlanCame: Snapshot.plan_came,
    events.ChunkCame: Snapshot.chunk_came,
    events.Refused: Snapshot.refused,
    events.Checked: Snapshot.checked,
    events.Began: Snapshot.began,
    events.Missing: Snapshot.missing,
    events.Taken: Snapshot.taken_in,
    events.Finished: Snapshot.finished,
    events.Ticked: Snapshot.ticked,
}


def step(state: Snapshot, event: Event, now_ms: int) -> list[Effect]:
    """Take an event; return what it leads to, in order."""
    _HANDLERS[type(event)](state, event, now_ms)
    state.advance(now_ms)
    return state.take_effects()
