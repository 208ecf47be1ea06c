"""An estimate of min-entropy from one stretch of samples (SP 800-90B §6.3.1, §6.3.3). It is shown, and decides nothing.

Two views, the smaller counts: how often the most common value comes, and how well a sample is foretold by the one before it.
A short stretch cannot prove much, and the confidence bound says so: of a perfect source, one window shows about 0.99 of 1 bit,
7.5 of 8 bits and 12 of 16. So a figure is to be compared with the same device's earlier ones and not with its claim.

Counts are integers; the rest is IEEE double arithmetic, rounded down to millibits. Where two machines' `log2` differ in the last
place, so may the last millibit.
"""

from __future__ import annotations

from math import log2, sqrt

import numpy as np

from qrngd.health.samples import Samples

__all__ = ["estimate", "markov_estimate", "most_common_estimate", "step_estimate"]

# The 99.5 % point of the standard normal distribution as §6.3.1 step 2 has it: an upper bound with 99 % confidence.
_Z = 2.576
# The length of the sequence whose probability §6.3.3 asks for.
_CHAIN = 128


def estimate(samples: Samples, sample_bits: int) -> int:
    """Millibits of min-entropy a sample, 0 to 1000 `sample_bits`, of at least two samples with no bit above their width.

    The smaller of the most common value estimate and, for bits, the Markov estimate, for wider samples the step estimate.
    """
    dependent = markov_estimate(samples) if sample_bits == 1 else step_estimate(samples, sample_bits)
    return min(most_common_estimate(samples, sample_bits), dependent)


def most_common_estimate(samples: Samples, sample_bits: int) -> int:
    """The most common value estimate, §6.3.1, in millibits a sample."""
    counts = np.bincount(samples, minlength=1 << sample_bits)
    return _bounded(int(counts.max()), samples.size, sample_bits)


def step_estimate(samples: Samples, sample_bits: int) -> int:
    """§6.3.1 on the steps from each sample to the next (modulo 2^`sample_bits`), in millibits a sample.

    Whoever guesses that a sample is the one before it plus the most common step is right that often; so a source whose samples
    stay near each other, or follow a ramp, shows here though all values are equally common. Of independent samples no step is
    more common than the most common value. (After the idea of the predictors, §6.3.7 to §6.3.10; not one of the suite's ten.)
    """
    mask = np.asarray((1 << sample_bits) - 1, dtype=samples.dtype)
    steps = np.subtract(samples[1:], samples[:-1]) & mask
    counts = np.bincount(steps, minlength=1 << sample_bits)
    return _bounded(int(counts.max()), steps.size, sample_bits)


def markov_estimate(bits: Samples) -> int:
    """The Markov estimate of samples of one bit, §6.3.3, in millibits a bit."""
    ones, before, after = int(np.count_nonzero(bits)), bits[:-1], bits[1:]
    from_one = ones - int(bits[-1])
    one_one = int(np.count_nonzero(before & after))
    zero_one = ones - int(bits[0]) - one_one
    first = (1 - ones / bits.size, ones / bits.size)
    to_one = (_share(zero_one, after.size - from_one), _share(one_one, from_one))
    p00, p01, p10, p11 = 1 - to_one[0], to_one[0], 1 - to_one[1], to_one[1]
    half = _CHAIN // 2
    # The six kinds of sequence among which the likeliest one must be.
    likeliest = max(
        _log2_product((first[0], 1), (p00, _CHAIN - 1)),
        _log2_product((first[0], 1), (p01, half), (p10, half - 1)),
        _log2_product((first[0], 1), (p01, 1), (p11, _CHAIN - 2)),
        _log2_product((first[1], 1), (p10, 1), (p00, _CHAIN - 2)),
        _log2_product((first[1], 1), (p10, half), (p01, half - 1)),
        _log2_product((first[1], 1), (p11, _CHAIN - 1)),
    )
    return _millibits(-likeliest / _CHAIN, 1)


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0


def _log2_product(*factors: tuple[float, int]) -> float:
    """log2 of the product of powers; minus infinity where a factor is 0."""
    if any(factor <= 0 for factor, _ in factors):
        return float("-inf")
    return sum(power * log2(factor) for factor, power in factors)


def _bounded(most: int, total: int, sample_bits: int) -> int:
    """Millibits of a value that came `most` times in `total`: its probability is at most this, with 99 % confidence."""
    share = most / total
    upper = min(1.0, share + _Z * sqrt(share * (1 - share) / max(1, total - 1)))
    return _millibits(-log2(upper), sample_bits)


def _millibits(bits: float, sample_bits: int) -> int:
    return min(1000 * sample_bits, max(0, int(1000 * bits)))
