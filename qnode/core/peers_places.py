"""Who gets an inbound place, and who loses one (`proto/spec/peers.md`, §4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qnode.core.peers_limits import DISPLACE_LEAD, INBOUND_KEPT, INBOUND_MAX, INBOUND_OPERATOR_MAX
from qnode.core.peers_link import PeerLink

__all__ = ["excess", "has_room_for", "to_displace"]


def has_room_for(placed: Sequence[PeerLink], operator: str) -> bool:
    """Whether the operator may have one more place, be there a free one or not."""
    return sum(link.operator == operator for link in placed) < INBOUND_OPERATOR_MAX


def to_displace(placed: Sequence[PeerLink], prefix: str) -> PeerLink | None:
    """Whose place a newcomer from `prefix` takes when all are taken: the youngest of the prefix that holds most, the oldest links left in
    peace. None: nobody's."""
    counts = Counter(link.prefix for link in placed)
    younger = sorted(placed, key=lambda link: (link.since_ms, link.number))[INBOUND_KEPT:]
    crowded = [link for link in younger if counts[link.prefix] >= counts[prefix] + DISPLACE_LEAD]
    return max(crowded, key=lambda link: (counts[link.prefix], link.since_ms, link.number), default=None)


def excess(placed: Sequence[PeerLink]) -> list[PeerLink]:
    """Who has to go because the registry or the epoch is another: the youngest above an operator's share, then the youngest of all."""
    kept: list[PeerLink] = []
    gone: list[PeerLink] = []
    for link in sorted(placed, key=lambda link: (link.since_ms, link.number)):
        fits = len(kept) < INBOUND_MAX and has_room_for(kept, link.operator)
        (kept if fits else gone).append(link)
    return gone
