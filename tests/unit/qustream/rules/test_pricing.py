"""What requests cost, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ledger_world import PARAMETERS

from qustream.rules.pricing import grant_price, roll_over_price

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("count", "lifetime_ms", "units"),
    # 0.01 QST each, and 0.001 QST a megabyte and day of 6 · 262,504 bytes: 1,575,024 units a day.
    [(1, DAY_MS, 11_575_024), (1000, DAY_MS, 11_575_024_000), (1, 7 * DAY_MS, 21_025_168), (1, 1, 10_000_001), (5, 1, 50_000_005)],
)
def test_by_hand(count: int, lifetime_ms: int, units: int) -> None:
    assert grant_price(PARAMETERS, count, lifetime_ms) == units


@given(st.integers(1, 1 << 20), st.integers(1, 7 * DAY_MS))
def test_half_of_it_is_asked_for_an_exchange(count: int, lifetime_ms: int) -> None:
    assert 0 <= 2 * roll_over_price(PARAMETERS, count, lifetime_ms) - grant_price(PARAMETERS, count, lifetime_ms) <= 1
