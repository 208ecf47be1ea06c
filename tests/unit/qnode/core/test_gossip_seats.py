"""Who sits where in the marks of messages, and what marks cost."""

from __future__ import annotations

import tracemalloc

import pytest
from support.gossip_node import ALICE, BOB, CAROL, DAVE, Node, news, sent

from qnode.core import gossip_limits as limits
from qnode.core.gossip_events import Judged, LinkClosed, LinkOpened, Published, Verdict
from qnode.core.gossip_seats import HEARD_ALL, SEAT_BITS, Seats
from qustream.rules.peering import message_id
from qustream.wire.gossip import GossipAnnounce, GossipPush, Topic


def test_a_peer_that_comes_back_has_its_seat_until_somebody_else_needed_it() -> None:
    seats = Seats()
    assert [seats.take(peer, 0) for peer in (ALICE, BOB)] == [(0, False), (1, False)]
    seats.leave(ALICE, 0, 1_000)
    assert seats.take(CAROL, 1_000 + limits.KEEP_MS) == (2, False)  # ids of the time when Alice was there may be remembered
    assert seats.take(ALICE, 2_000 + limits.KEEP_MS) == (0, False)
    seats.leave(ALICE, 0, 3_000)
    seats.leave(BOB, 1, 4_000)
    assert seats.take(DAVE, 3_001 + limits.KEEP_MS) == (0, True)
    assert seats.take(ALICE, 3_001 + limits.KEEP_MS) == (3, False)


def test_there_are_so_many_seats_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qnode.core.gossip_seats.SEATS_MAX", 3)
    seats = Seats()
    for number in range(10):
        seat, is_worn = seats.take(bytes([number]), number)
        assert (seat, is_worn) == (number % 3, number >= 3)
        seats.leave(bytes([number]), seat, number)


def test_every_seat_has_its_place_in_the_count_of_voices() -> None:
    assert HEARD_ALL.bit_count() == limits.SEATS_MAX
    assert HEARD_ALL.bit_length() <= SEAT_BITS * limits.SEATS_MAX


def test_who_takes_a_seat_inherits_no_marks() -> None:
    """The message is older than its sender's absence, but was judged only now: the newcomer at the seat is told all the same."""
    node = Node(ALICE, BOB)
    slow = GossipPush(Topic.TRANSACTION, b"slow to judge")
    node.hears(ALICE, slow)
    node.does(LinkClosed(ALICE))
    node.beats(limits.KEEP_MS + 1)
    node.does(LinkOpened(CAROL, "carol", ours=True))
    assert node.core.links[CAROL].seat == 0
    assert (CAROL, slow) in sent(node.does(Judged(message_id(slow.topic, slow.body), Verdict.GOOD)))


def test_a_message_costs_a_validator_with_all_its_links_less_than_a_kilobyte() -> None:
    """Its body aside, which goes first."""
    node = Node(*(number.to_bytes(32, "big") for number in range(1, limits.LINKS_MAX + 1)))
    count = 2_000
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(count):
        node.now_ms += 1
        node.does(Published(Topic.TRANSACTION, number.to_bytes(4, "big")))
        if number % 1_000 == 0:
            told = news(GossipPush(Topic.TRANSACTION, number.to_bytes(4, "big")))
            assert isinstance(told, GossipAnnounce)
            for peer in node.core.links:
                node.hears(peer, told)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / count < 1_000
