"""Gossip: what one node hears reaches all, once, and only if it is good (`proto/spec/gossip.md`).

`step(state, event, now_ms) -> effects`. Theory of operation. A message is an *item* from the first word of it:

    (news) HEARD ──pull──▶ PULLING ──push──▶ CHECKING ──good──▶ GOOD      kept for pulls, passed on
    (small, pushed) ────────────────────────▶ CHECKING ──bad, useless──▶ DEAD      remembered, never passed on
              PULLING ──nobody left to ask──▶ forgotten, so that it may be heard of again

Passing on is done to the *mesh*: pushed if small, announced if large; and news of a large message is passed on while it is still
being pulled, so the bytes find the way asked for when they come. Who has brought an item, told of it or been told is told no more.
A pull over a long way takes longest; so a body is pulled again if a nearer peer tells of it, and goes unasked to some who said nothing.

Nothing here checks a signature or reads a clock: `Check` asks somebody who can, `Judged` is the answer, and randomness comes with `Ticked`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from qnode.core import gossip_limits as limits
from qnode.core.chance import Chance
from qnode.core.gossip_checks import Checks
from qnode.core.gossip_events import (
    Check,
    DelayMeasured,
    Effect,
    Event,
    Expel,
    Heard,
    Judged,
    LinkClosed,
    LinkOpened,
    Misled,
    Published,
    Send,
    Ticked,
    Verdict,
    Wake,
)
from qnode.core.gossip_items import Item, Items, ItemState, Pull
from qnode.core.gossip_line import Line
from qnode.core.gossip_link import Link, Past
from qnode.core.gossip_mesh import Mesh, takes_in
from qnode.core.gossip_pulls import Pulls
from qnode.core.gossip_seats import Seats
from qnode.core.gossip_spread import missed, near_first, news_of, silent, takers
from qustream.rules.peering import message_id
from qustream.wire.gossip import (
    Announced,
    GossipAnnounce,
    GossipGraft,
    GossipMessage,
    GossipPrune,
    GossipPull,
    GossipPush,
)

__all__ = ["Gossip", "step"]


class Gossip:
    """The state of one node's gossip. Use `step`; the properties are for displays and tests."""

    def __init__(self, identify: Callable[[int, bytes], bytes] = message_id) -> None:
        self.identify = identify
        self.links: dict[bytes, Link] = {}
        self.duplicates = self.dropped = 0
        self._items = Items()
        self.line = Line(self.links)
        self._pulls, self._past, self._seats, self._mesh = Pulls(self.links), Past(), Seats(), Mesh(self.links)
        self._checks = Checks()
        self._wake_ms: int | None = None
        self._decay_ms = 0  # when the first link's score is to be looked at
        self._out: list[Effect] = []

    @property
    def mesh(self) -> list[Link]:
        return self._mesh.inside

    @property
    def sizes(self) -> dict[str, int]:
        """How much of everything bounded there is."""
        return {
            "links": len(self.links), "mesh": len(self.mesh), "seen": len(self._items), "pulls": len(self._pulls),
            "checks": len(self._checks), "kept_bytes": self._items.kept_bytes, "line": len(self.line.waiting),
        }  # fmt: skip

    # --- links

    def link_opened(self, event: LinkOpened, now_ms: int) -> None:
        assert event.peer not in self.links, "a peer is linked once"
        if len(self.links) >= limits.LINKS_MAX:
            self._out.append(Expel(event.peer, now_ms))
            return
        self._decay_ms = min(self._decay_ms, now_ms + limits.DECAY_MS)
        link = Link(event.peer, operator=event.operator, ours=event.ours, assigned=event.assigned, now_ms=now_ms)
        self.links[event.peer] = self._past.came(link, now_ms)
        self._mesh.changed()
        if link.sit(self._seats.take(event.peer, now_ms)):
            self._items.wipe(link.marks)
        self._charge(link, 0, now_ms)  # it may have been shown out while this connection was under way
        if event.ours and event.peer in self.links and len(self.mesh) < limits.MESH_WANTED:
            self._graft(link)

    def link_closed(self, event: LinkClosed, now_ms: int) -> None:
        if (link := self.links.pop(event.peer, None)) is None:
            return
        self._past.went(link, now_ms)
        self._mesh.changed()
        self._seats.leave(event.peer, link.seat, now_ms)
        for item in self._items.recent(now_ms - limits.LAZY_MS):
            if not item.marks & link.heard:  # what was on its way to it is lost, and is told again when it comes back
                item.marks &= ~link.marks
        if self._pulls.left(event.peer, now_ms):
            self._wake(now_ms)

    def delay_measured(self, event: DelayMeasured, _now_ms: int) -> None:
        if (link := self.links.get(event.peer)) is not None:
            link.delay_ms = min(max(0, event.delay_ms), limits.DELAY_MAX_MS)

    def _graft(self, link: Link) -> None:
        self._mesh.put(link, inside=True)
        self._out.append(Send(link.peer, GossipGraft()))

    def _prune(self, link: Link, now_ms: int) -> None:
        self._mesh.put(link, inside=False)
        link.backoff_until_ms = now_ms + limits.BACKOFF_MS
        self._out.append(Send(link.peer, GossipPrune(limits.BACKOFF_MS // 1000)))

    def heard_graft(self, link: Link, _message: GossipMessage, now_ms: int) -> None:
        if link.in_mesh or takes_in(link, len(self.mesh), now_ms):
            self._mesh.put(link, inside=True)
        else:
            self._prune(link, now_ms)
            self._charge(link, 0, now_ms)  # `takes_in` may have

    def heard_prune(self, link: Link, message: GossipMessage, now_ms: int) -> None:
        assert isinstance(message, GossipPrune)
        self._mesh.put(link, inside=False)
        link.backoff_until_ms = max(link.backoff_until_ms, now_ms + 1000 * message.backoff_s)

    # --- messages

    def published(self, event: Published, now_ms: int) -> None:
        name = self.identify(event.topic, event.body)
        assert len(event.body) <= limits.TOPIC_LIMITS[event.topic].body_max_bytes, "our own message is too long for its topic"
        if self._items.get(name) is not None:
            return
        item = self._items.new(name, event.topic, len(event.body), now_ms)
        item.body = event.body
        self._items.keep(item, now_ms)
        mesh = self.mesh
        self._pass_on(item, list(self.links.values()) if item.is_small or not mesh else mesh, now_ms)
        if not item.is_small:
            for link in takers(item, near_first(mesh), now_ms):
                self._serve(item, link)

    def heard_push(self, link: Link, message: GossipMessage, now_ms: int) -> None:
        assert isinstance(message, GossipPush)
        topic, body = message.topic, message.body
        name = self.identify(topic, body)
        item = self._items.get(name)
        if len(body) > limits.TOPIC_LIMITS[topic].body_max_bytes:
            self._charge(link, limits.SCORE_OVER, now_ms)
            return
        was_late = link.made_good(name)
        if item is not None and item.marks & link.asked:
            item.marks ^= link.asked  # it counted when it was announced; if it comes again it counts again
            if len(body) > item.size:  # said to be smaller, perhaps by somebody before it: it counts, and is no fault of the peer's
                link.allowed(topic, len(body) - item.size, now_ms)
        elif not was_late:
            if not link.allowed(topic, len(body), now_ms):
                self._charge(link, limits.SCORE_OVER, now_ms)
                return
            if len(body) > limits.SMALL_MAX_BYTES and not link.allowed_unasked(len(body), now_ms):
                self._charge(link, limits.SCORE_UNASKED, now_ms)
                return
        if item is not None and item.state is not ItemState.PULLING:
            self.duplicates += 1
            item.marks |= link.heard
            self.line.spare(item, link)
        else:
            self._examine(item or self._items.new(name, topic, len(body), now_ms), link, body)

    def _examine(self, item: Item, link: Link, body: bytes) -> None:
        """A body that is new."""
        item.owing = [pull.peer for pull in item.pulls if pull.peer != link.peer]
        self._pulls.ended(item)
        item.tellers = ()
        item.marks |= link.heard
        if not self._checks.take(link.peer, len(body), is_trusted=link.is_trusted):
            self.dropped += 1
            self._items.forget(item)
            return
        item.sender, item.body, item.state = link.peer, body, ItemState.CHECKING
        item.resize(len(body))  # it was hearsay until now
        self._out.append(Check(item.id, item.topic, body, link.peer))

    def judged(self, event: Judged, now_ms: int) -> None:
        item = self._items.get(event.id)
        if item is None or item.state is not ItemState.CHECKING:
            return
        self._checks.leave(item.sender, item.size)
        sender = self.links.get(item.sender) or self._past.get(item.sender)
        waiting, owing, item.waiting, item.owing = item.waiting, item.owing, (), ()
        if event.verdict is not Verdict.GOOD:
            item.state, item.body = ItemState.DEAD, None
            if sender is not None:
                sender.hollow += 1
                self._charge(sender, limits.SCORE_BAD if event.verdict is Verdict.BAD else 0, now_ms)
            return
        if sender is not None:
            sender.praise()
        self._items.keep(item, now_ms)
        self._pass_on(item, self.mesh, now_ms)
        # Whom we asked need not send it any more.
        self._out += [Send(peer, news_of(item, held=True)) for peer in owing if peer in self.links]
        for link in near_first(self.links[peer] for peer in waiting if peer in self.links):
            self._serve(item, link)
        if not item.is_small and not self.line.offers(item, now_ms):
            for link in islice(takers(item, silent(item, self.mesh), now_ms), 1):
                self._serve(item, link)

    def _pass_on(self, item: Item, links: Iterable[Link], now_ms: int) -> None:
        """Push or announce what we have to those who need to be told."""
        assert item.body is not None, "only what is here is passed on"
        self._tell(item, links, GossipPush(item.topic, item.body) if item.is_small else news_of(item, held=True), now_ms)

    def _tell(self, item: Item, links: Iterable[Link], message: GossipMessage, now_ms: int) -> None:
        """To whom it would be above the limit nothing is sent: lazy repair tells it later."""
        marks, topic, out = item.marks, item.topic, self._out
        for link in links:
            if not marks & link.marks and link.may_send(topic, item.size, now_ms):
                marks |= link.told
                out.append(Send(link.peer, message))
        item.marks = marks

    # --- news and pulls

    def heard_announce(self, link: Link, message: GossipMessage, now_ms: int) -> None:
        assert isinstance(message, GossipAnnounce)
        wanted: list[bytes] = []
        for news in message.entries:
            if link.peer not in self.links:
                return  # expelled for what came before
            item = self._items.get(news.id)
            if item is not None:
                self._hear_again(item, link, news.held, now_ms)
            elif not 0 < news.size <= limits.TOPIC_LIMITS[news.topic].body_max_bytes or not link.allowed(news.topic, news.size, now_ms):
                self._charge(link, limits.SCORE_OVER, now_ms)
            elif not self._pulls.is_room(link):
                self.dropped += 1
            else:
                wanted.append(news.id)
                self._hear(link, news, now_ms)
        if wanted and link.peer in self.links:
            self._out.append(Send(link.peer, GossipPull(tuple(wanted))))

    def _hear(self, link: Link, news: Announced, now_ms: int) -> None:
        item = self._items.new(news.id, news.topic, news.size, now_ms)
        item.marks |= link.heard
        self._wake(self._pulls.ask(item, link, news.held, now_ms).due_ms)
        if link.in_mesh and link.is_trusted and not item.is_small:
            self._tell(item, self.mesh, news_of(item, held=False), now_ms)

    def _hear_again(self, item: Item, link: Link, held: bool, now_ms: int) -> None:
        """Who tells us does not need it from us; and while it is being pulled it may be had sooner, or at all, from this peer."""
        marks = item.marks
        item.marks = marks | link.heard
        if held and self.line.waiting:
            self.line.spare(item, link)
        if item.waiting and link.peer in item.waiting:
            item.waiting = [peer for peer in item.waiting if peer != link.peer]
        if item.state is not ItemState.PULLING or marks & (link.heard | link.asked):
            return
        if self._pulls.is_sooner(item, link, now_ms):
            self._wake(self._pulls.ask(item, link, held, now_ms).due_ms)
            self._out.append(Send(link.peer, GossipPull((item.id,))))
        elif len(item.tellers) < limits.TELLERS_MAX:
            item.tellers = [*item.tellers, (link.peer, held)]

    def _ask_the_next(self, item: Item, pull: Pull, now_ms: int) -> None:
        """Whom we asked did not answer in time, or is gone."""
        asked = self._pulls.give_up(item, pull)
        if asked is not None:
            self._charge(asked, asked.gave_up(item.id, pull.held, now_ms), now_ms)
        if item.pulls:
            return  # somebody else is asked already
        while item.tellers:
            (peer, held), *item.tellers = item.tellers
            link = self.links.get(peer)
            if link is not None and self._pulls.is_room(link):
                self._wake(self._pulls.ask(item, link, held, now_ms).due_ms)
                self._out.append(Send(peer, GossipPull((item.id,))))
                return
        self._items.forget(item)

    def heard_pull(self, link: Link, message: GossipMessage, now_ms: int) -> None:
        assert isinstance(message, GossipPull)
        for name in message.ids:
            item = self._items.get(name)
            if link.peer not in self.links:
                return  # expelled for what came before
            if item is None or item.state is ItemState.DEAD or item.marks & link.served or link.peer in item.waiting:
                continue  # once is what there is
            if item.state is ItemState.GOOD:
                self._serve(item, link)
            elif item.marks & link.marks and len(item.waiting) < limits.LINKS_MAX:
                item.waiting = [*item.waiting, link.peer]

    def _serve(self, item: Item, link: Link) -> None:
        if item.body is not None:
            item.marks |= link.served
            if not self.line.takes(item, link):
                self._out.append(Send(link.peer, GossipPush(item.topic, item.body)))

    def use_line(self, now_ms: int) -> None:
        self._out += self.line.leaving(self.mesh, now_ms)
        if self.line.waiting or self.line.offered:
            self._wake(self.line.free_ms)

    # --- time

    def ticked(self, event: Ticked, now_ms: int) -> None:
        if self._wake_ms is not None and self._wake_ms <= now_ms:
            self._wake_ms = None
        if self._pulls:
            for item, pull in self._pulls.overdue(now_ms):
                self._ask_the_next(item, pull, now_ms)
            if (due_ms := self._pulls.next_due_ms()) is not None:
                self._wake(due_ms)
        if event.is_heartbeat:
            self._heartbeat(event.draw, now_ms)

    def _heartbeat(self, draw: int, now_ms: int) -> None:
        if now_ms >= self._decay_ms:
            self._decay_ms = min((link.decay(now_ms) for link in self.links.values()), default=now_ms)
        grafts, prunes = self._mesh.tended(draw, now_ms)
        for link in prunes:
            self._prune(link, now_ms)
        for link in grafts:
            self._graft(link)
        self._items.expire(now_ms)
        fresh = self._mesh.newcomers()
        if recent := list(self._items.recent(now_ms - limits.LAZY_MS)):
            for link in [*fresh, *Chance(draw).dealt(self._mesh.outside, limits.LAZY_LINKS)]:
                if entries := missed(recent, link, now_ms):
                    self._out.append(Send(link.peer, GossipAnnounce(entries)))

    def _charge(self, link: Link, points: int, now_ms: int) -> None:
        link.charge(points)
        if link.score < limits.SCORE_GREY and (link.peer in self.links or self._past.forget(link.peer)):
            self._out.append(Expel(link.peer, now_ms + limits.GREY_MS))
            self.link_closed(LinkClosed(link.peer), now_ms)

    def _wake(self, at_ms: int) -> None:
        if self._wake_ms is None or at_ms < self._wake_ms:
            self._wake_ms = at_ms
            self._out.append(Wake(at_ms))

    def heard(self, event: Heard, now_ms: int) -> None:
        if (link := self.links.get(event.peer)) is not None:  # else it was expelled while this was on its way
            _HEARD[type(event.message)](self, link, event.message, now_ms)

    def take_effects(self) -> list[Effect]:
        """The effects of the last event, in order."""
        out, self._out = self._out, []
        return out

    def misled(self, event: Misled, now_ms: int) -> None:
        if (link := self.links.get(event.peer)) is not None:
            self._charge(link, limits.SCORE_BAD, now_ms)


_HEARD: dict[type, Callable[[Gossip, Link, GossipMessage, int], None]] = {
    GossipPush: Gossip.heard_push,
    GossipAnnounce: Gossip.heard_announce,
    GossipPull: Gossip.heard_pull,
    GossipGraft: Gossip.heard_graft,
    GossipPrune: Gossip.heard_prune,
}
_HANDLERS: dict[type, Callable[..., None]] = {
    LinkOpened: Gossip.link_opened,
    LinkClosed: Gossip.link_closed,
    DelayMeasured: Gossip.delay_measured,
    Heard: Gossip.heard,
    Published: Gossip.published,
    Judged: Gossip.judged,
    Misled: Gossip.misled,
    Ticked: Gossip.ticked,
}


def step(state: Gossip, event: Event, now_ms: int) -> list[Effect]:
    """Take an event; return what it leads to, in order."""
    _HANDLERS[type(event)](state, event, now_ms)
    if state.line.waiting or state.line.offered:
        state.use_line(now_ms)
    return state.take_effects()
