"""Adaptive proportion and lag predictor equal plain loops over rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrngd.health.rows import RowTests
from qrngd.health.samples import ROWS, Samples
from qrngd.health.verdict import Finding, Grade, HealthTest

WIDTH = 16  # samples in a row here: the arithmetic is the same and the loops below stay short
WINDOW = ROWS * WIDTH


def naive(samples: list[int], cutoffs: tuple[int, int]) -> dict[int, list[Finding]]:
    found: dict[int, list[Finding]] = {}
    for window in range(len(samples) // WINDOW):
        proportion, predictor = [], []
        for row in range(ROWS):
            start = window * WINDOW + row * WIDTH
            places = range(start, start + WIDTH)
            proportion.append(sum(samples[place] == samples[start] for place in places))
            predictor.append(sum(place > row and samples[place] == samples[place - row - 1] for place in places))
        for test, hits in ((HealthTest.PROPORTION, proportion), (HealthTest.PREDICTOR, predictor)):
            worst = max(hits)
            if worst >= cutoffs[0]:
                grade = Grade.PERMANENT if worst >= cutoffs[1] else Grade.INTERMITTENT
                alarms = sum(count >= cutoffs[0] for count in hits)
                place = hits.index(worst) + (test is HealthTest.PREDICTOR)
                found.setdefault(window, []).append(Finding(test, grade, worst, cutoffs[0], alarms, place))
    return found


def judged(samples: Samples, cutoffs: tuple[int, int], calls: list[int]) -> dict[int, list[Finding]]:
    test, found, done = RowTests(cutoffs, WIDTH, windows_max=4), {}, 0
    total = samples.size // WINDOW
    for count in [*calls, total]:
        count = min(count, total - done)
        if count:
            part = samples[done * WINDOW : (done + count) * WINDOW]
            found |= {done + window: finding for window, finding in test.judge(part).items()}
            done += count
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    alphabet=st.sampled_from([2, 3, 5, 200]),
    cutoff=st.integers(2, 17),
    calls=st.lists(st.integers(1, 2), max_size=2),
    kind=st.sampled_from([np.uint8, np.uint16]),
)
def test_equals_the_loops_on_random_samples(
    seed: int, alphabet: int, cutoff: int, calls: list[int], kind: type[np.uint8 | np.uint16]
) -> None:
    samples = np.random.default_rng(seed).integers(0, alphabet, 3 * WINDOW).astype(kind)
    assert judged(samples, (cutoff, cutoff + 2), calls) == naive(samples.tolist(), (cutoff, cutoff + 2))


@pytest.mark.parametrize("period", [1, 2, 3, 16, 17, 64, 127, 128])
def test_every_period_up_to_128_is_seen_in_every_window(period: int) -> None:
    pattern = np.random.default_rng(period).integers(0, 256, period, dtype=np.uint8)
    samples = np.resize(pattern, 3 * WINDOW)
    found = judged(samples, (14, 15), [1])
    assert found == naive(samples.tolist(), (14, 15))
    for window in range(3):
        predicted = [finding for finding in found[window] if finding.test is HealthTest.PREDICTOR]
        assert predicted[0].worst >= WIDTH - 1
        assert predicted[0].place % period == 0 or pattern.tolist().count(pattern[0]) > 1


def test_full_rows_do_not_overflow_the_byte_columns() -> None:
    test = RowTests((1024, 1024), 1024, windows_max=1)
    found = test.judge(np.zeros(ROWS * 1024, dtype=np.uint8))
    proportion, predictor = found[0]
    assert (proportion.worst, proportion.alarms) == (1024, ROWS)
    assert (predictor.worst, predictor.alarms) == (1024, ROWS - 1), "the stream's first sample has nothing before it"


def test_the_sample_before_a_call_counts_and_a_restart_forgets_it() -> None:
    test = RowTests((WIDTH, WIDTH), WIDTH, windows_max=1)
    zeros = np.zeros(WINDOW, dtype=np.uint8)
    assert test.judge(zeros)[0][1].alarms == ROWS - 1
    assert test.judge(zeros)[0][1].alarms == ROWS
    test.restart()
    assert test.judge(zeros)[0][1].alarms == ROWS - 1
