"""Faults alone, in sequences and at random against the model: what is found, and that nothing of it is ever handed out."""

from __future__ import annotations

from math import comb, log2

import pytest
from hypothesis import HealthCheck, settings
from support.pipeline_machine import PipelineMachine

from qrngd.health.cutoffs import cutoffs_for
from qrngd.health.samples import ROWS

TestPipeline = PipelineMachine.TestCase
TestPipeline.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def below(trials: int, chance: float, cutoff: int) -> float:
    """P(X < cutoff) for X ~ binomial(trials, chance)."""
    return sum(comb(trials, hits) * chance**hits * (1 - chance) ** (trials - hits) for hits in range(cutoff))


@pytest.mark.parametrize(("sample_bits", "permille", "exponent"), [(8, 150, 29), (2, 600, 60), (4, 600, 60), (12, 600, 60), (16, 600, 60)])
def test_a_window_full_of_bias_is_missed_as_rarely_as_is_said(sample_bits: int, permille: int, exponent: int) -> None:
    """A row speaks when its first sample is the favoured one and enough of the others are."""
    cutoffs = cutoffs_for(875 * sample_bits, sample_bits)
    chance = permille / 1000
    speaks = chance * (1 - below(cutoffs.window_samples - 1, chance, cutoffs.proportion[0] - 1))
    assert ROWS * log2(1 - speaks) < -exponent


@pytest.mark.parametrize(("sample_bits", "permille", "exponent"), [(8, 250, 60), (2, 900, 60), (4, 900, 60), (12, 900, 60), (16, 900, 60)])
def test_a_window_full_of_correlation_is_missed_as_rarely_as_is_said(sample_bits: int, permille: int, exponent: int) -> None:
    """The one row that tries the lag speaks when enough of its samples are repetitions."""
    cutoffs = cutoffs_for(875 * sample_bits, sample_bits)
    missed = below(cutoffs.window_samples, permille / 1000, cutoffs.proportion[0])
    assert missed < 2.0**-exponent


def test_so_are_bits() -> None:
    """Eight bits stand in a cell; the rows that try a lag of 8, 16 … 128 bits compare 128 pairs of cells each, and none shares a cell
    with another such row. Only cells that are the same for sure are counted here."""
    cutoff = cutoffs_for(875, 1).proportion[0]
    equal_cells = -(-cutoff // 8)
    assert below(128, 0.9, equal_cells) < 2.0**-45, "correlated: one row, at the fault's lag"
    # Biased: a cell that was not hit spoils two pairs at most; at most 144 cells stand in a row's pairs.
    spoiling = (128 - equal_cells) // 2 + 1
    a_row_misses = 1 - below(144, 0.1, spoiling)
    assert 16 * log2(a_row_misses) < -45
