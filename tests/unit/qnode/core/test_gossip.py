"""The gossip core, event by event: what it sends, asks, charges and forgets."""

from __future__ import annotations

import os

import pytest
from support.gossip_node import ALICE, BOB, CAROL, DAVE, LARGE, LARGE_ID, SMALL, SMALL_ID, Node, news, of, sent

from qnode.core import gossip_limits as limits
from qnode.core.gossip_events import (
    Check,
    DelayMeasured,
    Expel,
    Judged,
    LinkClosed,
    LinkOpened,
    Misled,
    Published,
    Verdict,
    Wake,
)
from qustream.rules.peering import message_id
from qustream.wire.gossip import Announced, GossipAnnounce, GossipGraft, GossipPrune, GossipPull, GossipPush, Topic


def test_a_small_message_is_checked_and_then_pushed_to_who_does_not_have_it() -> None:
    node = Node(ALICE, BOB, CAROL)
    assert node.hears(ALICE, SMALL) == [Check(SMALL_ID, SMALL.topic, SMALL.body, ALICE)]
    assert node.hears(BOB, SMALL) == []  # again, while it is being checked
    assert sent(node.does(Judged(SMALL_ID, Verdict.GOOD))) == [(CAROL, SMALL)]
    assert node.hears(CAROL, SMALL) == []
    assert (node.score(ALICE), node.score(BOB), node.core.duplicates) == (1, 0, 2)


@pytest.mark.parametrize(("verdict", "score"), [(Verdict.BAD, -100), (Verdict.USELESS, 0)])
def test_what_is_not_good_goes_nowhere_and_is_not_checked_again(verdict: Verdict, score: int) -> None:
    node = Node(ALICE, BOB)
    node.hears(ALICE, SMALL)
    assert sent(node.does(Judged(SMALL_ID, verdict))) == []
    assert node.hears(BOB, SMALL) == []
    assert (node.score(ALICE), node.score(BOB)) == (score, 0)
    assert node.does(Judged(SMALL_ID, Verdict.GOOD)) == []  # a verdict nobody waits for


def test_a_large_message_is_pulled_once_and_news_of_it_runs_ahead() -> None:
    node = Node(ALICE, BOB, CAROL)
    effects = node.hears(ALICE, news(LARGE))
    assert sent(effects) == [
        (BOB, news(LARGE, held=False)),
        (CAROL, news(LARGE, held=False)),
        (ALICE, GossipPull((LARGE_ID,))),
    ]
    assert of(Wake, effects) == [Wake(node.now_ms + limits.PULL_HELD_MS)]
    assert node.hears(BOB, news(LARGE)) == []  # asked already
    assert sent(node.hears(CAROL, GossipPull((LARGE_ID,)))) == []  # promised
    assert of(Check, node.hears(ALICE, LARGE))
    assert sent(node.does(Judged(LARGE_ID, Verdict.GOOD))) == [(CAROL, LARGE)]  # kept; and told nobody a second time


def test_what_we_say_ourselves_goes_to_every_link_if_it_is_small() -> None:
    node = Node(ALICE)
    node.does(LinkOpened(BOB, "bob", ours=False))  # linked, and not in the mesh
    assert sent(node.does(Published(SMALL.topic, SMALL.body))) == [(ALICE, SMALL), (BOB, SMALL)]
    assert sent(node.does(Published(LARGE.topic, LARGE.body))) == [(ALICE, news(LARGE)), (ALICE, LARGE)]  # news first, then the bytes
    assert sent(node.hears(ALICE, GossipPull((LARGE_ID,)))) == []  # it is on its way
    assert node.does(Published(SMALL.topic, SMALL.body)) == []
    assert sent(node.hears(BOB, GossipPull((LARGE_ID,)))) == [(BOB, LARGE)]
    assert sent(node.hears(BOB, GossipPull((LARGE_ID,)))) == []  # once


def test_what_was_on_its_way_when_a_link_broke_is_told_again_on_the_next() -> None:
    node = Node(ALICE, BOB)
    node.hears(BOB, SMALL)
    assert sent(node.does(Judged(SMALL_ID, Verdict.GOOD))) == [(ALICE, SMALL)]
    for peer in (ALICE, BOB):
        node.does(LinkClosed(peer))
        node.does(LinkOpened(peer, "again", ours=False))
    told = [(peer, message) for peer, message in sent(node.beats()) if isinstance(message, GossipAnnounce)]
    assert told == [(ALICE, news(SMALL))]  # bob is the one who brought it


