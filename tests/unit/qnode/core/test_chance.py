"""Chance that follows from the bits it is fed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from qnode.core.chance import Chance


@given(st.integers(0, (1 << 64) - 1), st.integers(1, 10_000))
def test_numbers_are_in_bounds_and_follow_from_the_draw(draw: int, count: int) -> None:
    first, second = Chance(draw), Chance(draw)
    numbers = [first.below(count) for _ in range(20)]
    assert numbers == [second.below(count) for _ in range(20)]
    assert all(0 <= number < count for number in numbers)
    assert all(abs(first.about(count) - count) <= count // 4 + 1 for _ in range(20))


def test_every_feed_changes_what_follows_and_nothing_is_favoured() -> None:
    fed = Chance()
    fed.feed(5)
    assert [fed.below(1 << 20) for _ in range(5)] != [Chance().below(1 << 20) for _ in range(5)]
    chance = Chance(3)
    counts = [0] * 10
    for draw in range(10_000):
        chance.feed(draw)
        counts[chance.choice(range(10))] += 1
    assert 850 < min(counts) <= max(counts) < 1_150


@given(st.lists(st.integers()), st.integers(0, 50), st.integers(0, (1 << 64) - 1))
def test_dealing_gives_so_many_and_none_twice(items: list[int], count: int, draw: int) -> None:
    hand = Chance(draw).dealt(items, count)
    assert len(hand) == min(count, len(items))
    assert not Counter(hand) - Counter(items)
    assert hand == Chance(draw).dealt(items, count)


def test_everybody_is_dealt_about_as_often() -> None:
    times = Counter(item for draw in range(2_000) for item in Chance(draw * 0x9E3779B97F4A7C15 % (1 << 64)).dealt(range(10), 3))
    assert set(times) == set(range(10))
    assert max(times.values()) < 1.3 * min(times.values())
