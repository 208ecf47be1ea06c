"""The largest bodies leave one after the other, and not at all where they are not wanted any more."""

from __future__ import annotations

from support.gossip_node import ALICE, BOB, CAROL, DAVE, LARGEST, Node, far, good, news, of, sent

from qnode.core import gossip_limits as limits
from qnode.core.gossip_events import Judged, LinkClosed, LinkOpened, Published, Verdict, Wake
from qustream.rules.peering import message_id
from qustream.wire.gossip import GossipAnnounce, GossipPull, GossipPush, Topic

LARGEST_ID = message_id(LARGEST.topic, LARGEST.body)
PULL = GossipPull((LARGEST_ID,))
TAKES_MS = -(-len(LARGEST.body) // limits.LINE_BYTES_PER_MS)


def holds(*peers: bytes) -> Node:
    """A node that has told its peers of the largest of messages; everybody has heard of it, so nothing goes unasked."""
    node = Node(*peers, DAVE)
    node.hears(DAVE, news(LARGEST))
    node.hears(DAVE, LARGEST)
    for peer in peers:
        node.hears(peer, news(LARGEST, held=False))
    node.does(Judged(LARGEST_ID, Verdict.GOOD))
    return node


def test_one_leaves_after_the_other_and_the_nearest_of_those_who_wait_is_the_next() -> None:
    node = holds(ALICE, BOB, CAROL)
    far(node, alice=5, bob=90, carol=20)
    assert sent(node.hears(ALICE, PULL)) == [(ALICE, LARGEST)]  # nobody else waits yet
    effects = node.hears(BOB, PULL)
    assert (sent(effects), of(Wake, effects)) == ([], [Wake(node.now_ms + TAKES_MS)])
    assert sent(node.hears(CAROL, PULL)) == []
    assert sent(node.wakes(TAKES_MS - 1)) == []
    assert sent(node.wakes(1)) == [(CAROL, LARGEST)]
    assert sent(node.wakes(TAKES_MS)) == [(BOB, LARGEST)]
    assert of(Wake, node.wakes(TAKES_MS)) == []
    assert node.core.sizes["line"] == 0


def test_who_has_it_meanwhile_is_not_sent_it_and_may_ask_again() -> None:
    node = holds(ALICE, BOB)
    node.hears(ALICE, PULL)
    node.hears(BOB, PULL)
    node.hears(BOB, news(LARGEST))
    assert sent(node.wakes(TAKES_MS)) == []
    node.now_ms += TAKES_MS
    assert sent(node.hears(BOB, PULL)) == [(BOB, LARGEST)]
    assert sent(node.hears(BOB, PULL)) == []


def test_who_brings_it_meanwhile_is_not_sent_it() -> None:
    node = holds(ALICE, BOB)
    node.hears(ALICE, PULL)
    node.hears(BOB, PULL)
    node.hears(BOB, LARGEST)
    assert sent(node.wakes(TAKES_MS)) == []


def test_who_is_gone_meanwhile_is_served_when_it_is_back_and_asks() -> None:
    node = holds(ALICE, BOB)
    node.hears(ALICE, PULL)
    node.hears(BOB, PULL)
    node.does(LinkClosed(BOB))
    assert sent(node.wakes(TAKES_MS)) == []
    node.does(LinkOpened(BOB, "bob", ours=False))
    assert sent(node.hears(BOB, PULL)) == [(BOB, LARGEST)]


def test_an_older_message_goes_before_a_newer_one() -> None:
    node = Node(ALICE, BOB)
    far(node, alice=5, bob=90)
    newer = GossipPush(Topic.BLOCK, b"n" * len(LARGEST.body))
    assert (ALICE, LARGEST) in sent(node.does(Published(LARGEST.topic, LARGEST.body)))
    node.does(Published(newer.topic, newer.body))
    left = [push for _ in range(3) for push in sent(node.wakes(TAKES_MS))]
    assert left == [(BOB, LARGEST), (ALICE, newer), (BOB, newer)]


def test_so_many_wait_and_what_is_above_is_sent_at_once() -> None:
    peers = [number.to_bytes(32, "big") for number in range(1, limits.LINE_MAX + 4)]
    node = holds(*peers)
    pushes = [len(sent(node.hears(peer, PULL))) for peer in peers]
    assert pushes == [1] + [0] * limits.LINE_MAX + [1, 1]


def test_a_body_goes_unasked_to_the_farthest_first_and_only_while_nobody_waits() -> None:
    node = Node(ALICE, BOB, CAROL, DAVE)
    far(node, alice=5, bob=300, carol=20, dave=10)
    assert good(node, ALICE, LARGEST) == [(BOB, LARGEST)]
    node.hears(DAVE, PULL)
    assert sent(node.wakes(TAKES_MS)) == [(DAVE, LARGEST)]
    assert sent(node.wakes(TAKES_MS)) == [(CAROL, LARGEST)]
    assert of(Wake, node.wakes(TAKES_MS)) == []


def test_it_goes_unasked_to_so_many() -> None:
    node = Node(ALICE, *(number.to_bytes(32, "big") for number in range(1, limits.PUSHES_LARGE + 4)))
    first = len(good(node, ALICE, LARGEST))
    assert first + sum(len(sent(node.wakes(TAKES_MS))) for _ in range(2 * limits.PUSHES_LARGE)) == limits.PUSHES_LARGE


def test_what_waited_too_long_is_not_offered_any_more() -> None:
    node = Node(ALICE, BOB, CAROL)
    good(node, ALICE, LARGEST)
    assert sent(node.wakes(limits.OFFER_MS)) == []
    assert not node.core.line.offered


def test_of_so_many_messages_bodies_are_offered_and_of_no_more() -> None:
    node = Node(ALICE)  # who brings them: there is nobody to offer them to, so each is gone with the next moment of the line
    node.does(LinkOpened(BOB, "bob", ours=True))
    for number in range(limits.OFFERS_MAX + 5):
        message = GossipPush(Topic.TRANSACTION, number.to_bytes(2, "big") * (limits.LARGE_MIN_BYTES // 2 + 1))
        node.hears(ALICE, GossipAnnounce(news(message).entries))
        node.hears(ALICE, message)
        node.does(Judged(message_id(message.topic, message.body), Verdict.GOOD))
        assert len(node.core.line.offered) <= limits.OFFERS_MAX
    assert len(node.core.line.offered) == limits.OFFERS_MAX