def test_what_was_on_its_way_is_told_again_to_who_is_back_in_the_mesh_at_once() -> None:
    """Two links that crossed: one goes, the other is there, and its peer grafts us before the heart beats."""
    node = Node(ALICE, BOB)
    node.hears(BOB, SMALL)
    node.does(Judged(SMALL_ID, Verdict.GOOD))
    node.does(LinkClosed(ALICE))
    node.does(LinkOpened(ALICE, "alice", ours=False))
    node.hears(ALICE, GossipGraft())
    assert sent(node.beats()) == [(ALICE, news(SMALL))]
    assert sent(node.beats()) == []


def test_what_was_above_what_a_peer_takes_is_told_by_the_next_heartbeats() -> None:
    node = Node(ALICE)
    bodies = [bytes([number]) * 50 for number in range(1, 31)]
    told = [sent(node.does(Published(Topic.ANNOUNCEMENT, body))) for body in bodies]
    assert [len(each) for each in told] == [1] * 25 + [0] * 5
    later = [message for _ in range(2) for _, message in sent(node.beats()) if isinstance(message, GossipAnnounce)]
    assert [len(message.entries) for message in later] == [4, 1]
    ids = {entry.id for message in later for entry in message.entries}
    assert ids == {message_id(Topic.ANNOUNCEMENT, body) for body in bodies[25:]}
    assert not [message for _, message in sent(node.beats()) if isinstance(message, GossipAnnounce)]


def test_who_does_not_keep_a_promise_is_charged_and_the_next_is_asked() -> None:
    node = Node(ALICE, BOB, CAROL)
    node.hears(ALICE, news(LARGE))
    node.hears(BOB, news(LARGE, held=False))
    assert sent(node.wakes(limits.PULL_HELD_MS - 1)) == []
    effects = node.wakes(1)
    assert sent(effects) == [(BOB, GossipPull((LARGE_ID,)))]
    assert node.score(ALICE) == limits.SCORE_UNKEPT
    effects = node.wakes(limits.PULL_HEARD_MS)
    assert (node.score(BOB), node.core.links[BOB].hollow) == (0, 1)  # it never said that it had it
    assert sent(effects) == []
    assert node.core.sizes["seen"] == node.core.sizes["pulls"] == 0  # forgotten, so that it can be heard of again
    assert (CAROL, GossipPull((LARGE_ID,))) in sent(node.hears(CAROL, news(LARGE)))


def test_a_late_answer_is_taken_and_costs_nothing() -> None:
    node = Node(ALICE, BOB)
    node.hears(ALICE, news(LARGE))
    node.hears(BOB, news(LARGE))
    node.wakes(limits.PULL_HELD_MS)
    assert of(Check, node.hears(ALICE, LARGE))
    node.does(Judged(LARGE_ID, Verdict.GOOD))
    assert node.hears(BOB, LARGE) == []
    assert node.score(BOB) == 0
    assert node.core.links[BOB].pulls == node.core.links[ALICE].pulls == 0


def test_a_peer_that_leaves_is_not_waited_for() -> None:
    node = Node(ALICE, BOB)
    node.hears(ALICE, news(LARGE))
    node.hears(BOB, news(LARGE))
    assert of(Wake, node.does(LinkClosed(ALICE))) == [Wake(node.now_ms)]
    assert sent(node.wakes(0)) == [(BOB, GossipPull((LARGE_ID,)))]
    node.does(LinkOpened(ALICE, "alice", ours=True))
    assert node.core.links[ALICE].pulls == 0


def test_a_large_message_nobody_asked_for_is_taken_and_ends_the_pull() -> None:
    node = Node(ALICE, BOB)
    node.hears(ALICE, news(LARGE))
    assert of(Check, node.hears(BOB, LARGE))
    assert (node.core.sizes["pulls"], node.core.links[ALICE].pulls) == (0, 0)
    assert sent(node.does(Judged(LARGE_ID, Verdict.GOOD))) == [(ALICE, news(LARGE))]  # she need not send it any more
    assert node.hears(ALICE, LARGE) == []
    assert (node.score(ALICE), node.score(BOB), node.core.duplicates) == (0, 1, 1)


def unasked(number: int) -> GossipPush:
    return GossipPush(Topic.TRANSACTION, number.to_bytes(2, "big") * 8192)


def test_bytes_nobody_asked_for_are_limited_and_what_is_above_is_charged() -> None:
    node = Node(ALICE)
    fit = limits.UNASKED_BURST_BYTES // 16_384
    for number in range(fit):
        assert of(Check, node.hears(ALICE, unasked(number)))
    assert node.hears(ALICE, unasked(fit)) == []
    assert node.score(ALICE) == limits.SCORE_UNASKED
    assert node.core.sizes["seen"] == fit
    node.now_ms += 1000 * 16_384 // limits.UNASKED_BYTES_PER_S + 1
    assert of(Check, node.hears(ALICE, unasked(fit)))


