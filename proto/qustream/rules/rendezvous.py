"""Weighted rendezvous in integers (`proto/spec/assignment.md`, "Cost").

Every candidate draws a number from a hash; its cost is `-log2(u) / weight`, and the cheapest win. The chance of being the
cheapest is proportional to the weight, and a candidate that leaves changes no other's cost (Thaler and Ravishankar 1998;
Schindelhauer and Schomaker 2005).
"""

from __future__ import annotations

__all__ = ["DRAW_BITS", "WEIGHT_MAX", "cost", "cost_floor", "minus_log2"]

DRAW_BITS = 64
DRAWS = 1 << DRAW_BITS
WEIGHT_MAX = 1_000_000  # `NodeRecord.weight`
# 2^40 is above WEIGHT_MAX squared, so two quotients that differ at all differ by one or more after scaling: comparing the
# floors equals comparing the fractions by cross-multiplication.
SCALE_BITS = 40
MANTISSA_BITS = 128


def minus_log2(draw: int) -> int:
    """`-log2((draw + 1) / 2^64)` in units of 2^-64, rounded up as the specification says. `draw`: 0 … 2^64 - 1."""
    if not 0 <= draw < DRAWS:
        raise ValueError("a draw is 64 bits")
    value = draw + 1
    whole = value.bit_length() - 1
    mantissa = value << MANTISSA_BITS - 1 - whole
    fraction = 0
    for _ in range(DRAW_BITS):
        mantissa = mantissa * mantissa >> MANTISSA_BITS - 1
        carry = mantissa >> MANTISSA_BITS
        mantissa >>= carry
        fraction = fraction << 1 | carry
    return (DRAW_BITS - whole << DRAW_BITS) - fraction


def cost(draw: int, weight: int) -> int:
    """The cost of a candidate: lower wins. `weight`: 1 … 1,000,000."""
    if not 1 <= weight <= WEIGHT_MAX:
        raise ValueError(f"a weight is 1 to {WEIGHT_MAX}")
    return (minus_log2(draw) << SCALE_BITS) // weight


def cost_floor(draw: int, weight: int) -> int:
    """A bound that no `cost` of the same draw and weight falls below, forty times cheaper: -log2(u) >= 1 - u."""
    return (DRAWS - 1 - draw << SCALE_BITS) // weight
