"""Where a large body goes first, and where unasked (`proto/spec/gossip.md`, §4). What is chosen here came out of simulation; nothing
depends on it but time and copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qnode.core.gossip_items import Item
from qnode.core.gossip_limits import LARGE_MIN_BYTES, PUSH_FAR_MS, VOICES_LARGE_MAX
from qnode.core.gossip_link import Link
from qustream.wire.gossip import ENTRIES_MAX, Announced, GossipAnnounce

__all__ = ["missed", "near_first", "news_of", "silent", "takers"]


def near_first(links: Iterable[Link]) -> list[Link]:
    """What is far comes late anyhow, and what is near passes on meanwhile."""
    return sorted(links, key=_delay)


def silent(item: Item, mesh: Iterable[Link]) -> list[Link]:
    """Those of whom nothing has been heard, the farthest first, if they may get the body unasked: they may have asked for it, and the word
    is still on its way."""
    marks = item.marks
    found = near_first(link for link in mesh if not marks & (link.heard | link.served))[::-1]
    if item.size > LARGE_MIN_BYTES:
        return found if item.voices <= VOICES_LARGE_MAX else []
    return found if found and (found[0].delay_ms >= PUSH_FAR_MS or item.voices <= 1) else []


def takers(item: Item, links: Iterable[Link], now_ms: int) -> Iterator[Link]:
    """Those to whom the body may be pushed unasked without being above what they take."""
    return (link for link in links if link.may_push(item.topic, item.size, now_ms))


def news_of(item: Item, *, held: bool) -> GossipAnnounce:
    return GossipAnnounce((Announced(item.id, item.topic, item.size, held),))


def missed(recent: Iterable[Item], link: Link, now_ms: int) -> tuple[Announced, ...]:
    """The news for a peer that was not told of these: what fits into one announcement, and is not above what it takes."""
    entries: list[Announced] = []
    for item in recent:
        if not item.marks & link.marks and link.may_send(item.topic, item.size, now_ms):
            item.marks |= link.told
            entries.append(Announced(item.id, item.topic, item.size, True))
            if len(entries) == ENTRIES_MAX:
                break
    return tuple(entries)


def _delay(link: Link) -> int:
    return link.delay_ms
