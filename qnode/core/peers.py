"""Peers: which nodes this one is linked to, whom it dials, whom it lets in (`proto/spec/peers.md`).

`step(state, event, now_ms) -> effects`. Theory of operation. A node is *known* (in the registry) or nobody. Of the known,

    (wanted) ──Dial──▶ dialling ──LinkMade──▶ linked, ours ──LinkLost──▶ dialled again, or another drawn
                           └──DialFailed──▶ in back-off                            LinkAsked ──▶ linked, theirs, or refused

Nothing is dialled but on a tick, so whatever fails at once, time goes on. Of our own links the ones that count are told from the spare
ones anew whenever one comes or goes (`peers_outbound`); who holds a place here is decided when somebody asks (`peers_places`). A link
that goes is hung up before the one that takes its place is admitted.

Nothing here connects, reads a clock or draws a number: `now_ms` is any clock that does not jump, randomness comes with `Ticked`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from qnode.core import peers_limits as limits
from qnode.core import peers_places as places
from qnode.core.chance import Chance
from qnode.core.peers_dialling import Dialling, Wanted
from qnode.core.peers_events import (
    AddressesLearnt,
    Admit,
    AskDialBack,
    DialBackTold,
    DialFailed,
    Effect,
    Event,
    Expelled,
    HangUp,
    KeepAnchors,
    LinkAsked,
    LinkLost,
    LinkMade,
    NetworkChanged,
    Purpose,
    Refuse,
    Ticked,
)
from qnode.core.peers_link import Links, PeerLink
from qnode.core.peers_network import Network
from qnode.core.peers_outbound import judge, to_leave
from qnode.core.peers_reach import Reach
from qustream.errors import CODES

__all__ = ["Peers", "Wanted", "step"]

UNLICENSED, LIMIT = "E-PEER-UNLICENSED", "E-PEER-LIMIT"


class Peers:
    """The state of one node's links. Use `step`; the attributes and properties are for displays and tests. `anchors`: what the disk has.

    `dialled`: dials by what came of them, "reached" or a code; `refused`: by code. `is_lonely`: others are known, and no link has stood for
    a while."""

    def __init__(self, node_id: bytes, anchors: tuple[bytes, ...] = ()) -> None:
        self.node_id = node_id
        self.anchors = tuple(dict.fromkeys(anchors))[: limits.ANCHORS_MAX]
        self.network, self.links, self.reach = Network(node_id), Links(), Reach()
        self.is_lonely = False
        self.dialled: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._chance = Chance()
        self._dialling = Dialling(self.network, self.links, self._chance, self.anchors)
        self._alone_ms = -1  # since when; -1: we are not
        self._anchors_ms = 0  # when to look at them again
        self._out: list[Effect] = []

    @property
    def sizes(self) -> dict[str, int]:
        """How much of everything bounded there is."""
        outbound, dialling = self.links.outbound(), self._dialling
        return {
            "known": len(dialling.candidates), "links": len(self.links), "outbound": len(outbound),
            "spare": sum(link.spare for link in outbound), "inbound": sum(not link.ours for link in self.links),
            "places": len(self.links.placed()), "dials": len(dialling.under_way), "attempts": len(dialling.attempts),
            "records": len(dialling.book), "grey": len(dialling.grey), "anchors": len(self.anchors),
        }  # fmt: skip

    @property
    def unreached(self) -> int:
        """Known nodes that did not answer when they were last dialled, and are not linked."""
        return sum(peer not in self.links for peer in self._dialling.attempts.failing())

    @property
    def next_dials(self) -> list[Wanted]:
        """Who is being dialled, then the assigned and meshed nodes that are waited for, the soonest first."""
        return self._dialling.wanted()

    def addresses(self, node: bytes) -> tuple[str, ...]:
        """Where a known node is dialled, in turn."""
        return self._dialling.book.addresses(node)

    # --- the registry

    def network_changed(self, event: NetworkChanged, now_ms: int) -> None:
        is_first, before = not self.network.nodes, self.network.assigned
        self.network.changed(event)
        self._dialling.changed(before, event.records_from_ms, is_first=is_first)
        for link in list(self.links):
            if self.network.is_known(link.peer):
                self.network.label(link)
            else:
                self._hang_up(link, UNLICENSED)
        for link in places.excess(self.links.placed()):
            self._hang_up(link, LIMIT)
        self._settle(None, now_ms)

    def addresses_learnt(self, event: AddressesLearnt, _now_ms: int) -> None:
        if event.node != self.node_id and self._dialling.book.learnt(event.node, event.issued_ms, event.addresses):
            self._dialling.attempts.moved(event.node)

    # --- links

    def link_made(self, event: LinkMade, now_ms: int) -> None:
        self._dialling.under_way.pop(event.peer, None)
        self.dialled["reached"] += 1
        refusal = UNLICENSED if not self.network.is_known(event.peer) else LIMIT if event.peer in self._dialling.grey else None
        if refusal is None:
            self._dialling.book.reached(event.peer, event.prefix)
            self._dialling.attempts.met(event.peer, now_ms)
        if refusal is None and event.purpose is not Purpose.FEELER:
            standing = self.links.of(event.peer)
            if standing is None or self._gives_way(standing, self.node_id, now_ms):
                self._welcome(self._new_link(event, True, now_ms), standing, now_ms)
                return
        self._out.append(HangUp(event.link, refusal or ""))

    def link_asked(self, event: LinkAsked, now_ms: int) -> None:
        if not self.network.is_known(event.peer):
            self._refuse(event, UNLICENSED, 0)
            return
        self.reach.came_in(now_ms)
        self._dialling.attempts.met(event.peer, now_ms)
        if (until_ms := self._dialling.grey.get(event.peer, now_ms)) > now_ms:
            self._refuse(event, LIMIT, until_ms - now_ms)
            return
        standing = self.links.of(event.peer)
        if standing is not None and not self._gives_way(standing, event.peer, now_ms):
            self._refuse(event, LIMIT, limits.REPLACE_AFTER_MS)
            return
        link = self._new_link(event, False, now_ms)
        placed = [each for each in self.links.placed() if each is not standing]
        loser = None
        if link.takes_place:
            if len(placed) >= limits.INBOUND_MAX:
                loser = places.to_displace(placed, link.prefix)
            left = [each for each in placed if each is not loser]
            if len(left) >= limits.INBOUND_MAX or not places.has_room_for(left, link.operator):
                self._refuse(event, LIMIT, limits.PLACE_RETRY_MS)
                return
        if loser is not None:
            self._hang_up(loser, LIMIT)
        self._welcome(link, standing, now_ms)

    def _gives_way(self, standing: PeerLink, opener: bytes, now_ms: int) -> bool:
        """Whether a second link with the same peer takes the place of the one that stands."""
        if now_ms - standing.since_ms > limits.REPLACE_AFTER_MS:
            return True
        other = standing.peer if opener == self.node_id else self.node_id
        return standing.ours != (opener == self.node_id) and opener < other

    def _new_link(self, event: LinkMade | LinkAsked, ours: bool, now_ms: int) -> PeerLink:
        link = PeerLink(event.link, event.peer, "", event.prefix, ours, Purpose.CHOSEN, False, now_ms)
        self.network.label(link)
        return link

    def _welcome(self, link: PeerLink, standing: PeerLink | None, now_ms: int) -> None:
        """Let it be a link, if it still is one when all that break a bound with it have gone."""
        if standing is not None:
            self._hang_up(standing, "")
        self.links.add(link)
        self._settle(link if link.ours else None, now_ms)
        if link.peer not in self.links:  # there was no need of it; it shall not be drawn again at once
            self._failed(link.peer, LIMIT, now_ms)
        else:
            self._dialling.linked(link.peer)
            self._out.append(Admit(link.number, link.peer, link.operator, link.ours, link.assigned))

    def _settle(self, newest: PeerLink | None, now_ms: int) -> None:
        """Tell those that count from the spare ones, and let go of what is too much."""
        dialling = self._dialling
        judge(self.links.outbound(), self.network.operator)
        while (link := to_leave(self.links.outbound(), newest, anchors=self.anchors, rotates=dialling.rotates)) is not None:
            if dialling.rotates and link is not newest and not link.spare:
                dialling.rotated(now_ms)
            self._hang_up(link, "")
            judge(self.links.outbound(), self.network.operator)

    def _refuse(self, event: LinkAsked, code: str, retry_after_ms: int) -> None:
        self.refused[code] += 1
        self._out.append(Refuse(event.link, code, retry_after_ms))

    def _hang_up(self, link: PeerLink, code: str) -> None:
        self.links.remove(link)
        self._dialling.candidates.stir()
        self._out.append(HangUp(link.number, code))

    def link_lost(self, event: LinkLost, now_ms: int) -> None:
        link = self.links.numbered(event.link)
        if link is None:
            return  # hung up while this was on its way
        self.links.remove(link)
        self._dialling.candidates.stir()
        if link.ours and now_ms - link.since_ms >= limits.STOOD_MS:
            self._dialling.attempts.stood(link.peer)
        elif link.ours:
            self._failed(link.peer, event.code, now_ms)
        self._settle(None, now_ms)

    def expelled(self, event: Expelled, now_ms: int) -> None:
        if self.network.is_known(event.peer) and event.until_ms > now_ms:
            self._dialling.grey[event.peer] = event.until_ms
        if (link := self.links.of(event.peer)) is not None:
            self._hang_up(link, LIMIT)
            self._settle(None, now_ms)

    def dial_failed(self, event: DialFailed, now_ms: int) -> None:
        self._dialling.under_way.pop(event.peer, None)
        self.dialled[_coded(event.code)] += 1
        if self.network.is_known(event.peer) and event.peer not in self.links:
            self._failed(event.peer, event.code, now_ms, event.retry_after_ms)

    def _failed(self, peer: bytes, code: str, now_ms: int, retry_after_ms: int = 0) -> None:
        alone = not len(self.links)
        self._dialling.attempts.failed(peer, _coded(code), now_ms, chance=self._chance, alone=alone, retry_after_ms=retry_after_ms)

    def dial_back_told(self, event: DialBackTold, now_ms: int) -> None:
        self.reach.told(event.peer, event.reached, now_ms)

    # --- time

    def ticked(self, event: Ticked, now_ms: int) -> None:
        self._chance.feed(event.draw)
        if len(self.links) or not len(self._dialling.candidates):
            self._alone_ms = -1
        elif self._alone_ms < 0:
            self._alone_ms = now_ms
        self.is_lonely = 0 <= self._alone_ms <= now_ms - limits.ALONE_AFTER_MS
        self._keep_anchors(now_ms)
        self._out += [AskDialBack(peer) for peer in self.reach.to_ask(self.links, self._chance, now_ms)]
        self._out += self._dialling.plan(now_ms)

    def _keep_anchors(self, now_ms: int) -> None:
        """Those that have stood longest; where they are too few, those of before stay, so that nobody becomes one by cutting our links."""
        if not self.network.nodes or now_ms < self._anchors_ms:
            return
        self._anchors_ms = now_ms + limits.ANCHOR_LOOK_MS
        stood = [link for link in self.links.outbound() if not link.spare and now_ms - link.since_ms >= limits.ANCHOR_AFTER_MS]
        oldest = [link.peer for link in sorted(stood, key=lambda link: (link.since_ms, link.number))]
        before = [peer for peer in self.anchors if self.network.is_known(peer)]
        now = tuple(dict.fromkeys(oldest[: limits.ANCHORS_MAX] + before))[: limits.ANCHORS_MAX]
        if set(now) != set(self.anchors):
            self._out.append(KeepAnchors(now))
        self.anchors = now
        for link in self.links:
            link.anchor = link.ours and link.peer in now

    def take_effects(self) -> list[Effect]:
        """The effects of the last event, in order."""
        out, self._out = self._out, []
        return out


def _coded(code: str) -> str:
    """A code of our table: a peer may refuse with whatever it likes."""
    return code if code in CODES else "E-PEER-CLOSED" if not code else "E-ANSWER-INVALID"


_HANDLERS: dict[type, Callable[..., None]] = {
    NetworkChanged: Peers.network_changed,
    AddressesLearnt: Peers.addresses_learnt,
    LinkMade: Peers.link_made,
    DialFailed: Peers.dial_failed,
    LinkAsked: Peers.link_asked,
    LinkLost: Peers.link_lost,
    Expelled: Peers.expelled,
    DialBackTold: Peers.dial_back_told,
    Ticked: Peers.ticked,
}


def step(state: Peers, event: Event, now_ms: int) -> list[Effect]:
    """Take an event; return what it leads to, in order."""
    _HANDLERS[type(event)](state, event, now_ms)
    return state.take_effects()
