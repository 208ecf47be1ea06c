"""The integer cost: equal to the real logarithm, monotone, and compared exactly."""

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qustream.rules.rendezvous import SCALE_BITS, WEIGHT_MAX, cost, cost_floor, minus_log2

DRAWS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(0, 64).map(lambda bits: 2**bits - 1),
    st.integers(0, 2**20).map(lambda below: 2**64 - 1 - below),
)
WEIGHTS = st.integers(1, WEIGHT_MAX)


@given(DRAWS)
@example(6_458_454_519_090_466_892)  # 64 less a logarithm of 62.5 is good to 2^-47 alone
def test_the_logarithm_is_the_logarithm(draw):
    below = 2**64 - 1 - draw
    real = -math.log1p(-below / 2**64) / math.log(2) if below < 2**63 else -math.log2((draw + 1) / 2**64)
    # Rounded up by at most two units; the floating-point side is good to 2^-50 of its value.
    assert abs(minus_log2(draw) - real * 2**64) <= 2 + real * 2**64 * 2**-50


@pytest.mark.parametrize("power", range(65))
def test_powers_of_two_are_exact(power):
    assert minus_log2(2**power - 1) == (64 - power) << 64


@given(DRAWS, DRAWS)
def test_a_higher_draw_never_costs_more(a, b):
    low, high = sorted((a, b))
    assert minus_log2(high) <= minus_log2(low)


@given(DRAWS, WEIGHTS, DRAWS, WEIGHTS)
def test_comparing_costs_is_cross_multiplication(draw_a, weight_a, draw_b, weight_b):
    a, b = Fraction(minus_log2(draw_a), weight_a), Fraction(minus_log2(draw_b), weight_b)
    assert (cost(draw_a, weight_a) < cost(draw_b, weight_b)) == (a < b)
    assert (cost(draw_a, weight_a) == cost(draw_b, weight_b)) == (a == b)


@given(st.integers(0, 2**70), WEIGHTS, WEIGHTS, st.integers(-1, 1))
def test_nearly_equal_quotients_are_told_apart(numerator, weight_a, weight_b, off):
    nearest = numerator * weight_b // weight_a + off
    a, b = Fraction(numerator, weight_a), Fraction(nearest, weight_b)
    scaled_a, scaled_b = (numerator << SCALE_BITS) // weight_a, (nearest << SCALE_BITS) // weight_b
    assert (scaled_a < scaled_b) == (a < b)
    assert (scaled_a == scaled_b) == (a == b)


@given(DRAWS, WEIGHTS)
def test_the_floor_is_a_floor(draw, weight):
    assert 0 <= cost_floor(draw, weight) <= cost(draw, weight)


@pytest.mark.parametrize("draw", [-1, 2**64])
def test_a_draw_is_64_bits(draw):
    with pytest.raises(ValueError, match="64 bits"):
        minus_log2(draw)


@pytest.mark.parametrize("weight", [0, -1, WEIGHT_MAX + 1])
def test_weights_are_bounded(weight):
    with pytest.raises(ValueError, match="weight"):
        cost(1, weight)
