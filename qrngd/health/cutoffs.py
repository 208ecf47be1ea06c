"""The cutoffs of the continuous health tests, exact (SP 800-90B §4.4.1, §4.4.2; `proto/spec/entropy-feed.md`, "Health").

A source of min-entropy H bits a sample gives any value with probability at most p = 2^-H whatever came before, so the number
of hits among n samples is at most binomial(n, p) in the usual stochastic order. A cutoff is the smallest count that such a
source reaches with probability at most alpha. H comes in whole millibits, so p is irrational more often than not; every cutoff
here is computed in integers for a lower and an upper bound of p, and taken only when both agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from functools import lru_cache
from math import gcd

from qustream.errors import fault

__all__ = [
    "INTERMITTENT_EXPONENT",
    "PERMANENT_EXPONENT",
    "Cutoffs",
    "apt_window_samples",
    "critbinom",
    "cutoffs_for",
    "proportion_cutoff",
    "repetition_cutoff",
]

# Two alarm levels, alpha = 2^-exponent. At 2^-20, the standard's usual choice, a perfect 1 Gbit/s byte source would alarm every
# 0.13 s; at 2^-40 a perfect 7.5 Gbit/s one alarms about every 20 minutes, at 2^-60 less than once in 30 years.
INTERMITTENT_EXPONENT = 40
PERMANENT_EXPONENT = 60
# SP 800-90B §4.4.2: 1024 samples for a binary source, 512 for any other.
APT_WINDOW_BINARY = 1024
APT_WINDOW = 512
# Bits to which p is bracketed at first and at most; each failure to decide doubles them, so the loop runs at most five times.
_PRECISION_BITS = 128
_PRECISION_BITS_MAX = 2048


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """What a window is judged by. Each pair is (intermittent, permanent), the permanent one never the smaller.

    `repetition`: a run of this many equal samples alarms. `proportion`: this many samples equal to the first of `window_samples`
    (itself counted) alarm, and so do this many hits of the lag predictor among `window_samples`.
    """

    min_entropy_millibits: int
    sample_bits: int
    window_samples: int
    repetition: tuple[int, int]
    proportion: tuple[int, int]
    alpha_exponents: tuple[int, int] = (INTERMITTENT_EXPONENT, PERMANENT_EXPONENT)


def apt_window_samples(sample_bits: int) -> int:
    """Length of an adaptive proportion window for samples of `sample_bits` bits."""
    return APT_WINDOW_BINARY if sample_bits == 1 else APT_WINDOW


def repetition_cutoff(min_entropy_millibits: int, alpha_exponent: int) -> int:
    """C = 1 + ceil(-log2(alpha) / H), SP 800-90B §4.4.1."""
    return 1 - (-alpha_exponent * 1000 // min_entropy_millibits)


def proportion_cutoff(min_entropy_millibits: int, window_samples: int, alpha_exponent: int) -> int:
    """C = 1 + critbinom(W, 2^-H, 1 - alpha), SP 800-90B §4.4.2. May be W + 1, which no window can reach."""
    return 1 + critbinom(window_samples, min_entropy_millibits, alpha_exponent)


@lru_cache(maxsize=64)
def critbinom(trials: int, min_entropy_millibits: int, alpha_exponent: int) -> int:
    """Smallest k with P(X <= k) >= 1 - 2^-alpha_exponent for X ~ binomial(trials, 2^-(min_entropy_millibits / 1000)).

    Exact: decided in integers at both ends of a bracket of the probability, which is narrowed until the two agree.
    """
    precision_bits = _PRECISION_BITS
    while precision_bits <= _PRECISION_BITS_MAX:
        low = _power_floor(min_entropy_millibits, precision_bits)
        exact = low**1000 == 1 << (1000 * precision_bits - min_entropy_millibits)
        at_low = _quantile(trials, low, precision_bits, alpha_exponent)
        if exact or at_low == _quantile(trials, low + 1, precision_bits, alpha_exponent):
            return at_low
        precision_bits *= 2
    raise AssertionError("a binomial tail within 2^-2000 of its threshold")


def _power_floor(min_entropy_millibits: int, precision_bits: int) -> int:
    """floor(2^precision_bits * 2^-(min_entropy_millibits / 1000)): guessed in decimal, then proved in integers."""
    divisor = gcd(min_entropy_millibits, 1000)
    numerator, root = min_entropy_millibits // divisor, 1000 // divisor
    target = 1 << (root * precision_bits - numerator)
    context = Context(prec=precision_bits)
    exponent = context.subtract(Decimal(precision_bits), context.divide(Decimal(numerator), Decimal(root)))
    guess = int(context.power(Decimal(2), exponent).to_integral_value(ROUND_FLOOR))
    while guess**root > target:
        guess -= 1
    while (guess + 1) ** root <= target:
        guess += 1
    return guess


def _quantile(trials: int, numerator: int, precision_bits: int, alpha_exponent: int) -> int:
    """Smallest k with P(X > k) <= 2^-alpha_exponent for X ~ binomial(trials, numerator / 2^precision_bits), in integers."""
    complement = (1 << precision_bits) - numerator
    limit = 1 << (precision_bits * trials - alpha_exponent)
    term = numerator**trials  # the weight of X = count, times 2^(precision_bits * trials)
    above = 0
    for count in range(trials, 0, -1):
        above += term
        if above > limit:
            return count
        term = term * count * complement // ((trials - count + 1) * numerator)  # divides exactly
    return 0


def cutoffs_for(min_entropy_millibits: int, sample_bits: int) -> Cutoffs:
    """Cutoffs for both alarm levels.

    Raises E-CONFIG when the claim is outside 1 millibit … the sample's width, or so low that a window of constant samples would
    still pass the adaptive proportion test.
    """
    if not 1 <= sample_bits <= 16:
        raise fault("E-CONFIG", f"a sample width of {sample_bits} bits; 1 to 16 are possible")
    if not 1 <= min_entropy_millibits <= 1000 * sample_bits:
        raise fault("E-CONFIG", f"{min_entropy_millibits} millibits of min-entropy in a sample of {sample_bits} bits")
    window = apt_window_samples(sample_bits)
    levels = (INTERMITTENT_EXPONENT, PERMANENT_EXPONENT)
    proportion = [proportion_cutoff(min_entropy_millibits, window, level) for level in levels]
    if max(proportion) > window:
        raise fault(
            "E-CONFIG",
            f"a min-entropy of {min_entropy_millibits} millibits a sample is too little for the tests to notice a dead device",
        )
    repetition = [repetition_cutoff(min_entropy_millibits, level) for level in levels]
    return Cutoffs(
        min_entropy_millibits=min_entropy_millibits,
        sample_bits=sample_bits,
        window_samples=window,
        repetition=(repetition[0], repetition[1]),
        proportion=(proportion[0], proportion[1]),
    )
