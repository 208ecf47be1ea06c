"""Who is asked for a body, and who answers for keeping silent."""

from __future__ import annotations

from support.gossip_node import ALICE, BOB, CAROL, DAVE, LARGE, LARGE_ID, Node, far, news, of, sent

from qnode.core import gossip_limits as limits
from qnode.core.gossip_events import Check, Expel, Judged, Verdict
from qustream.rules.peering import message_id
from qustream.wire.gossip import GossipPull, GossipPush, Topic


def test_a_second_is_asked_who_can_bring_it_much_sooner_and_no_third() -> None:
    node = Node(ALICE, BOB, CAROL, DAVE)
    far(node, alice=100, bob=100 - limits.SECOND_PULL_MS // 2 + 1, carol=20, dave=1)
    pull = GossipPull((LARGE_ID,))
    node.hears(ALICE, news(LARGE))
    assert sent(node.hears(BOB, news(LARGE))) == []  # not worth a copy
    assert sent(node.hears(CAROL, news(LARGE, held=False))) == [(CAROL, pull)]
    assert sent(node.hears(DAVE, news(LARGE))) == []
    assert (node.core.links[ALICE].pulls, node.core.links[CAROL].pulls, node.core.sizes["pulls"]) == (1, 1, 1)
    assert of(Check, node.hears(CAROL, LARGE))
    assert (node.core.links[ALICE].pulls, node.core.links[CAROL].pulls, node.core.sizes["pulls"]) == (0, 0, 0)
    assert sent(node.does(Judged(LARGE_ID, Verdict.GOOD))) == [(ALICE, news(LARGE))]


def test_both_who_were_asked_and_kept_silent_answer_for_it() -> None:
    node = Node(ALICE, BOB, CAROL)
    far(node, alice=100, bob=5, carol=90)
    node.hears(ALICE, news(LARGE))
    node.hears(BOB, news(LARGE))
    node.hears(CAROL, news(LARGE))
    assert sent(node.wakes(limits.PULL_HELD_MS)) == [(CAROL, GossipPull((LARGE_ID,)))]  # when the last of them is given up
    assert (node.score(ALICE), node.score(BOB), node.score(CAROL)) == (limits.SCORE_UNKEPT, limits.SCORE_UNKEPT, 0)


def test_who_brings_late_what_it_has_is_not_shown_out_for_its_slow_line() -> None:
    """Its own messages, which nobody else can bring: each comes half a second after we gave up waiting."""
    node = Node(ALICE, BOB)
    for number in range(40):
        message = GossipPush(Topic.TRANSACTION, number.to_bytes(2, "big") * 2_000)
        name = message_id(message.topic, message.body)
        node.hears(ALICE, news(message))
        node.wakes(limits.PULL_HELD_MS)
        assert node.score(ALICE) < 0
        node.now_ms += 500
        assert of(Check, node.hears(ALICE, message))
        node.does(Judged(name, Verdict.USELESS))
        assert node.score(ALICE) == 0
        assert node.hears(ALICE, message) == []
    assert node.core.links[ALICE].hollow > 0  # news of it is not passed on at once any more, all the same


def test_what_comes_late_gives_back_what_its_lateness_cost_once_and_no_more() -> None:
    node = Node(ALICE)
    node.hears(ALICE, news(LARGE))
    node.wakes(limits.PULL_HELD_MS)
    node.core.links[ALICE].charge(-30)
    node.hears(ALICE, LARGE)
    assert node.score(ALICE) == -30
    node.hears(ALICE, LARGE)
    assert node.score(ALICE) == -30


def test_who_never_brings_what_it_has_is_shown_out() -> None:
    node = Node(ALICE)
    shown_out = []
    for number in range(-limits.SCORE_GREY // -limits.SCORE_UNKEPT + 1):
        message = GossipPush(Topic.TRANSACTION, number.to_bytes(2, "big") * 2_000)
        node.hears(ALICE, news(message))
        shown_out = of(Expel, node.wakes(limits.PULL_HELD_MS + 1))
    assert shown_out
