"""Cutoffs against published values and against binomial tails summed in fractions."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrngd.health.cutoffs import critbinom, cutoffs_for, proportion_cutoff, repetition_cutoff
from qustream.errors import OperatorFault

# (H in bits, RCT, APT) at alpha = 2^-20.
BYTES = [(1, 21, 311), (2, 11, 177), (4, 6, 62), (6, 5, 25), (7, 4, 18), (8, 4, 13)]
BINARY = [(500, 41, 793), (800, 26, 664), (1000, 21, 589)]


@pytest.mark.parametrize(("bits", "repetition", "proportion"), BYTES)
def test_known_values_for_bytes(bits: int, repetition: int, proportion: int) -> None:
    assert repetition_cutoff(1000 * bits, 20) == repetition
    assert proportion_cutoff(1000 * bits, 512, 20) == proportion


@pytest.mark.parametrize(("millibits", "repetition", "proportion"), BINARY)
def test_known_values_for_bits(millibits: int, repetition: int, proportion: int) -> None:
    assert repetition_cutoff(millibits, 20) == repetition
    assert proportion_cutoff(millibits, 1024, 20) == proportion


def tail_above(trials: int, count: int, p: Fraction) -> Fraction:
    return sum((comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(count + 1, trials + 1)), Fraction(0))


@given(trials=st.integers(1, 60), bits=st.integers(1, 8), exponent=st.integers(1, 60))
def test_critbinom_is_the_smallest_that_holds(trials: int, bits: int, exponent: int) -> None:
    p, alpha = Fraction(1, 2**bits), Fraction(1, 2**exponent)
    k = critbinom(trials, 1000 * bits, exponent)
    assert tail_above(trials, k, p) <= alpha
    assert k == 0 or tail_above(trials, k - 1, p) > alpha


@given(trials=st.integers(1, 40), millibits=st.integers(1, 8000), exponent=st.integers(1, 40))
def test_critbinom_of_an_irrational_probability_lies_between_its_neighbours(trials: int, millibits: int, exponent: int) -> None:
    # 2^-H between two fractions a millionth apart: the tail at the lower one may not exceed alpha, at the upper one it must.
    k = critbinom(trials, millibits, exponent)
    scale = 10**12
    p = Fraction(round(2 ** (-millibits / 1000) * scale), scale)
    low, high = max(Fraction(0), p - Fraction(1, 10**6)), min(Fraction(1), p + Fraction(1, 10**6))
    assert tail_above(trials, k, low) <= Fraction(1, 2**exponent)
    assert k == 0 or tail_above(trials, k - 1, high) > Fraction(1, 2**exponent)


@settings(max_examples=20)
@given(st.integers(1, 16), st.data())
def test_permanent_is_never_below_intermittent_and_a_window_can_reach_it(width: int, data: st.DataObject) -> None:
    millibits = data.draw(st.sampled_from([500 * width, 875 * width, 1000 * width]))
    cutoffs = cutoffs_for(millibits, width)
    assert 2 <= cutoffs.repetition[0] <= cutoffs.repetition[1]
    assert 2 <= cutoffs.proportion[0] <= cutoffs.proportion[1] <= cutoffs.window_samples
    assert cutoffs.window_samples == (1024 if width == 1 else 512)


def test_the_two_levels_for_byte_samples() -> None:
    full = cutoffs_for(8000, 8)
    assert (full.repetition, full.proportion) == ((6, 9), (19, 25))
    assert full.alpha_exponents == (40, 60)


@pytest.mark.parametrize(("millibits", "width"), [(0, 8), (8001, 8), (1001, 1), (100, 8), (50, 1), (1000, 0), (1000, 17)])
def test_impossible_claims_are_refused(millibits: int, width: int) -> None:
    with pytest.raises(OperatorFault) as caught:
        cutoffs_for(millibits, width)
    assert caught.value.code == "E-CONFIG"
