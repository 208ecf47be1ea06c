"""Gossip with peers that mean harm: what they do costs them something, and nobody else more than a moment."""

from __future__ import annotations

import os
from collections.abc import Sequence

from support.gossip_node import ALICE, BOB, CAROL, DAVE, LARGE, LARGE_ID, SMALL, SMALL_ID, Node, news, of, sent

from qnode.core import gossip_limits as limits
from qnode.core.gossip_events import Check, Expel, Judged, LinkClosed, LinkOpened, Misled, Verdict
from qustream.rules.peering import message_id
from qustream.wire.gossip import Announced, GossipAnnounce, GossipGraft, GossipPrune, GossipPull, GossipPush, Topic


def invented(count: int, *, held: bool) -> list[Announced]:
    """News of messages that are not."""
    return [Announced(os.urandom(32), Topic.TRANSACTION, 5_000, held) for _ in range(count)]


def says(node: Node, peer: bytes, entries: Sequence[Announced]) -> None:
    for first in range(0, len(entries), 32):
        node.hears(peer, GossipAnnounce(tuple(entries[first : first + 32])))


def comes_back(node: Node, peer: bytes) -> None:
    node.does(LinkClosed(peer))
    node.does(LinkOpened(peer, "", ours=False))


def test_who_hangs_up_and_comes_back_is_not_forgiven() -> None:
    node = Node(ALICE)
    for _ in range(2):
        node.does(Misled(ALICE))
        comes_back(node, ALICE)
    assert node.score(ALICE) == 2 * limits.SCORE_BAD
    assert of(Expel, node.does(Misled(ALICE)))


def test_who_was_shown_out_and_is_linked_at_once_by_another_connection_is_shown_out_again() -> None:
    node = Node(ALICE)
    effects = [effect for _ in range(3) for effect in node.does(Misled(ALICE))]
    assert len(of(Expel, effects)) == 1
    assert [effect.peer for effect in of(Expel, node.does(LinkOpened(ALICE, "", ours=True)))] == [ALICE]
    assert not node.core.links


def test_a_bad_message_is_charged_to_who_has_hung_up_before_it_was_looked_at() -> None:
    node = Node(ALICE, BOB)
    names = []
    for number in range(4):
        message = GossipPush(Topic.EVIDENCE, b"bad %d" % number)
        names.append(message_id(message.topic, message.body))
        assert of(Check, node.hears(ALICE, message))
    node.does(LinkClosed(ALICE))
    expelled = [effect.peer for name in names for effect in of(Expel, node.does(Judged(name, Verdict.BAD)))]
    assert expelled == [ALICE]  # grey-listed, once


def test_time_forgives_who_is_away_as_well() -> None:
    node = Node(ALICE)
    node.does(Misled(ALICE))
    node.does(LinkClosed(ALICE))
    node.now_ms += 6 * limits.DECAY_MS
    node.does(LinkOpened(ALICE, "", ours=False))
    assert -60 < node.score(ALICE) < -50
    node.does(LinkClosed(ALICE))
    node.now_ms += limits.PAST_MS
    node.does(LinkOpened(ALICE, "", ours=False))
    assert node.score(ALICE) == 0


def test_peers_that_keep_us_waiting_leave_room_for_the_others() -> None:
    bad = [bytes([number]) * 32 for number in range(8)]
    node = Node(*bad, BOB)
    for peer in bad:
        says(node, peer, invented(64, held=False))
    assert sent(node.hears(BOB, news(LARGE))) == [(BOB, GossipPull((LARGE_ID,)))]


def test_a_peer_whose_promises_come_to_nothing_is_asked_for_little() -> None:
    node = Node(ALICE, BOB)
    says(node, ALICE, invented(64, held=False))
    assert node.core.links[ALICE].pulls == limits.PULLS_PEER_MAX
    node.wakes(limits.PULL_HEARD_MS)
    says(node, ALICE, invented(64, held=False))
    assert node.core.links[ALICE].pulls == limits.PULLS_SURE


def test_what_such_a_peer_tells_first_is_asked_of_the_next_at_once() -> None:
    node = Node(ALICE, BOB)
    says(node, ALICE, invented(limits.HOLLOW_MAX, held=False))
    node.wakes(limits.PULL_HEARD_MS)
    assert (ALICE, GossipPull((LARGE_ID,))) in sent(node.hears(ALICE, news(LARGE, held=False)))
    assert (BOB, GossipPull((LARGE_ID,))) in sent(node.hears(BOB, news(LARGE, held=False)))


def test_honest_peers_that_passed_on_what_somebody_made_up_stay_in_the_mesh_and_are_believed_again() -> None:
    node = Node(ALICE, BOB, CAROL, DAVE)
    says(node, BOB, invented(2 * limits.HOLLOW_MAX, held=False))  # as they heard it
    node.wakes(limits.PULL_HEARD_MS)
    assert not node.core.links[BOB].is_trusted
    assert not [message for _, message in sent(node.beats()) if isinstance(message, GossipPrune)]
    assert node.core.links[BOB] in node.core.mesh
    assert (ALICE, news(LARGE, held=False)) not in sent(node.hears(BOB, news(LARGE, held=False)))
    for _ in range(2 * limits.DECAY_MS // 1000):
        node.beats()
    another = GossipPush(Topic.BLOCK, b"another" * 1000)
    assert (ALICE, news(another, held=False)) in sent(node.hears(BOB, news(another, held=False)))


def test_news_of_what_is_useless_comes_to_nothing_too() -> None:
    node = Node(ALICE, BOB)
    for number in range(limits.HOLLOW_MAX):
        message = GossipPush(Topic.TRANSACTION, number.to_bytes(2, "big") * 1000)
        node.hears(ALICE, news(message))
        node.hears(ALICE, message)
        node.does(Judged(message_id(message.topic, message.body), Verdict.USELESS))
    assert node.score(ALICE) == 0
    assert (BOB, news(LARGE, held=False)) not in sent(node.hears(ALICE, news(LARGE)))


def test_a_line_that_stands_still_for_a_moment_is_no_liars() -> None:
    node = Node(ALICE, BOB)
    says(node, ALICE, invented(64, held=True))
    node.wakes(limits.PULL_HELD_MS)
    assert node.score(ALICE) == limits.SCORE_UNKEPT
    expelled = 0
    for _ in range(60):  # but who goes on so is one
        if ALICE in node.core.links:
            says(node, ALICE, invented(1, held=True))
        expelled += len(of(Expel, node.wakes(limits.PULL_HELD_MS)))
        expelled += len(of(Expel, node.beats(0)))
    assert expelled == 1


def test_who_asks_into_the_mesh_again_and_again_is_shown_out() -> None:
    node = Node(ALICE, ours=False)
    node.hears(ALICE, GossipPrune(60))
    tries = -limits.SCORE_GREY // -limits.SCORE_OVER
    assert not [effect for _ in range(tries) for effect in of(Expel, node.hears(ALICE, GossipGraft()))]
    assert of(Expel, node.hears(ALICE, GossipGraft()))


def test_a_message_is_good_whoever_has_gone() -> None:
    node = Node(ALICE, BOB)
    node.hears(ALICE, SMALL)
    node.does(LinkClosed(ALICE))
    assert sent(node.does(Judged(SMALL_ID, Verdict.GOOD))) == [(BOB, SMALL)]
