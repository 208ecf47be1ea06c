"""Who is asked for a body, and who answers for keeping silent."""

from __future__ import annotations

from support.gossip_node import ALICE, BOB, CAROL, DAVE, LARGE, LARGE_ID, Node, far, news, of, sent

from qnode.core import gossip_limits as limits
from qnode.core.gossip_events import Check, Judged, Verdict
from qustream.wire.gossip import GossipPull


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
