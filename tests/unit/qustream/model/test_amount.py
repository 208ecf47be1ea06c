"""Amounts: what is shown is what is meant, and what is unclear is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qustream.model.amount import UNITS_MAX, amount_shown, amount_text, parse_amount


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0", 0), ("1", 10**9), ("12.5", 12_500_000_000), ("12.5 QST", 12_500_000_000), ("12.5QST", 12_500_000_000),
        ("0.000000001", 1), ("200000", 200_000 * 10**9), (" 007 ", 7 * 10**9), ("9223372036.854775807", UNITS_MAX),
    ],
)  # fmt: skip
def test_amounts_as_people_write_them(text: str, units: int) -> None:
    assert parse_amount(text) == units


@pytest.mark.parametrize(
    "text",
    ["", ".", ".5", "5.", "-1", "+1", "1e3", "1,000", "12,5", "1_000", "0x10", "1.0000000001", "1 000", "1 EUR", "9223372036.854775808",
     "99999999999", "١", "1.5 qst", "1 QST QST", "nan", "1\n2"],
)  # fmt: skip
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount|more than"):
        parse_amount(text)


def test_a_comma_is_named() -> None:
    with pytest.raises(ValueError, match="without commas"):
        parse_amount("1,000")


@given(st.integers(0, UNITS_MAX))
def test_what_is_shown_can_be_typed_again(units: int) -> None:
    assert parse_amount(amount_text(units)) == parse_amount(amount_shown(units)) == units


def test_what_is_shown() -> None:
    assert [amount_text(u) for u in (0, 1, 12_500_000_000, -1)] == ["0.000000000", "0.000000001", "12.500000000", "-0.000000001"]
    assert [amount_shown(u) for u in (0, 1, 10**10, 12_500_000_000)] == ["0 QST", "0.000000001 QST", "10 QST", "12.5 QST"]
