"""Quorums and leaders."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from qustream.rules.rotation import anchor_of, leaders, quorum

SEED = bytes(range(32))


@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=7))
def test_any_two_quorums_share_more_than_a_third(weights: list[int]) -> None:
    needed = quorum(weights)
    groups = [
        set(group) for size in range(1, len(weights) + 1) for group in combinations(range(len(weights)), size)
        if sum(weights[each] for each in group) >= needed
    ]  # fmt: skip
    assert all(3 * sum(weights[each] for each in one & other) > sum(weights) for one in groups[:40] for other in groups[-40:])


@given(st.lists(st.integers(1, 10**18), min_size=1, max_size=40))
def test_shares_follow_the_weights_up_to_three_times_the_median(weights: list[int]) -> None:
    views = Counter(leaders(weights, SEED))
    total = sum(views.values())
    median = sorted(weights)[(len(weights) - 1) // 2]
    capped = [min(weight, 3 * median) for weight in weights]
    for number, weight in enumerate(capped):
        assert abs(views[number] - total * weight / sum(capped)) <= 1
    for one, other in combinations(range(len(weights)), 2):
        assert not (weights[one] == weights[other] and abs(views[one] - views[other]) > 1)


def test_the_order_follows_from_the_seed() -> None:
    weights = [5, 1, 1, 9]
    assert leaders(weights, SEED) == leaders(weights, SEED)
    assert leaders(weights, SEED) != leaders(weights, bytes(32))
    assert Counter(leaders(weights, SEED)) == Counter(leaders(weights, bytes(32)))
    assert len(leaders([1] * 100, SEED)) == 400


@given(st.lists(st.tuples(st.integers(1, 10**18), st.booleans()), min_size=1, max_size=40))
def test_who_does_not_lead_is_in_no_view_and_changes_nothing_for_the_others(validators: list[tuple[int, bool]]) -> None:
    weights, leads = [weight for weight, _ in validators], [does for _, does in validators]
    if not any(leads):
        return
    order = leaders(weights, SEED, leads)
    numbers = [number for number, does in enumerate(leads) if does]
    assert [numbers[place] for place in leaders([weights[number] for number in numbers], SEED)] == order
    assert leaders(weights, SEED) == leaders(weights, SEED, [True] * len(weights))


def test_a_reveal_is_bound_to_its_use() -> None:
    assert anchor_of(bytes(32)) != bytes(32)
    assert len({anchor_of(bytes([n]) * 32) for n in range(9)}) == 9
