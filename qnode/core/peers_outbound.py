"""Which of the links a node has opened count, and which gives way (`proto/spec/peers.md`, §2)."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from qnode.core.peers_limits import OUTBOUND_MAX
from qnode.core.peers_link import PeerLink

__all__ = ["judge", "to_leave"]


def judge(links: Sequence[PeerLink], own_operator: str) -> None:
    """Say of each whether it is spare: the assigned ones of this epoch come first, then those that counted before, then the older."""
    operators, prefixes = {own_operator}, set[str]()
    for link in sorted(links, key=lambda link: (not link.assigned, link.spare, link.since_ms, link.number)):
        link.spare = link.operator in operators or link.prefix in prefixes
        if not link.spare:
            operators.add(link.operator)
            prefixes.add(link.prefix)


def to_leave(links: Sequence[PeerLink], newest: PeerLink | None, *, anchors: Container[bytes], rotates: bool) -> PeerLink | None:
    """Which of the judged `links` gives way, if they are too many: a spare one, then one that was assigned in an epoch that is over, then a
    chosen one: the oldest if it is time for that, else the youngest; anchors last."""
    if len(links) <= OUTBOUND_MAX:
        return None
    age: Callable[[PeerLink], tuple[int, int]] = lambda link: (link.since_ms, link.number)  # noqa: E731
    spare = [link for link in links if link.spare]
    if spare:
        return max(spare, key=lambda link: (link is newest, age(link)))
    outdated = [link for link in links if link.is_outdated]
    if outdated:
        return min(outdated, key=age)
    chosen = [link for link in links if not link.assigned and link is not newest]
    if newest is not None and not newest.assigned and not rotates:
        return newest
    assert chosen, "assigned links alone are never too many"
    plain = [link for link in chosen if link.peer not in anchors] or chosen
    return min(plain, key=age) if rotates else max(plain, key=age)
