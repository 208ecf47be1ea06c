"""The line out of a node, which the largest bodies leave one after the other (`proto/spec/gossip.md`, §4).

A body of 128 KiB takes 10 ms to leave on a line of 100 Mbit/s, and a node has eight peers that may want it. What is handed to the
connections at once cannot be taken back, and much of it reaches peers that have got the message elsewhere meanwhile. So the bodies wait
here, and who says that it has the message is left out. What nobody asked for goes when nothing that was asked for waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qnode.core.gossip_events import Send
from qnode.core.gossip_items import Item
from qnode.core.gossip_limits import LARGE_MIN_BYTES, LINE_BYTES_PER_MS, LINE_MAX, OFFER_MS, OFFERS_MAX, PUSHES_LARGE
from qnode.core.gossip_link import Link
from qnode.core.gossip_spread import silent, takers
from qustream.wire.gossip import GossipPush

__all__ = ["Line"]


class Line:
    """What waits to be sent to whom, and until when the line is taken. `links`: those there are."""

    __slots__ = ("_free_us", "_links", "offered", "waiting")

    def __init__(self, links: Mapping[bytes, Link]) -> None:
        self._links = links
        self.waiting: list[tuple[Item, Link]] = []
        self.offered: list[tuple[Item, int, int]] = []  # who said nothing of it may have it: so many, and until when
        self._free_us = 0

    def takes(self, item: Item, link: Link) -> bool:
        """Whether the body waits here; else it is sent at once: it is not that large, or the line is so long that a peer would not wait."""
        if item.size <= LARGE_MIN_BYTES or len(self.waiting) >= LINE_MAX:
            return False
        self.waiting.append((item, link))
        return True

    def offers(self, item: Item, now_ms: int) -> bool:
        """Whether the body goes to those of whom nothing has been heard when the line is free: it does if it is large."""
        if item.size > LARGE_MIN_BYTES and len(self.offered) < OFFERS_MAX:
            self.offered.append((item, PUSHES_LARGE, now_ms + OFFER_MS))
        return item.size > LARGE_MIN_BYTES

    def spare(self, item: Item, link: Link) -> None:
        """The peer has it. If it was to be sent, it can be asked for again: nothing has been sent."""
        for place, (other, to) in enumerate(self.waiting):
            if other is item and to is link:
                del self.waiting[place]
                item.marks &= ~link.served
                return

    def leaving(self, mesh: Sequence[Link], now_ms: int) -> list[Send]:
        """What leaves now."""
        found: list[Send] = []
        while (self.waiting or self.offered) and self._free_us <= 1000 * now_ms:
            item, link = self._next_waiting() if self.waiting else self._next_offer(mesh, now_ms)
            if link is not None and item.body is not None:
                found.append(Send(link.peer, GossipPush(item.topic, item.body)))
                # A tick comes up to a millisecond late: what that costs is made up for.
                begun_us = self._free_us if self._free_us > 1000 * (now_ms - 1) else 1000 * now_ms
                self._free_us = begun_us + 1000 * item.size // LINE_BYTES_PER_MS
        return found

    @property
    def free_ms(self) -> int:
        """When there is something to be done again."""
        return -(-self._free_us // 1000)

    def _next_waiting(self) -> tuple[Item, Link | None]:
        """The oldest message, and of those who wait for it the nearest; None if that is gone."""
        oldest = self.waiting[0][0]
        place = min((p for p, (item, _) in enumerate(self.waiting) if item is oldest), key=lambda p: self.waiting[p][1].delay_ms)
        item, link = self.waiting.pop(place)
        if self._links.get(link.peer) is link:
            return item, link
        item.marks &= ~link.served
        return item, None

    def _next_offer(self, mesh: Sequence[Link], now_ms: int) -> tuple[Item, Link | None]:
        """Somebody far of whom nothing has been heard: there a pull takes longest. None if there is nobody any more."""
        item, count, until_ms = self.offered[0]
        if count and now_ms < until_ms and item.body is not None:
            for link in takers(item, silent(item, mesh), now_ms):
                self.offered[0] = (item, count - 1, until_ms)
                item.marks |= link.served
                return item, link
        del self.offered[0]
        return item, None