def test_what_was_asked_for_is_not_limited_so_but_only_once() -> None:
    node = Node(ALICE)
    for number in range(limits.UNASKED_BURST_BYTES // 16_384):
        node.hears(ALICE, unasked(number))
    node.hears(ALICE, news(LARGE))
    assert of(Check, node.hears(ALICE, LARGE))
    assert node.score(ALICE) == 0
    assert node.hears(ALICE, LARGE) == []
    assert node.score(ALICE) == limits.SCORE_UNASKED


def test_we_do_not_push_unasked_what_a_peer_would_charge_us_for() -> None:
    node = Node(ALICE)
    pushed = 0
    for number in range(2 * limits.UNASKED_BURST_BYTES // 16_384):
        message = unasked(number)
        effects = sent(node.does(Published(message.topic, message.body)))
        assert effects[0] == (ALICE, news(message))  # the news goes out in any case
        pushed += len(effects) - 1
    assert 0 < pushed * 16_384 <= limits.UNASKED_BURST_BYTES * 4 // 5


def test_a_false_size_is_put_right_by_the_body() -> None:
    node = Node(ALICE, BOB)
    node.hears(ALICE, GossipAnnounce((Announced(LARGE_ID, LARGE.topic, 3, True),)))
    node.hears(ALICE, LARGE)
    assert sent(node.does(Judged(LARGE_ID, Verdict.GOOD)))[0] == (BOB, news(LARGE))
    assert node.core.sizes["kept_bytes"] == len(LARGE.body)


def test_a_delay_is_taken_within_bounds_and_of_a_peer_that_is_linked() -> None:
    node = Node(ALICE)
    assert node.core.links[ALICE].delay_ms == limits.DELAY_UNKNOWN_MS
    for told, taken in ((-5, 0), (30, 30), (10**9, limits.DELAY_MAX_MS)):
        node.does(DelayMeasured(ALICE, told))
        assert node.core.links[ALICE].delay_ms == taken
    assert node.does(DelayMeasured(BOB, 5)) == []


def test_news_of_a_peer_whose_news_comes_to_nothing_is_not_passed_on_at_once() -> None:
    node = Node(ALICE, BOB)
    for number in range(limits.HOLLOW_MAX):
        message = GossipPush(Topic.BLOCK, number.to_bytes(2, "big") * 1000)
        assert (BOB, news(message, held=False)) in sent(node.hears(ALICE, news(message, held=False)))
        node.wakes(limits.PULL_HEARD_MS)
    last = GossipPush(Topic.BLOCK, b"last" * 1000)
    assert sent(node.hears(ALICE, news(last, held=False))) == [(ALICE, GossipPull((message_id(last.topic, last.body),)))]


def test_above_a_limit_messages_are_dropped_and_charged() -> None:
    node = Node(ALICE)
    burst = limits.TOPIC_LIMITS[Topic.EVIDENCE].burst
    for number in range(burst):
        assert of(Check, node.hears(ALICE, GossipPush(Topic.EVIDENCE, number.to_bytes(4, "big"))))
    assert node.hears(ALICE, GossipPush(Topic.EVIDENCE, b"one more")) == []
    assert node.score(ALICE) == limits.SCORE_OVER
    node.now_ms += 1000 // limits.TOPIC_LIMITS[Topic.EVIDENCE].rate_per_s
    assert of(Check, node.hears(ALICE, GossipPush(Topic.EVIDENCE, b"one more")))
    too_long = GossipPush(Topic.ADDRESS, b"x" * (limits.TOPIC_LIMITS[Topic.ADDRESS].body_max_bytes + 1))
    assert node.hears(ALICE, too_long) == []


def test_we_do_not_send_what_a_peer_would_charge_us_for() -> None:
    node = Node(ALICE, BOB)
    pushed = 0
    for number in range(limits.TOPIC_LIMITS[Topic.EVIDENCE].burst):
        body = number.to_bytes(4, "big")
        node.hears(ALICE, GossipPush(Topic.EVIDENCE, body))
        pushed += len(sent(node.does(Judged(message_id(Topic.EVIDENCE, body), Verdict.GOOD))))
    assert pushed < limits.TOPIC_LIMITS[Topic.EVIDENCE].burst


def test_bad_messages_end_a_link_and_what_comes_after_is_not_heard() -> None:
    node = Node(ALICE, BOB)
    for number in range(3):
        body = b"bad" + bytes([number])
        node.hears(ALICE, GossipPush(Topic.TRANSACTION, body))
        effects = node.does(Judged(message_id(Topic.TRANSACTION, body), Verdict.BAD))
    assert of(Expel, effects) == [Expel(ALICE, node.now_ms + limits.GREY_MS)]
    assert ALICE not in node.core.links
    assert node.hears(ALICE, SMALL) == []


def test_news_that_ends_its_teller_stops_being_read() -> None:
    node = Node(ALICE)
    too_large = tuple(Announced(os.urandom(32), Topic.ADDRESS, 1 << 20, True) for _ in range(64))
    for _ in range(2):
        effects = node.hears(ALICE, GossipAnnounce(too_large))
    assert len(of(Expel, effects)) == 1
    assert node.hears(ALICE, GossipAnnounce(too_large)) == []


def test_pulls_are_bounded_in_all_and_a_peer() -> None:
    node = Node(ALICE, BOB, CAROL, DAVE, b"e" * 32)
    for peer in node.core.links:
        for _ in range(3):
            entries = tuple(Announced(os.urandom(32), Topic.TRANSACTION, 5_000, True) for _ in range(40))
            node.hears(peer, GossipAnnounce(entries))
    assert limits.PULLS_COMMON_MAX <= node.core.sizes["pulls"] <= limits.PULLS_COMMON_MAX + 5 * limits.PULLS_SURE <= limits.PULLS_MAX
    assert max(link.pulls for link in node.core.links.values()) <= limits.PULLS_PEER_MAX
    assert node.core.dropped > 0


def test_grafts_and_prunes() -> None:
    node = Node(ALICE, ours=False)
    assert [link.peer for link in node.core.mesh] == [ALICE]
    assert node.hears(ALICE, GossipGraft()) == []
    node.hears(ALICE, GossipPrune(60))
    assert node.core.mesh == []
    assert sent(node.hears(ALICE, GossipGraft())) == [(ALICE, GossipPrune(limits.BACKOFF_MS // 1000))]  # before its own time
    assert node.score(ALICE) == limits.SCORE_OVER


def test_who_is_expelled_for_the_last_of_its_news_is_asked_for_nothing() -> None:
    node = Node(ALICE)
    entries = [Announced(bytes([number]) * 32, Topic.BLOCK, 5000, True) for number in range(limits.TOPIC_LIMITS[Topic.BLOCK].burst)]
    entries.append(Announced(b"x" * 32, Topic.BLOCK, 0, True))
    node.core.links[ALICE].charge(limits.SCORE_GREY)
    effects = node.hears(ALICE, GossipAnnounce(tuple(entries)))
    assert of(Expel, effects)
    assert (ALICE, GossipPull) not in [(peer, type(message)) for peer, message in sent(effects)]


def test_what_was_missed_is_told_by_lazy_repair() -> None:
    node = Node(ALICE)
    node.does(LinkOpened(BOB, "bob", ours=False))
    node.hears(ALICE, SMALL)
    node.does(Judged(SMALL_ID, Verdict.GOOD))
    assert (BOB, news(SMALL)) in sent(node.beats())
    assert (BOB, news(SMALL)) not in sent(node.beats())
    assert sent(node.hears(BOB, GossipPull((SMALL_ID,)))) == [(BOB, SMALL)]


def test_bodies_go_after_a_while_and_ids_with_them() -> None:
    node = Node(ALICE)
    for number in range(100):
        body = number.to_bytes(2, "big") * 60_000
        node.does(Published(Topic.BLOCK, body))
    assert node.core.sizes["kept_bytes"] <= limits.KEEP_BYTES
    assert node.core.sizes["seen"] == 100
    node.beats(limits.KEEP_MS + 1)
    assert (node.core.sizes["kept_bytes"], node.core.sizes["seen"]) == (0, 0)


def test_more_links_than_there_is_room_for_are_turned_away() -> None:
    node = Node()
    for number in range(limits.LINKS_MAX):
        node.does(LinkOpened(number.to_bytes(32, "big"), "", ours=False))
    assert node.does(LinkOpened(ALICE, "alice", ours=False)) == [Expel(ALICE, node.now_ms)]


def test_what_is_not_true_elsewhere_counts_as_a_bad_message() -> None:
    node = Node(ALICE, BOB)
    assert node.does(Misled(ALICE)) == []
    assert node.score(ALICE) == limits.SCORE_BAD
    node.does(Misled(ALICE))
    [expel] = [effect for effect in node.does(Misled(ALICE)) if isinstance(effect, Expel)]
    assert expel.peer == ALICE
    assert set(node.core.links) == {BOB}
    assert node.does(Misled(CAROL)) == []
