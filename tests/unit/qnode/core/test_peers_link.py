"""The links that stand: by number and by peer."""

from __future__ import annotations

import pytest

from qnode.core.peers_events import Purpose
from qnode.core.peers_link import Links, PeerLink


def link(number: int, *, ours: bool, reason: Purpose = Purpose.CHOSEN, assigned: bool = False) -> PeerLink:
    return PeerLink(number, bytes([number]) * 32, "o", "p", ours, reason, assigned, 0)


def test_a_peer_is_linked_once_and_a_number_used_once() -> None:
    links = Links()
    links.add(first := link(1, ours=True))
    with pytest.raises(AssertionError):
        links.add(PeerLink(2, first.peer, "o", "p", True, Purpose.CHOSEN, False, 0))
    with pytest.raises(AssertionError):
        links.add(PeerLink(1, bytes(32), "o", "p", True, Purpose.CHOSEN, False, 0))
    assert (links.of(first.peer), links.numbered(1), first.peer in links, len(links)) == (first, first, True, 1)
    links.remove(first)
    assert (links.of(first.peer), links.numbered(1), first.peer in links, len(links)) == (None, None, False, 0)


def test_meshed_links_are_beside_the_eight_and_assigned_ones_hold_no_place() -> None:
    links = Links()
    for each in (
        link(1, ours=True), link(2, ours=True, reason=Purpose.MESHED), link(3, ours=False), link(4, ours=False, reason=Purpose.MESHED),
        link(5, ours=False, reason=Purpose.ASSIGNED, assigned=True), link(6, ours=True, reason=Purpose.ASSIGNED, assigned=True),
    ):  # fmt: skip
        links.add(each)
    assert [each.number for each in links.outbound()] == [1, 6]
    assert [each.number for each in links.placed()] == [3]
