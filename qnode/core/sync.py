"""Getting the chain from others: whom to ask for what, and what of the answers to believe (`proto/spec/sync.md`).

`step(state, event, now_ms) -> effects`. Theory of operation. One peer, the *giver*, is asked for the blocks above ours and keeps the
question until there are some; a few others, the *watches*, are only asked how far they are, so that a giver that keeps blocks from us is
found out. What a giver answers is a *run*: headers, each the parent of the next, and a certificate of our own rotation's set for the last.
Only when its signatures hold, anything is done about it: the transactions are looked for here, asked for in parts, checked by their ids,
and the blocks handed on in order. Then our head moves, and it begins anew. Nobody is believed; whoever says what cannot be is charged.

All randomness is in the draws of `Ticked`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from qnode.core import sync_events as events
from qnode.core import sync_limits as limits
from qnode.core.consensus_events import Final
from qnode.core.sync_events import Effect, Event, Head
from qnode.core.sync_run import Body, Run, fits, read
from qustream.wire.consensus import BLOCK_TRANSACTIONS_MAX
from qustream.wire.sync import HEADERS_MAX, BlocksAnswer

__all__ = ["Sync", "step"]


@dataclass(slots=True)
class _Peer:
    """What a peer did. `told`: the height it spoke of last, `answered_ms`: when it did; `took_ms`: how long its last part of a body took
    or "later" instead; `rests_until_ms`: nothing is asked of it before; `watched_ms`: when it was asked last how far it is."""

    told: int = 0
    took_ms: int = 0
    rests_until_ms: int = 0
    rest_ms: int = limits.REST_MS
    watched_ms: int = -limits.WATCH_REST_MS
    answered_ms: int = 0
    is_here: bool = True


@dataclass(frozen=True, slots=True)
class _Ask:
    """What is asked for. `head`: ours, when it was; `most`: 0 for a watch; `height`: of a body, else 0."""

    peer: bytes
    head: Head
    most: int
    height: int
    asked_ms: int
    part: range = range(0)


class Sync:
    """The state of one node. Use `step`; the properties are for displays and tests."""

    def __init__(self, chain: str) -> None:
        self._chain = chain
        self._head: Head | None = None
        self._moved_ms = 0
        self._peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self._asks: dict[int, _Ask] = {}
        self._next = 0
        self._draw = 0
        self._giver = b""
        self._run: Run | None = None
        self._is_finalising = False
        self._stopped_until_ms = 0
        self._out: list[Effect] = []

    # -- for displays ---------------------------------------------------------------------------------------------------------

    @property
    def told(self) -> int:
        """The greatest height that a peer that is here speaks of. Nobody's word is checked."""
        return max((peer.told for peer in self._peers.values() if peer.is_here), default=0)

    @property
    def spoken(self) -> int:
        """The height that two peers at least speak of; the one that there is, if there is only one. A claim, too, but no single one's."""
        told = sorted((peer.told for peer in self._peers.values() if peer.is_here and peer.told), reverse=True)
        return told[min(1, len(told) - 1)] if told else 0

    @property
    def giver(self) -> bytes:
        """Whose run was verified last; empty if it has not given since."""
        return self._giver

    @property
    def sizes(self) -> dict[str, int]:
        """How much of everything bounded there is."""
        bodies = sum(1 for ask in self._asks.values() if ask.height)
        run = len(self._run.blocks) + len(self._run.tail) if self._run is not None else 0
        return {"peers": len(self._peers), "asks": len(self._asks), "bodies": bodies, "run": run}

    # -- events ---------------------------------------------------------------------------------------------------------------

    def moved(self, event: events.Moved, now_ms: int) -> None:
        """What of the run lies below is done."""
        if self._head is None or event.head.height > self._head.height:
            self._moved_ms = now_ms
        self._head = event.head
        run = self._run
        if run is None:
            return
        if run.rotation != event.head.rotation or event.head.height >= run.height:
            self._run, self._is_finalising = None, False
        elif event.head.height >= run.first_height:
            place = event.head.height - run.first_height
            if run.blocks[place].final.digest != event.head.digest:
                self._run, self._is_finalising = None, False
            elif not self._is_finalising:
                del run.blocks[: place + 1]

    def peer_found(self, event: events.PeerFound, _now_ms: int) -> None:
        peer = self._peers.get(event.peer)
        if peer is not None:
            peer.is_here = True
            return
        self._peers[event.peer] = _Peer()
        while len(self._peers) > limits.PEERS_MAX:
            gone = next((name for name, each in self._peers.items() if not each.is_here), next(iter(self._peers)))
            self._lose(gone)
            del self._peers[gone]

    def peer_lost(self, event: events.PeerLost, _now_ms: int) -> None:
        self._lose(event.peer)

    def _lose(self, name: bytes) -> None:
        peer = self._peers.get(name)
        if peer is not None:
            peer.is_here, peer.told = False, 0
        for number in [number for number, ask in self._asks.items() if ask.peer == name]:
            self._forget(number)

    def _forget(self, number: int) -> _Ask | None:
        ask = self._asks.pop(number, None)
        if ask is not None and ask.height and (body := self._body(ask.height)) is not None:
            body.asked.pop(ask.peer, None)
        return ask

    def refused(self, event: events.Refused, now_ms: int) -> None:
        ask = self._forget(event.ask)
        if ask is None:
            return
        if event.is_lie:
            self._lie(ask.peer, "an answer that is none", now_ms)
        elif ask.height and not event.after_ms and (body := self._body(ask.height)) is not None:
            body.without.add(ask.peer)
            self._rest(ask.peer, now_ms)
        elif event.after_ms:
            self._later(ask, now_ms, event.after_ms)
        else:
            self._rest(ask.peer, now_ms)

    def blocks_told(self, event: events.BlocksTold, now_ms: int) -> None:
        ask, head = self._forget(event.ask), self._head
        if ask is None or head is None:
            return
        answer, peer = event.answer, self._peers[event.peer]
        # Whoever counts down was restored from a backup, or lies: then it is found out by what it does not give.
        peer.told, peer.answered_ms = answer.height, now_ms
        if not ask.most:
            return
        if not answer.headers:
            # That there is no block is worth nothing; to have told of one and not to give it is no lie yet.
            self._giver = b"" if self._giver == ask.peer else self._giver
            if answer.height > ask.head.height:
                self._rest(ask.peer, now_ms)
            return
        blocks = read(answer, ask.head, self._chain)
        if isinstance(blocks, str):
            self._lie(event.peer, blocks, now_ms)
        elif self._run is None and ask.head.rotation == head.rotation:
            self._begin(event.peer, answer, blocks, head)

    def _begin(self, peer: bytes, answer: BlocksAnswer, blocks: list[Final], head: Head) -> None:
        """A run, from our head on: others may have brought us on since it was asked for."""
        certificate = answer.certificate
        known = {place for place, final in enumerate(blocks) if place < len(answer.ids) or not final.header.count}
        end = next(
            (place for place in range(1, len(blocks)) if blocks[place].header.height == blocks[place - 1].header.height), len(blocks)
        )
        bodies = [Body(final, place in known) for place, final in enumerate(blocks[:end]) if final.header.height > head.height]
        if not bodies or certificate is None or (bodies[0].final.header.parent != head.digest):
            return
        tail = tuple(final.header for final in blocks[end:])
        self._next += 1
        self._run = Run(self._next, peer, head.rotation, certificate, bodies, tail)
        self._out.append(events.Verify(self._next, certificate))

    def verified(self, event: events.Verified, now_ms: int) -> None:
        run = self._run
        if run is None or run.number != event.run:
            return
        if not event.good:
            self._run = None
            self._lie(run.peer, "a certificate with a signature that does not hold", now_ms)
            return
        run.is_verified = True
        self._giver = run.peer
        self._peers[run.peer].rest_ms = limits.REST_MS

    def found(self, event: events.Found, _now_ms: int) -> None:
        body = self._body(event.height)
        if body is not None and body.missing is None:
            body.missing = set(event.missing) - body.keeping

    def body_told(self, event: events.BodyTold, now_ms: int) -> None:
        ask = self._forget(event.ask)
        body = self._body(ask.height) if ask is not None else None
        if ask is None or body is None:
            return
        header, answer = body.final.header, event.answer
        self._peers[ask.peer].took_ms = now_ms - ask.asked_ms
        if not body.is_known:
            if not fits(header, answer.ids):
                self._lie(ask.peer, "ids that are not those of the block", now_ms)
                return
            body.final, body.is_known, body.looked = Final(body.final.digest, header, answer.ids), True, False
        if not event.names or event.names != body.final.ids[ask.part.start : ask.part.stop][: len(event.names)]:
            self._lie(ask.peer, "transactions that are not those of the block", now_ms)
            return
        self._peers[ask.peer].rest_ms = limits.REST_MS
        new = body.take(range(ask.part.start, ask.part.start + len(event.names)))
        if new:
            places = [number - ask.part.start for number in new]
            names, raw = tuple(event.names[place] for place in places), tuple(answer.transactions[place] for place in places)
            self._out.append(events.Keep(header.height, tuple(new), names, raw))

    def kept(self, event: events.Kept, _now_ms: int) -> None:
        body = self._body(event.height)
        if body is not None:
            body.keeping.difference_update(event.numbers)

    def not_finalised(self, _event: events.NotFinalised, now_ms: int) -> None:
        """Nobody's fault but ours; what was fetched is on disk."""
        self._run, self._is_finalising = None, False
        self._stopped_until_ms = now_ms + limits.RETRY_MS

    def ticked(self, event: events.Ticked, _now_ms: int) -> None:
        self._draw = event.draw

    # -- what to do next --------------------------------------------------------------------------------------------------------

    def advance(self, now_ms: int) -> None:
        """Everything that can be done now."""
        head = self._head
        if head is None or now_ms < self._stopped_until_ms:
            return
        if self._run is not None:
            if self._run.is_verified:
                self._fetch(self._run, head, now_ms)
                self._hand_on(self._run)
        else:
            self._ask_givers(head, now_ms)
        self._ask_watches(head, now_ms)

    def _fetch(self, run: Run, head: Head, now_ms: int) -> None:
        window = [body for body in run.blocks if not body.is_here][: limits.BODIES_AHEAD]
        for body in window:
            if body.is_known and not body.looked and not body.keeping:
                body.looked = True
                if body.final.ids:
                    self._out.append(events.Look(body.final.header.height, body.final.ids))
                else:
                    body.missing = set()
        for body in window:
            while sum(1 for ask in self._asks.values() if ask.height) < limits.BODY_ASKS_MAX:
                gap = body.next_gap(BLOCK_TRANSACTIONS_MAX, now_ms - limits.BODY_MS)
                if gap is None or not self._ask_body(body, gap, head, now_ms):
                    break

    def _ask_body(self, body: Body, gap: range, head: Head, now_ms: int) -> bool:
        asked = Counter(ask.peer for ask in self._asks.values() if ask.height)
        free = [name for name in self._askable(now_ms) if asked[name] < limits.BODY_ASKS_PEER_MAX and name not in body.asked]
        if free and all(name in body.without for name in free):
            body.without.clear()
            return False
        best = next((name for name in free if name not in body.without), None)
        if best is None:
            return False
        body.asked[best] = (gap, now_ms)
        height = body.final.header.height
        number = self._remember(_Ask(best, head, 0, height, now_ms, gap))
        self._out.append(events.AskBody(best, number, height, gap.start, len(gap), limits.ANSWER_MS))
        return True

    def _hand_on(self, run: Run) -> None:
        if run.is_here and not self._is_finalising:
            self._is_finalising = True
            self._out.append(events.Finalise(tuple(body.final for body in run.blocks), run.certificate, run.tail))

    def _ask_givers(self, head: Head, now_ms: int) -> None:
        """Of whoever told of more blocks; else of one, that waits for the next."""
        givers = {ask.peer: ask.asked_ms for ask in self._asks.values() if ask.most}
        # One after the other: all give the same.
        most = min(limits.GIVERS_MAX, 1 + (now_ms - min(givers.values(), default=now_ms)) // limits.GIVER_MS)
        lag = limits.VALIDATOR_LAG_BLOCKS if head.is_validator and not self._is_stale(now_ms) else 0
        for name in self._askable(now_ms):
            if len(givers) < most and name not in givers and self._peers[name].told > head.height + lag:
                givers[name] = now_ms
                self._ask_blocks(name, head, head.height, HEADERS_MAX, now_ms)
        if not givers and not head.is_validator:
            best = next(iter(self._askable(now_ms)), None)
            if best is not None:
                self._ask_blocks(best, head, head.height, HEADERS_MAX, now_ms)

    def _ask_watches(self, head: Head, now_ms: int) -> None:
        is_stale = self._is_stale(now_ms)
        most, above = (limits.WATCHES_STALE, head.height) if is_stale else (limits.WATCHES, head.height + limits.LAG_BLOCKS)
        asked = {ask.peer for ask in self._asks.values() if not ask.height}
        watches = sum(1 for ask in self._asks.values() if not ask.height and not ask.most)
        for name in reversed(self._askable(now_ms)):  # the least likely givers, so that all get their turn
            if watches >= most:
                return
            peer = self._peers[name]
            if name not in asked and now_ms - peer.watched_ms >= limits.WATCH_REST_MS and peer.told <= above:
                watches += 1
                peer.watched_ms = now_ms
                self._ask_blocks(name, head, above, 0, now_ms)

    def _is_stale(self, now_ms: int) -> bool:
        return now_ms - self._moved_ms > limits.STALE_MS

    def _ask_blocks(self, name: bytes, head: Head, above: int, most: int, now_ms: int) -> None:
        number = self._remember(_Ask(name, head, most, 0, now_ms))
        wait_ms = limits.WAIT_MS if self._peers[name].told <= above else 0
        self._out.append(events.AskBlocks(name, number, above, most, wait_ms, wait_ms + limits.ANSWER_MS))

    def _remember(self, ask: _Ask) -> int:
        self._next += 1
        self._asks[self._next] = ask
        return self._next

    # -- peers ------------------------------------------------------------------------------------------------------------------

    def _askable(self, now_ms: int) -> list[bytes]:
        """Peers that can be asked, the giver first, then who failed the least, those alike in an order that is drawn."""
        found = [name for name, peer in self._peers.items() if peer.is_here and peer.rests_until_ms <= now_ms]

        def order(name: bytes) -> tuple[object, ...]:
            peer = self._peers[name]
            return name != self._giver, peer.rest_ms, peer.took_ms // limits.ALIKE_MS, int.from_bytes(name[:8], "big") ^ self._draw, name

        return sorted(found, key=order)

    def _body(self, height: int) -> Body | None:
        return self._run.body(height) if self._run is not None else None

    def _rest(self, name: bytes, now_ms: int) -> None:
        peer = self._peers[name]
        peer.rests_until_ms = now_ms + min(limits.REST_MAX_MS, peer.rest_ms)
        peer.rest_ms = min(limits.REST_MAX_MS, 2 * peer.rest_ms)
        peer.told = 0
        if self._giver == name:
            self._giver = b""

    def _later(self, ask: _Ask, now_ms: int, after_ms: int) -> None:
        """No failure, nor does it make up for one; and it is as far as it said, unless it never says anything else."""
        peer = self._peers[ask.peer]
        peer.rests_until_ms = max(peer.rests_until_ms, now_ms + min(limits.REST_MAX_MS, max(peer.rest_ms, after_ms)))
        peer.took_ms = now_ms - ask.asked_ms if ask.height else peer.took_ms  # as slow as if it had given a part
        peer.told = 0 if now_ms - peer.answered_ms > limits.TOLD_MS else peer.told
        self._giver = b"" if self._giver == ask.peer else self._giver

    def _lie(self, name: bytes, why: str, now_ms: int) -> None:
        peer = self._peers[name]
        self._rest(name, now_ms)
        peer.rests_until_ms = now_ms + limits.LIE_REST_MS
        self._out.append(events.Charge(name, why))

    def take_effects(self) -> list[Effect]:
        """The effects of the last event, in order."""
        out, self._out = self._out, []
        return out


_HANDLERS: dict[type, Callable[..., None]] = {
    events.Moved: Sync.moved,
    events.PeerFound: Sync.peer_found,
    events.PeerLost: Sync.peer_lost,
    events.BlocksTold: Sync.blocks_told,
    events.BodyTold: Sync.body_told,
    events.Refused: Sync.refused,
    events.Verified: Sync.verified,
    events.Found: Sync.found,
    events.Kept: Sync.kept,
    events.NotFinalised: Sync.not_finalised,
    events.Ticked: Sync.ticked,
}


def step(state: Sync, event: Event, now_ms: int) -> list[Effect]:
    """Take an event; return what it leads to, in order."""
    _HANDLERS[type(event)](state, event, now_ms)
    state.advance(now_ms)
    return state.take_effects()
