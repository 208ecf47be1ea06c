"""Where a body goes first, and where unasked."""

from __future__ import annotations

from support.gossip_node import ALICE, BOB, CAROL, DAVE, LARGE, LARGE_ID, LARGEST, MIDDLE, Node, far, good, news, sent

from qnode.core import gossip_limits as limits
from qnode.core.gossip_events import Judged, Verdict
from qustream.rules.peering import message_id
from qustream.wire.gossip import GossipPull


def test_a_body_goes_unasked_to_the_farthest_who_said_nothing() -> None:
    node = Node(ALICE, BOB, CAROL, DAVE)
    far(node, alice=5, bob=limits.PUSH_FAR_MS, carol=limits.PUSH_FAR_MS + 1, dave=5)
    node.hears(DAVE, news(MIDDLE, held=False))
    assert good(node, ALICE, MIDDLE) == [(DAVE, news(MIDDLE)), (CAROL, MIDDLE)]  # Dave need not send it any more
    assert sent(node.hears(CAROL, GossipPull((message_id(MIDDLE.topic, MIDDLE.body),)))) == []  # asked for while it was on its way


def test_a_body_goes_unasked_to_nobody_if_all_are_near_and_others_have_told_of_it() -> None:
    node = Node(ALICE, BOB, CAROL)
    far(node, alice=5, bob=limits.PUSH_FAR_MS - 1, carol=5)
    node.hears(CAROL, news(MIDDLE))
    assert good(node, ALICE, MIDDLE) == [(CAROL, news(MIDDLE))]


def test_who_heard_of_it_first_pushes_it_however_near_the_others_are() -> None:
    node = Node(ALICE, BOB, CAROL)
    far(node, alice=5, bob=20, carol=30)
    assert good(node, ALICE, MIDDLE) == [(CAROL, MIDDLE)]


def test_the_largest_go_unasked_to_nobody_where_nearly_everybody_has_told_of_it() -> None:
    """They, and who brought it."""
    tellers = [bytes([number]) * 32 for number in range(1, limits.VOICES_LARGE_MAX + 1)]
    for count, pushes in ((limits.VOICES_LARGE_MAX - 1, 1), (limits.VOICES_LARGE_MAX, 0)):
        node = Node(ALICE, BOB, *tellers[:count], ours=False)
        for peer in tellers[:count]:
            node.hears(peer, news(LARGEST, held=False))
        assert [peer for peer, message in good(node, ALICE, LARGEST) if message == LARGEST] == [BOB][:pushes]


def test_those_who_wait_are_served_the_nearest_first() -> None:
    node = Node(ALICE, BOB, CAROL, DAVE)
    far(node, alice=5, bob=90, carol=20, dave=50)
    node.hears(ALICE, news(LARGE))
    for peer in (BOB, CAROL, DAVE):
        node.hears(peer, GossipPull((LARGE_ID,)))
    node.hears(ALICE, LARGE)
    assert sent(node.does(Judged(LARGE_ID, Verdict.GOOD))) == [(CAROL, LARGE), (DAVE, LARGE), (BOB, LARGE)]


def test_who_has_got_it_elsewhere_is_not_served() -> None:
    node = Node(ALICE, BOB)
    node.hears(ALICE, news(LARGE))
    node.hears(BOB, GossipPull((LARGE_ID,)))
    node.hears(BOB, news(LARGE))
    node.hears(ALICE, LARGE)
    assert sent(node.does(Judged(LARGE_ID, Verdict.GOOD))) == []
