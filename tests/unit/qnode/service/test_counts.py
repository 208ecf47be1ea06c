"""What is counted, and that nobody outside can make it grow."""

from __future__ import annotations

import pytest

from qnode.service.counts import DURATION_BOUNDS_MS, RequestCounts


def test_durations_fall_into_their_bounds() -> None:
    counts = RequestCounts()
    for duration_ms in (0.1, 2.0, 2.1, 10_000.0, 10_000.1, 1e9):
        counts.count_duration(duration_ms)
    assert counts.durations[0] == 2
    assert counts.durations[1] == 1
    assert counts.durations[len(DURATION_BOUNDS_MS) - 1] == 1
    assert counts.durations[-1] == 2
    assert sum(counts.durations) == 6


def test_a_code_that_is_not_in_the_table_is_our_own_bug() -> None:
    counts = RequestCounts()
    counts.count_refused("E-DEADLINE")
    counts.count_answered("key")
    with pytest.raises(AssertionError):
        counts.count_refused("E-MADE-UP-BY-A-PEER")
    assert (dict(counts.refused), dict(counts.answered)) == ({"E-DEADLINE": 1}, {"key": 1})
