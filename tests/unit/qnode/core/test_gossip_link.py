"""What one peer is allowed, and how a score fades."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qnode.core.gossip_limits import DECAY_MS, TOPIC_LIMITS, UNASKED_BURST_BYTES
from qnode.core.gossip_link import Allowance, Link, Past
from qustream.wire.gossip import Topic


def link(now_ms: int = 0) -> Link:
    return Link(bytes(32), operator="", ours=True, assigned=False, now_ms=now_ms)


@given(st.integers(1, 100), st.integers(1, 50), st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 60)), max_size=60))
def test_an_allowance_gives_what_it_says_and_no_more(per_s: int, at_once: int, takes: list[tuple[int, int]]) -> None:
    allowance, now_ms, taken = Allowance(per_s, at_once), 0, 0
    for later_ms, count in takes:
        now_ms += later_ms
        if allowance.take(count, now_ms):
            taken += count
        elif count <= at_once:
            assert not allowance.take(count, now_ms)  # at the same moment, again
    assert taken * 1000 <= at_once * 1000 + now_ms * per_s


def test_an_allowance_fills_again_up_to_what_there_is_at_once() -> None:
    allowance = Allowance(10, 5)
    assert allowance.take(5, 1_000)
    assert not allowance.take(1, 1_099)
    assert allowance.take(1, 1_100)
    assert allowance.take(5, 60_000)
    assert not allowance.take(1, 60_000)


def test_a_clock_that_stands_gives_nothing() -> None:
    allowance = Allowance(10, 1)
    assert allowance.take(1, 5_000)
    assert not allowance.take(1, 5_000)
    assert not allowance.take(1, 4_000)


def test_what_we_send_is_less_than_what_a_peer_takes() -> None:
    peer, ours = link(), link()
    sent = 0
    while ours.may_push(Topic.TRANSACTION, 10_000, 0):
        assert peer.allowed(Topic.TRANSACTION, 10_000, 0)
        assert peer.allowed_unasked(10_000, 0)
        sent += 10_000
    assert 0.7 * UNASKED_BURST_BYTES < sent <= 0.8 * UNASKED_BURST_BYTES
    count = 0
    while ours.may_send(Topic.EVIDENCE, 100, 0):
        count += 1
    assert count == TOPIC_LIMITS[Topic.EVIDENCE].burst * 4 // 5


def test_a_score_fades_a_tenth_every_ten_seconds() -> None:
    peer = link(now_ms=500)
    peer.charge(-100)
    assert peer.decay(500 + DECAY_MS - 1) == 500 + DECAY_MS
    assert peer.score == -100
    assert peer.decay(500 + 2 * DECAY_MS) == 500 + 3 * DECAY_MS
    assert peer.score == -81


def test_so_many_that_are_gone_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qnode.core.gossip_link.PAST_MAX", 3)
    past = Past()
    gone = [Link(bytes([number]) * 32, operator="", ours=True, assigned=False, now_ms=0) for number in range(5)]
    for each in gone:
        past.went(each, 0)
    assert len(past) == 3
    assert [past.get(each.peer) for each in gone] == [None, None, *gone[2:]]
    assert past.forget(gone[2].peer)
    assert not past.forget(gone[2].peer)
