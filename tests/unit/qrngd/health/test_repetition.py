"""The screened repetition count test equals the standard's loop, run by run and cut by cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrngd.health.repetition import RepetitionTest
from qrngd.health.samples import Samples
from qrngd.health.verdict import Finding, Grade, HealthTest

WINDOW = 64


def naive(samples: list[int], cutoffs: tuple[int, int]) -> dict[int, Finding]:
    """SP 800-90B §4.4.1 as written, with B kept at every sample."""
    findings: dict[int, Finding] = {}
    previous, run = None, 0
    for offset, sample in enumerate(samples):
        run = run + 1 if sample == previous else 1
        previous = sample
        if run >= cutoffs[0]:
            window, place = divmod(offset, WINDOW)
            old = findings.get(window, Finding(HealthTest.REPETITION, Grade.INTERMITTENT, 0, cutoffs[0], 0, place))
            worst = max(old.worst, run)
            grade = Grade.PERMANENT if worst >= cutoffs[1] else Grade.INTERMITTENT
            findings[window] = old._replace(grade=grade, worst=worst, alarms=old.alarms + 1)
    return findings


def judged(test: RepetitionTest, samples: Samples, calls: list[int]) -> dict[int, Finding]:
    """Feed `samples` in calls of so many windows each, the rest in one."""
    found, done = {}, 0
    total = samples.size // WINDOW
    for count in [*calls, total]:
        count = min(count, total - done)
        if count:
            part = samples[done * WINDOW : (done + count) * WINDOW]
            found |= {done + window: finding for window, finding in test.judge(part, WINDOW).items()}
            done += count
    return found


runs = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 70)), min_size=1, max_size=40)
cutoff_pairs = st.tuples(st.integers(2, 40), st.integers(0, 30)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def whole_windows(pieces: list[tuple[int, int]]) -> list[int]:
    samples = [value for value, length in pieces for _ in range(length)]
    return samples + [number % 5 + 3 for number in range(-len(samples) % WINDOW)]


@given(runs, cutoff_pairs, st.lists(st.integers(1, 3), max_size=6), st.sampled_from([np.uint8, np.uint16]))
def test_equals_the_loop_on_crafted_runs(
    pieces: list[tuple[int, int]], cutoffs: tuple[int, int], calls: list[int], kind: type[np.uint8 | np.uint16]
) -> None:
    samples = whole_windows(pieces)
    test = RepetitionTest(cutoffs, np.dtype(kind).itemsize)
    assert judged(test, np.array(samples, dtype=kind), calls) == naive(samples, cutoffs)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 8]), cutoff_pairs)
def test_equals_the_loop_on_random_samples(seed: int, alphabet: int, cutoffs: tuple[int, int]) -> None:
    samples = np.random.default_rng(seed).integers(0, alphabet, 40 * WINDOW, dtype=np.uint8)
    assert judged(RepetitionTest(cutoffs, 1), samples, [7, 1, 20]) == naive(samples.tolist(), cutoffs)


@pytest.mark.parametrize("cutoff", range(2, 40))
@pytest.mark.parametrize("start", [0, 1, 2, 3, 5, 60, 63, 64, 65, 127])
def test_a_run_of_exactly_the_cutoff_is_found_wherever_it_stands_and_one_less_is_not(cutoff: int, start: int) -> None:
    base = [1 + number % 2 for number in range(6 * WINDOW)]
    for length in (cutoff, cutoff - 1):
        samples = base[:start] + [7] * length + base[start + length :]
        found = judged(RepetitionTest((cutoff, cutoff + 20), 1), np.array(samples, dtype=np.uint8), [1, 1, 1, 1, 1])
        assert found == naive(samples, (cutoff, cutoff + 20))
        assert bool(found) == (length == cutoff)


def test_a_restart_forgets_the_run() -> None:
    test = RepetitionTest((100, 200), 1)
    constant = np.zeros(WINDOW, dtype=np.uint8)
    assert test.judge(constant, WINDOW) == {}
    test.restart()
    assert test.judge(constant, WINDOW) == {}
    assert test.judge(constant, WINDOW)[0].worst == 2 * WINDOW
