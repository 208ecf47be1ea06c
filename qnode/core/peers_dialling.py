"""Whom a node dials, and when (`proto/spec/peers.md`, §2, §3 and §5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qnode.core import peers_limits as limits
from qnode.core.chance import Chance
from qnode.core.peers_attempts import Attempts
from qnode.core.peers_book import AddressBook
from qnode.core.peers_candidates import Candidates, Fit, Taken
from qnode.core.peers_events import Dial, Purpose
from qnode.core.peers_link import Links
from qnode.core.peers_network import Network

__all__ = ["Dialling", "Wanted"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """For displays: a node we want a link to and have none. `addresses`: in the order they are tried in; `next_ms`: not dialled
    before; 0: it is being dialled."""

    peer: bytes
    addresses: tuple[str, ...]
    purpose: Purpose
    failures: int
    code: str
    next_ms: int


class Dialling:
    """`under_way`: dials that have not been answered. `grey`: whom we want nothing of, until when. `rotates`: one more link is drawn than
    there is room for, and the oldest will go."""

    def __init__(self, network: Network, links: Links, chance: Chance, anchors: tuple[bytes, ...]) -> None:
        self.book, self.attempts = AddressBook(), Attempts()
        self.candidates = Candidates(self.book, self.attempts)
        self.under_way: dict[bytes, Purpose] = {}
        self.grey: dict[bytes, int] = {}
        self.rotates = False
        self._network, self._links, self._chance = network, links, chance
        self._first = list(anchors)  # to be dialled before anybody else
        self._not_before: dict[bytes, int | None] = {}  # newly assigned -> when; None: at a moment that is still to be drawn
        self._rotate_ms = self._feeler_ms = -1  # -1: the clock has not been looked at yet
        self._unlisted_ms = 0
        self._out: list[Dial] = []

    def changed(self, assigned_before: tuple[bytes, ...], records_from_ms: int, *, is_first: bool) -> None:
        """The network is another. At a start nothing is put off: others are in the midst of their epoch."""
        nodes = self._network.nodes
        fresh = [peer for peer in self._network.assigned if peer not in assigned_before or peer in self._not_before]
        self._not_before = {} if is_first else dict.fromkeys(fresh)
        self.book.changed(nodes, records_from_ms)
        self.attempts.keep(nodes)
        self.candidates.changed(nodes, self._network.own)
        self._first = [peer for peer in self._first if self._network.is_known(peer)]

    def linked(self, peer: bytes) -> None:
        """It is: whatever was planned for it is done."""
        self._first = [each for each in self._first if each != peer]
        self._not_before.pop(peer, None)

    @property
    def _is_alone(self) -> bool:
        return not len(self._links)

    def wanted(self) -> list[Wanted]:
        """Who is being dialled, then the assigned and meshed nodes that are waited for, the soonest first."""
        rows = [self._row(peer, purpose, 0) for peer, purpose in self.under_way.items() if purpose is not Purpose.FEELER]
        later: list[Wanted] = []
        for peer in dict.fromkeys((*self._network.assigned, *self._network.meshed)):
            if peer not in self._links and peer not in self.under_way:
                purpose = self._network.purpose(peer)
                ready_ms = self.attempts.ready_ms(peer, purpose, self._is_alone)
                later.append(self._row(peer, purpose, max(ready_ms, self.grey.get(peer, 0), self._not_before.get(peer) or 0, 1)))
        return rows + sorted(later, key=lambda row: (row.next_ms, row.peer))

    def _row(self, peer: bytes, purpose: Purpose, next_ms: int) -> Wanted:
        attempt = self.attempts.of(peer)
        failures, code = (attempt.failures, attempt.code) if attempt else (0, "")
        return Wanted(peer, self.book.addresses(peer), purpose, failures, code, next_ms)

    # --- the plan

    def plan(self, now_ms: int) -> list[Dial]:
        """Whatever is wanted and may be dialled now, as far as the bound allows."""
        if self._rotate_ms < 0:
            self._rotate_ms, self._feeler_ms = now_ms + limits.ROTATE_MS, now_ms + self._chance.about(limits.FEELER_MS)
        for peer in [peer for peer, until_ms in self.grey.items() if until_ms <= now_ms]:
            del self.grey[peer]
        for peer, due_ms in self._not_before.items():
            if due_ms is None:
                self._not_before[peer] = now_ms + self._chance.below(limits.SPREAD_MS)
        most = limits.DIALS_MAX
        if not self._network.is_listed:
            most = 1 if now_ms >= self._unlisted_ms else 0
            self._unlisted_ms = now_ms + limits.UNLISTED_DIAL_MS if most else self._unlisted_ms
        for part in (self._dial_anchors, self._dial_assigned, self._dial_meshed, self._dial_chosen, self._dial_feeler):
            part(most, now_ms)
        out, self._out = self._out, []
        return out

    def _is_free(self, peer: bytes) -> bool:
        return peer not in self._links and peer not in self.under_way and peer not in self.grey

    def _dial(self, peer: bytes, purpose: Purpose, addresses: tuple[str, ...], now_ms: int) -> None:
        self.attempts.tried(peer, now_ms)
        self.under_way[peer] = purpose
        self._out.append(Dial(peer, purpose, addresses))

    def _may_dial(self, peer: bytes, purpose: Purpose, now_ms: int) -> bool:
        return self._is_free(peer) and self.attempts.ready_ms(peer, purpose, self._is_alone) <= now_ms

    def _taken(self, *, by_assigned: bool = False) -> Taken:
        """What links and dials hold: all of them, or the assigned ones alone, which nothing chosen stands in the way of."""
        taken = Taken.by(link for link in self._links.outbound() if link.assigned or not by_assigned)
        for peer, purpose in self.under_way.items():
            if purpose is Purpose.ASSIGNED or (purpose is Purpose.CHOSEN and not by_assigned):
                self._take(taken, peer)
        return taken

    def _take(self, taken: Taken, peer: bytes) -> None:
        if peer in self._network.nodes:
            taken.add(self._network.nodes[peer].operator, self.book.prefixes(peer))

    def _under_rule(self, taken: Taken, peer: bytes) -> tuple[str, ...]:
        """The addresses at which a link to it would keep the rule."""
        if self.candidates.fit(peer, taken) is not Fit.ABIDES:
            return ()
        return self.book.outside(peer, taken.prefixes)

    def _dial_anchors(self, most: int, now_ms: int) -> None:
        for peer in self._first:
            if len(self.under_way) < most and self._missing()[0] > 0 and self._may_dial(peer, Purpose.CHOSEN, now_ms):
                purpose = self._network.purpose(peer)
                if addresses := self._under_rule(self._taken(), peer):
                    self._dial(peer, purpose, addresses, now_ms)

    def _dial_assigned(self, most: int, now_ms: int) -> None:
        for peer in self._network.assigned:
            is_due = (self._not_before.get(peer) or 0) <= now_ms and self._may_dial(peer, Purpose.ASSIGNED, now_ms)
            if len(self.under_way) < most and is_due and (addresses := self._under_rule(self._taken(by_assigned=True), peer)):
                self._dial(peer, self._network.purpose(peer), addresses, now_ms)

    def _dial_meshed(self, most: int, now_ms: int) -> None:
        for peer in self._network.meshed:
            if len(self.under_way) < most and self._may_dial(peer, Purpose.MESHED, now_ms) and (addresses := self.book.addresses(peer)):
                self._dial(peer, Purpose.MESHED, addresses, now_ms)

    def _missing(self) -> tuple[int, int]:
        """How many chosen links are to be drawn: under the rule; and at all, spare ones too."""
        outbound = self._links.outbound()
        counted = sum(not link.spare for link in outbound)
        # Assigned nodes that have not failed yet will come; a place is kept for them.
        coming = sum(purpose in (Purpose.ASSIGNED, Purpose.CHOSEN) for purpose in self.under_way.values()) + len(self._hoped_for())
        return limits.OUTBOUND_MAX - counted - coming, limits.OUTBOUND_MAX - len(outbound) - coming

    def _hoped_for(self) -> list[bytes]:
        """The assigned nodes that are still to be dialled as such."""
        free = [peer for peer in self._network.assigned if self._is_free(peer) and peer not in self._network.meshed]
        free = [peer for peer in free if (attempt := self.attempts.of(peer)) is None or not attempt.failures]
        if not free:
            return []
        taken = self._taken(by_assigned=True)
        return [peer for peer in free if self._under_rule(taken, peer)]

    def _dial_chosen(self, most: int, now_ms: int) -> None:
        if len(self.under_way) >= most or self.candidates.is_paused(now_ms):
            return
        missing, missing_at_all = self._missing()
        if missing == 0 and now_ms >= self._rotate_ms:
            self.rotates = True
        if self.rotates:
            missing += 1  # and one more: the oldest will go
        if missing <= 0:
            return
        taken, expected = self._taken(), {*self._hoped_for(), *self._network.meshed}
        is_free: Callable[[bytes], bool] = lambda peer: self._is_free(peer) and peer not in expected  # noqa: E731
        while len(self.under_way) < most and missing > 0:
            peer = self.candidates.draw(is_free, taken, self._chance, now_ms, spare=missing_at_all > 0, alone=self._is_alone)
            if peer is None:
                return
            self._dial(peer, Purpose.CHOSEN, self._under_rule(taken, peer) or self.book.addresses(peer), now_ms)
            self._take(taken, peer)
            missing, missing_at_all = missing - 1, missing_at_all - 1

    def rotated(self, now_ms: int) -> None:
        """The oldest has gone, or there was nobody to go."""
        self.rotates, self._rotate_ms = False, now_ms + limits.ROTATE_MS

    def _dial_feeler(self, most: int, now_ms: int) -> None:
        if len(self.under_way) >= most or now_ms < self._feeler_ms:
            return
        self._feeler_ms = now_ms + limits.FEELER_MS
        if (peer := self.candidates.draw_feeler(self._is_free, self._chance, now_ms)) is not None:
            self._dial(peer, Purpose.FEELER, self.book.addresses(peer), now_ms)
