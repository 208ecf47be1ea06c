"""The estimators of min-entropy: equal to a slow reading of the standard, right for sources whose min-entropy is known."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import log2, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrngd.health.estimate import estimate, markov_estimate, most_common_estimate, step_estimate
from qrngd.health.samples import Layout, Samples

WIDTHS = range(1, 17)


def array(values: list[int], width: int) -> Samples:
    return np.array(values, dtype=np.uint8) if width <= 8 else np.array(values, dtype=np.uint16)


def uniform(width: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    return array(rng.integers(0, 1 << width, Layout(width).window_samples).tolist(), width)


def slow_most_common(values: list[int]) -> float:
    """§6.3.1, step by step."""
    share = max(Counter(values).values()) / len(values)
    upper = min(1.0, share + 2.576 * sqrt(share * (1 - share) / (len(values) - 1)))
    return -log2(upper)


def slow_markov(bits: list[int]) -> float:
    """§6.3.3: walk along each of the standard's six sequences of 128 bits and multiply what every step is worth."""
    pairs, starts = Counter(pairwise(bits)), Counter(bits[:-1])
    chances = []
    for sequence in ([0] * 128, [0, 1] * 64, [0] + [1] * 127, [1] + [0] * 127, [1, 0] * 64, [1] * 128):
        chance = bits.count(sequence[0]) / len(bits)
        for before, after in pairwise(sequence):
            # What never came is never followed by anything; the first factor is 0 then, or the last bit alone was of this kind.
            chance *= pairs[before, after] / starts[before] if starts[before] else float(after == 0)
        chances.append(chance)
    return min(1.0, -log2(max(chances)) / 128)


@given(st.integers(1, 16).flatmap(lambda width: st.tuples(st.just(width), st.lists(st.integers(0, (1 << width) - 1), min_size=2))))
def test_equal_to_the_slow_reading(case: tuple[int, list[int]]) -> None:
    width, values = case
    samples = array(values, width)
    assert most_common_estimate(samples, width) == pytest.approx(1000 * slow_most_common(values), abs=1)
    steps = [(after - before) % (1 << width) for before, after in pairwise(values)]
    if len(steps) > 1:
        assert step_estimate(samples, width) == pytest.approx(1000 * slow_most_common(steps), abs=1)
    assert 0 <= estimate(samples, width) <= 1000 * width


@given(st.lists(st.integers(0, 1), min_size=2, max_size=300))
def test_markov_is_the_likeliest_of_the_six_sequences(bits: list[int]) -> None:
    assert markov_estimate(array(bits, 1)) == pytest.approx(1000 * slow_markov(bits), abs=1)


def test_one_worked_by_hand() -> None:
    # The most common value 8 times of 20: p_u = 0.4 + 2.576 √(0.4 · 0.6 / 19) = 0.6895, H = 0.5363.
    values = [0, 1, 1, 2, 0, 1, 2, 2, 0, 1, 0, 1, 1, 0, 2, 2, 1, 0, 2, 1]
    assert most_common_estimate(array(values, 2), 2) == 536
    # After a 0 always a 1, after a 1 two times of five a 0: 0 1 0 1 … has the chance 1/3 · (2/5)^63, H = (1.585 + 63 · 1.3219) / 128.
    assert markov_estimate(array([0, 1, 1, 0, 1, 1, 0, 1, 1], 1)) == 663


@pytest.mark.parametrize("width", WIDTHS)
def test_a_perfect_window_shows_what_so_few_samples_can_prove(width: int) -> None:
    size = Layout(width).window_samples
    mean = size / (1 << width)
    most = mean + 6 * sqrt(mean) + 8  # more equal ones of a perfect source would be a wonder
    proved = -log2((most + 2.576 * sqrt(most)) / size)
    assert 1000 * proved < estimate(uniform(width, width), width) <= 1000 * width


@pytest.mark.parametrize("width", WIDTHS)
def test_a_constant_and_a_ramp_have_no_entropy(width: int) -> None:
    size = Layout(width).window_samples
    assert estimate(array([1] * size, width), width) == 0
    ramp = (np.arange(size) % (1 << width)).tolist()
    assert estimate(array(ramp, width), width) <= (8 if width == 1 else 0), "of bits, the first of 128 is not known"


@pytest.mark.parametrize(("chance", "millibits"), [(0.5, 1000), (0.25, 2000), (0.1, 3321)])
def test_a_known_bias_is_found(chance: float, millibits: int) -> None:
    rng = np.random.default_rng(7)
    samples = np.where(rng.random(65_536) < chance, 17, rng.integers(0, 256, 65_536)).astype(np.uint8)
    truth = -1000 * log2(chance + (1 - chance) / 256)
    assert truth <= millibits
    assert truth - 60 < estimate(samples, 8) < truth + 20


def test_dependence_is_seen_where_every_value_is_equally_common() -> None:
    rng = np.random.default_rng(8)
    bits = (np.cumsum(rng.random(131_072) < 0.2) % 2).astype(np.uint8)  # the same as before with 80 %
    assert most_common_estimate(bits, 1) > 950
    assert estimate(bits, 1) == pytest.approx(-1000 * log2(0.8), abs=15)
    walk = (np.cumsum(rng.integers(-2, 3, 65_536)) % 256).astype(np.uint8)  # one of five steps
    assert most_common_estimate(walk, 8) > 5000
    assert estimate(walk, 8) == pytest.approx(1000 * log2(5), abs=80)
