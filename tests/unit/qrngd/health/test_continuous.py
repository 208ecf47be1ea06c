"""Whole windows: verdicts do not depend on how a stream is cut, and faults are found where the standard says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrngd.health.continuous import BATCH_WINDOWS, ContinuousTests
from qrngd.health.cutoffs import cutoffs_for
from qrngd.health.samples import Bytes
from qrngd.health.verdict import Grade, HealthTest, WindowVerdict


def random_bytes(seed: int, windows: int, window_bytes: int) -> Bytes:
    return np.frombuffer(np.random.default_rng(seed).bytes(windows * window_bytes), dtype=np.uint8).copy()


def judge_all(tests: ContinuousTests, raw: Bytes, calls: list[int]) -> list[WindowVerdict]:
    size, verdicts, done = tests.layout.window_bytes, [], 0
    total = raw.size // size
    for count in [*calls, *[BATCH_WINDOWS] * total]:
        count = min(count, total - done)
        if count:
            verdicts += tests.judge(raw[done * size : (done + count) * size])
            done += count
    return verdicts


@settings(max_examples=20)
@given(
    width=st.sampled_from([1, 4, 8, 12]),
    calls=st.lists(st.integers(1, 3), max_size=4),
    wounds=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 3000), st.integers(0, 255)), max_size=4),
)
def test_the_cut_changes_no_verdict(width: int, calls: list[int], wounds: list[tuple[float, int, int]]) -> None:
    cutoffs = cutoffs_for(1000 * width, width)
    tests, whole = ContinuousTests(cutoffs), ContinuousTests(cutoffs)
    size = tests.layout.window_bytes
    raw = random_bytes(len(wounds), 5, size)
    if width in (4, 12):
        raw[1 if width == 12 else 0 :: 2 if width == 12 else 1] &= 0x0F
    for where, length, value in wounds:
        start = int(where * raw.size) // 2 * 2
        raw[start : start + length] = value & 0x0F if width in (4, 12) else value
    verdicts = judge_all(tests, raw, calls)
    assert verdicts == whole.judge(raw)
    assert [verdict.window for verdict in verdicts] == list(range(5))


@pytest.mark.parametrize("width", [1, 8, 16])
def test_a_perfect_source_passes(width: int) -> None:
    tests = ContinuousTests(cutoffs_for(1000 * width, width))
    raw = random_bytes(width, BATCH_WINDOWS, tests.layout.window_bytes)
    assert [verdict.grade for verdict in tests.judge(raw)] == [Grade.PASSED] * BATCH_WINDOWS


def test_a_stuck_source_fails_for_good_at_once() -> None:
    tests = ContinuousTests(cutoffs_for(8000, 8))
    raw = random_bytes(3, 3, 65_536)
    raw[65_536 + 100 : 65_536 + 109] = 0x55  # nine equal bytes: the permanent cutoff
    grades = [verdict.grade for verdict in tests.judge(raw)]
    assert grades == [Grade.PASSED, Grade.PERMANENT, Grade.PASSED]


def test_six_equal_bytes_are_intermittent_and_five_pass() -> None:
    for length, grade in ((5, Grade.PASSED), (6, Grade.INTERMITTENT)):
        raw = random_bytes(4, 1, 65_536)
        raw[99], raw[100 : 100 + length], raw[100 + length] = 0, 0x55, 0
        assert ContinuousTests(cutoffs_for(8000, 8)).judge(raw)[0].grade is grade


def test_a_biased_bit_source_is_found_by_proportion() -> None:
    draws = np.random.default_rng(5).random(131_072) < 0.75
    verdict = ContinuousTests(cutoffs_for(1000, 1)).judge(np.packbits(draws))[0]
    assert verdict.grade is Grade.PERMANENT
    assert HealthTest.PROPORTION in {finding.test for finding in verdict.findings}


def test_a_repeated_stretch_is_found_by_the_predictor_alone() -> None:
    raw = random_bytes(6, 1, 65_536).reshape(-1, 128)
    raw[:] = np.arange(128, dtype=np.uint8)
    verdict = ContinuousTests(cutoffs_for(7000, 8)).judge(raw.reshape(-1))[0]
    assert {finding.test for finding in verdict.findings} == {HealthTest.PREDICTOR}
    assert verdict.findings[0].place == 128
    assert "lag 128" in str(verdict)


def test_half_windows_and_too_many_are_our_own_bug() -> None:
    tests = ContinuousTests(cutoffs_for(8000, 8))
    for size in (0, 65_535, 65_536 * (BATCH_WINDOWS + 1)):
        with pytest.raises(AssertionError):
            tests.judge(np.zeros(size, dtype=np.uint8))
