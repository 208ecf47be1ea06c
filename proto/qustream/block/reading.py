"""Every consistent way to read a block with a given seed (`proto/spec/block.md` §5).

A *piece* is a marker followed, 40 to 72 bits later, by the suffix which that segment has at the location that the suffix itself
claims. A *reading* takes one piece for each of the 18 segments such that, left to right, every piece stands where its location
and the pieces before it put it, and the sizes add up to 1008 bits.

A node knows the seeds of the blocks that it builds, so a hostile one can plant markers and pieces at will, and with three pieces
for each segment there are 3^18 ways to choose. Work is bounded by two counts which an honest block never reaches; both are part
of the protocol, so that every implementation refuses the same blocks.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from qustream.block.bits import read_bits
from qustream.block.layout import BLOCK_BITS, KGEN_BITS, MAX_SIZE_BITS, MIN_SIZE_BITS, SEGMENTS, WRAP_BITS, Piece
from qustream.block.search import find_markers
from qustream.block.segment import CHECK_BITS, MARKER_BITS, ORDER_BITS, SIZE_BITS, SUFFIX_BITS, SegmentKeys

__all__ = ["MAX_MARKERS", "MAX_PIECES", "Outcome", "read_block"]

MAX_MARKERS = 64  # one beyond the 18 by chance: 2^-38 a block, 47 beyond: never. Each costs 33 comparisons, all of them 0.2 ms
MAX_PIECES = 24  # seven beyond the 18 by chance: 2^-81 a block. With six beyond there are at most 2^6 = 64 ways to choose

_SPREAD_BITS = MAX_SIZE_BITS - MIN_SIZE_BITS
_SUFFIX_MASK = (1 << SUFFIX_BITS) - 1
_ORDER_AND_SIZE = ((1 << ORDER_BITS + SIZE_BITS) - 1) << CHECK_BITS


class Outcome(NamedTuple):
    """What a block turned out to hold: its readings, how many of the 18 markers it shows, whether it exceeds a limit."""

    readings: list[tuple[Piece, ...]]
    markers_seen: int
    excess: bool


def _pieces_at(block: bytes, keys: SegmentKeys, index: int, offset: int) -> list[Piece]:
    """Return the pieces of segment `index` whose marker stands at `offset`: for each size, whether the suffix behind it holds."""
    start = offset + MARKER_BITS + MIN_SIZE_BITS
    end = min(start + _SPREAD_BITS + SUFFIX_BITS, BLOCK_BITS)
    longest = end - start - SUFFIX_BITS  # above the least size; negative if the block ends before the shortest piece could
    if longest < 0:
        return []
    window = read_bits(block, start, end - start)
    # Order and size, 12 of the 40 bits, are known before anything is computed: compare them first.
    wanted = (keys.masks[index] ^ index << SIZE_BITS + CHECK_BITS) & _ORDER_AND_SIZE
    pieces = []
    for beyond in range(longest + 1):
        size_bits = MIN_SIZE_BITS + beyond
        suffix = window >> longest - beyond
        if suffix & _ORDER_AND_SIZE != wanted ^ size_bits << CHECK_BITS:
            continue
        suffix &= _SUFFIX_MASK
        location = keys.claimed_location(index, suffix)
        if suffix == keys.suffix(index, size_bits, location):
            pieces.append(Piece(offset, index, size_bits, location))
    return pieces


def _is_consistent(pieces: tuple[Piece, ...]) -> bool:
    """Whether pieces in order of offset, one for each segment, each stand where the ones before them put them."""
    inserted = 0
    previous = -1
    for piece in pieces:
        if piece.offset - inserted != piece.location or piece.location <= previous:
            return False
        previous = piece.location
        inserted += WRAP_BITS + piece.size_bits
    return inserted == SEGMENTS * WRAP_BITS + KGEN_BITS


def read_block(block: bytes, keys: SegmentKeys) -> Outcome:
    """Return every reading of `block`, each as its pieces in the order in which they stand."""
    markers = find_markers(block, keys.markers, MAX_MARKERS)
    if markers is None:
        return Outcome([], SEGMENTS, excess=True)
    seen = len({index for _, index in markers})
    choices: list[list[Piece]] = [[] for _ in range(SEGMENTS)]
    for offset, index in markers:
        choices[index] += _pieces_at(block, keys, index, offset)
    if sum(map(len, choices)) > MAX_PIECES:
        return Outcome([], seen, excess=True)
    ways = (tuple(sorted(way)) for way in product(*choices))
    return Outcome([way for way in ways if _is_consistent(way)], seen, excess=False)
