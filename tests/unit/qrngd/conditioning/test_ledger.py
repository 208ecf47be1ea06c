"""The ledger never lets more out than came in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrngd.conditioning.ledger import EntropyLedger


def ledger() -> EntropyLedger:
    return EntropyLedger(samples_per_lane=32, min_entropy_millibits=7000)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=40))
def test_taken_never_exceeds_credited(steps: list[tuple[bool, int]]) -> None:
    book, credited, taken = ledger(), 0, 0
    for is_credit, amount in steps:
        if is_credit:
            book.credit(amount)
            credited += 128 * amount
        elif taken + 8 * amount <= credited:
            book.take(amount)
            taken += 8 * amount
        else:
            with pytest.raises(AssertionError):
                book.take(amount)
        assert (book.credited_bits, book.taken_bits, book.available_bits) == (credited, taken, credited - taken)


def test_a_lane_too_thin_for_its_output_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        EntropyLedger(samples_per_lane=32, min_entropy_millibits=5999)
