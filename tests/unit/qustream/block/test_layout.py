"""Drawing from the scatter: exact counts and exact probabilities instead of statistics."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from math import log2
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.block.layout import (
    BLOCK_BYTES,
    KGEN_BITS,
    R_BITS,
    SCATTER_BYTES,
    WRAP_BITS,
    Scatter,
    check_size,
    draw_locations,
    draw_sizes,
    pieces_of,
)
from qustream.errors import PeerFault, QuStreamError, Unavailable

REST = b"\0\x10" * 7 + b"\x10"  # the other eight pairs: the next free segment, not moved; the last partner takes no byte
BOUNDS = [17, 15, 13, 11, 9, 7, 5, 3, 33]


@pytest.mark.parametrize("bound", BOUNDS)
def test_below_gives_each_value_equally_often(bound: int) -> None:
    counts: Counter[int] = Counter()
    for byte in range(256):
        try:
            counts[Scatter(bytes((byte,))).below(bound)] += 1
        except QuStreamError:
            counts[-1] += 1
    rejected = counts.pop(-1, 0)
    assert sorted(counts) == list(range(bound))
    assert set(counts.values()) == {256 // bound}
    assert rejected == 256 % bound


def test_partner_and_delta_cover_their_ranges_equally() -> None:
    partners: Counter[int] = Counter()
    deltas: Counter[int] = Counter()
    for byte in range(255):
        sizes = draw_sizes(Scatter(bytes((byte, 32)) + REST))
        assert sizes[0] == 72
        partners[next(i for i in range(1, 18) if sizes[i] == 40)] += 1
    for byte in range(231):
        deltas[draw_sizes(Scatter(bytes((0, byte)) + REST))[0] - 56] += 1
    assert partners == dict.fromkeys(range(1, 18), 15)
    assert deltas == dict.fromkeys(range(-16, 17), 7)


@settings(deadline=None)
@given(st.binary(min_size=SCATTER_BYTES, max_size=SCATTER_BYTES))
def test_layout_keeps_its_promises(naive: Any, scatter: bytes) -> None:
    draws, stream = Scatter(scatter), naive.byte_stream(scatter, [0])
    try:
        sizes = naive.draw_sizes(stream)
        locations = naive.draw_locations(stream)
    except naive.Refused:
        with pytest.raises(Unavailable, match="E-SCATTER-SHORT"):
            (draw_sizes(draws), draw_locations(draws))
        return
    assert (draw_sizes(draws), draw_locations(draws)) == (sizes, locations)
    assert sum(sizes) == KGEN_BITS
    assert all(40 <= size <= 72 for size in sizes)
    assert Counter(sizes) == Counter(112 - size for size in sizes)
    assert len(set(locations)) == 18
    assert all(0 <= location < R_BITS for location in locations)


def test_pieces_do_not_touch_even_at_neighbouring_locations() -> None:
    pieces = pieces_of([72, 40] * 9, list(range(17, -1, -1)))
    assert [piece.segment for piece in pieces] == list(range(17, -1, -1))
    assert pieces[0].offset == 0
    for before, after in pairwise(pieces):
        assert after.offset == before.offset + WRAP_BITS + before.size_bits + 1


def exhaustion() -> tuple[Fraction, list[Fraction]]:
    """Return the probability that 128 bytes do not suffice for one layout, and that of each number of bytes used."""

    def then(before: list[Fraction], accept: Fraction, cost: int) -> list[Fraction]:
        """One more draw: each attempt takes `cost` bytes. after[n] = accept · before[n - cost] + reject · after[n - cost]."""
        after = [Fraction(0)] * len(before)
        for n in range(cost, len(before)):
            after[n] = accept * before[n - cost] + (1 - accept) * after[n - cost]
        return after

    used = [Fraction(1)] + [Fraction(0)] * SCATTER_BYTES
    for bound in (*BOUNDS[:-1], *[33] * 9):
        used = then(used, Fraction(256 // bound * bound, 256), 1)
    for taken in range(18):
        used = then(used, 1 - Fraction(taken, R_BITS), 3)
    return 1 - sum(used), used


def test_scatter_suffices() -> None:
    short, used = exhaustion()
    assert 0 < short < Fraction(1, 2**132)
    assert round(log2(short), 1) == -162.1  # the figure in the spec
    assert next(n for n, p in enumerate(used) if p) == 71
    assert Fraction(96, 100) < sum(used[:75]) < Fraction(98, 100)  # 54 bytes are then left for a second draw


def test_scatter_short_names_no_byte_of_it() -> None:
    with pytest.raises(Unavailable) as refused:
        draw_sizes(Scatter(b"\xfe" * SCATTER_BYTES))
    assert refused.value.code == "E-SCATTER-SHORT"
    assert "fe" not in refused.value.detail.replace("layout", "")


@pytest.mark.parametrize("size", [0, BLOCK_BYTES - 1, BLOCK_BYTES + 1])
def test_check_size(size: int) -> None:
    check_size("block", bytes(BLOCK_BYTES), BLOCK_BYTES)
    with pytest.raises(PeerFault, match=f"E-BLOCK-SIZE: the block has {size:,} bytes, it must have 262,504"):
        check_size("block", bytes(size), BLOCK_BYTES)
