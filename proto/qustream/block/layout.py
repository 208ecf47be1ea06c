"""The sizes of a block, and how the scatter bytes say where each segment goes (`proto/spec/block.md` §2 and §4)."""

from __future__ import annotations

from typing import NamedTuple

from qustream.errors import fault
from qustream.model.entropy import KGEN_BYTES, MATERIAL_BYTES, R_BYTES, SCATTER_BYTES

__all__ = [
    "BLOCK_BITS",
    "BLOCK_BYTES",
    "KGEN_BITS",
    "KGEN_BYTES",
    "LOCATION_BITS",
    "MATERIAL_BYTES",
    "MAX_SIZE_BITS",
    "MIN_SIZE_BITS",
    "R_BITS",
    "R_BYTES",
    "SCATTER_BYTES",
    "SEED_BYTES",
    "SEGMENTS",
    "WRAP_BITS",
    "Piece",
    "Scatter",
    "check_size",
    "draw_locations",
    "draw_sizes",
    "pieces_of",
]

SEED_BYTES = 126  # as long as kGen, so that guessing the seed is no shorter way to it

SEGMENTS = 18
MEAN_SIZE_BITS = 56  # 18 * 56 = 1008
MAX_DELTA_BITS = 16  # sizes 40 … 72
MIN_SIZE_BITS = MEAN_SIZE_BITS - MAX_DELTA_BITS
MAX_SIZE_BITS = MEAN_SIZE_BITS + MAX_DELTA_BITS
LOCATION_BITS = 21
WRAP_BITS = 64 + 40  # marker before and suffix after each segment

R_BITS = 8 * R_BYTES
KGEN_BITS = 8 * KGEN_BYTES
BLOCK_BYTES = MATERIAL_BYTES + SEGMENTS * WRAP_BITS // 8  # 262,504
BLOCK_BITS = 8 * BLOCK_BYTES


class Piece(NamedTuple):
    """Segment number `segment` as it stands in a block: its marker begins at bit `offset`, before bit `location` of R."""

    offset: int
    segment: int
    size_bits: int
    location: int


class Scatter:
    """Draws from the scatter bytes, front to back, each byte once.

    Raises `E-SCATTER-SHORT` when they run out, so every loop over these draws is bounded by the number of bytes.
    """

    __slots__ = ("_at", "_bytes")

    def __init__(self, scatter: bytes) -> None:
        self._bytes = scatter
        self._at = 0

    def take(self, count: int) -> int:
        """Return the next `count` bytes as a big-endian integer."""
        end = self._at + count
        if end > len(self._bytes):
            raise fault("E-SCATTER-SHORT", f"all {len(self._bytes)} scatter bytes are used and the layout is not complete")
        value = int.from_bytes(self._bytes[self._at : end], "big")
        self._at = end
        return value

    def below(self, bound: int) -> int:
        """Return a uniform integer in [0, bound), bound ≤ 256: bytes that would favour small values are thrown away."""
        limit = 256 - 256 % bound
        value = self.take(1)
        while value >= limit:
            value = self.take(1)
        return value % bound


def check_size(what: str, data: bytes, size_bytes: int) -> None:
    """Raise `E-BLOCK-SIZE` unless `data` has exactly `size_bytes` bytes."""
    if len(data) != size_bytes:
        raise fault("E-BLOCK-SIZE", f"the {what} has {len(data):,} bytes, it must have {size_bytes:,}")


def draw_sizes(scatter: Scatter) -> list[int]:
    """Return the 18 segment sizes in bits: a random perfect matching, each pair moved apart by a random amount."""
    sizes = [MEAN_SIZE_BITS] * SEGMENTS
    single = list(range(SEGMENTS))
    while single:
        first = single.pop(0)
        second = single.pop(scatter.below(len(single)) if len(single) > 1 else 0)
        delta = scatter.below(2 * MAX_DELTA_BITS + 1) - MAX_DELTA_BITS
        sizes[first] += delta
        sizes[second] -= delta
    return sizes


def draw_locations(scatter: Scatter) -> list[int]:
    """Return 18 distinct bit offsets in R, that of segment 0 first; a repeated one is drawn again."""
    locations: list[int] = []
    while len(locations) < SEGMENTS:
        location = scatter.take(3) & ((1 << LOCATION_BITS) - 1)
        if location not in locations:
            locations.append(location)
    return locations


def pieces_of(sizes: list[int], locations: list[int]) -> tuple[Piece, ...]:
    """Return the pieces in the order in which they stand in the block."""
    pieces = []
    inserted = 0
    for location, index in sorted((location, index) for index, location in enumerate(locations)):
        pieces.append(Piece(location + inserted, index, sizes[index], location))
        inserted += WRAP_BITS + sizes[index]
    return tuple(pieces)
