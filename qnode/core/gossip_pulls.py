"""The pulls under way: who was asked for what, and until when we wait (`proto/spec/gossip.md`, §4). Bounded in all, a peer, a message."""

from __future__ import annotations

from qnode.core.gossip_items import Item, Pull
from qnode.core.gossip_limits import (
    LARGE_MIN_BYTES,
    PULL_HEARD_MS,
    PULL_HELD_MS,
    PULLS_COMMON_MAX,
    PULLS_ITEM_MAX,
    PULLS_PEER_MAX,
    PULLS_SURE,
    SECOND_PULL_LARGE_MS,
    SECOND_PULL_MS,
)
from qnode.core.gossip_link import Link

__all__ = ["Pulls"]


class Pulls:
    """The messages that are being pulled, by id."""

    def __init__(self, links: dict[bytes, Link]) -> None:
        self._links = links
        self._items: dict[bytes, Item] = {}

    def __len__(self) -> int:
        return len(self._items)

    def is_room(self, link: Link) -> bool:
        if link.pulls < PULLS_SURE:
            return True
        return link.is_trusted and link.pulls < PULLS_PEER_MAX and len(self._items) < PULLS_COMMON_MAX

    def ask(self, item: Item, link: Link, held: bool, now_ms: int) -> Pull:
        """Remember that `link` is asked for `item`."""
        pull = Pull(link.peer, held, now_ms + 2 * link.delay_ms, now_ms + (PULL_HELD_MS if held else PULL_HEARD_MS))
        item.pulls = (*item.pulls, pull)
        item.marks |= link.asked
        link.pulls += 1
        self._items[item.id] = item
        return pull

    def is_sooner(self, item: Item, link: Link, now_ms: int) -> bool:
        """Whether the body could be here so much sooner from `link` that it is worth another pull; as it is where the peer that was asked
        is known for promises that come to nothing."""
        if not 0 < len(item.pulls) < PULLS_ITEM_MAX or link.pulls >= PULLS_PEER_MAX:
            return False
        asked = self._links.get(item.pulls[0].peer)
        if asked is not None and not asked.is_trusted and link.is_trusted:
            return True
        gain_ms = SECOND_PULL_LARGE_MS if item.size > LARGE_MIN_BYTES else SECOND_PULL_MS
        return now_ms + 2 * link.delay_ms + gain_ms <= item.pulls[0].best_ms

    def give_up(self, item: Item, pull: Pull) -> Link | None:
        """We do not wait for this any more. The link it went to, if there still is one."""
        item.pulls = tuple(other for other in item.pulls if other is not pull)
        if not item.pulls:
            self._items.pop(item.id, None)
        link = self._links.get(pull.peer)
        if link is not None:
            link.pulls -= 1
        return link

    def ended(self, item: Item) -> None:
        """It is here: all that was asked for it is over."""
        for pull in item.pulls:
            self.give_up(item, pull)

    def left(self, peer: bytes, now_ms: int) -> bool:
        """A peer is gone: what it was asked for is due, and nobody is charged for it. Whether there was something."""
        found = [item for item in self._items.values() if any(pull.peer == peer for pull in item.pulls)]
        for item in found:
            item.pulls = tuple(Pull(b"", pull.held, now_ms, now_ms) if pull.peer == peer else pull for pull in item.pulls)
        return bool(found)

    def overdue(self, now_ms: int) -> list[tuple[Item, Pull]]:
        return [(item, pull) for item in self._items.values() for pull in item.pulls if pull.due_ms <= now_ms]

    def next_due_ms(self) -> int | None:
        return min((pull.due_ms for item in self._items.values() for pull in item.pulls), default=None)
