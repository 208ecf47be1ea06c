"""Build a block (`proto/spec/block.md` §4)."""

from __future__ import annotations

from qustream.block.bits import BitJoiner
from qustream.block.layout import (
    BLOCK_BYTES,
    KGEN_BITS,
    MATERIAL_BYTES,
    R_BITS,
    R_BYTES,
    SCATTER_BYTES,
    SEED_BYTES,
    Piece,
    Scatter,
    check_size,
    draw_locations,
    draw_sizes,
    pieces_of,
)
from qustream.block.reading import read_block
from qustream.block.segment import MARKER_BITS, SUFFIX_BITS, SegmentKeys

__all__ = ["assemble", "build"]


def assemble(material: bytes, keys: SegmentKeys, pieces: tuple[Piece, ...]) -> bytes:
    """Return R with the 18 `pieces` in it, in the order in which they stand: 262,504 bytes. Not yet read back."""
    kgen = int.from_bytes(material[R_BYTES:], "big")
    below = KGEN_BITS
    segments = {}
    for _, index, size_bits, _ in sorted(pieces, key=lambda piece: piece.segment):
        below -= size_bits
        segments[index] = kgen >> below & ((1 << size_bits) - 1)
    joiner = BitJoiner(BLOCK_BYTES)
    done = 0
    for _, index, size_bits, location in pieces:
        joiner.copy(material, done, location)
        wrapped = keys.markers[index] << size_bits | segments[index]
        wrapped = wrapped << SUFFIX_BITS | keys.suffix(index, size_bits, location)
        joiner.put(wrapped, MARKER_BITS + size_bits + SUFFIX_BITS)
        done = location
    joiner.copy(material, done, R_BITS)
    return joiner.finish()


def build(material: bytes, scatter: bytes, block_seed: bytes, *, read_back: bool = True) -> bytes:
    """Return the block R′ of `material` for the holder of `block_seed`.

    `material`: R (262,144 bytes) ‖ kGen (126 bytes); `scatter`: 128 random bytes, used here and never again; `block_seed`: 126
    random bytes from the user's device, for this block only. R′: 262,504 bytes.

    Every block is read back before it is returned. Should it have a second reading (once in 2^71 blocks of random material), the
    locations are drawn again from the scatter bytes that are left. A draw takes at least 54 of the 128, so there are at most two.
    Without `read_back` that is left to whoever opens the block: a node does so, because the device that asked opens the block at
    once and takes another node's if it cannot (adr/0002).

    Raises `E-BLOCK-SIZE` if an input has the wrong size, `E-SCATTER-SHORT` if the scatter bytes run out.
    """
    check_size("material", material, MATERIAL_BYTES)
    check_size("scatter", scatter, SCATTER_BYTES)
    check_size("block seed", block_seed, SEED_BYTES)
    keys = SegmentKeys(block_seed)
    draws = Scatter(scatter)
    sizes = draw_sizes(draws)
    while True:
        pieces = pieces_of(sizes, draw_locations(draws))
        block = assemble(material, keys, pieces)
        if not read_back:
            return block
        outcome = read_block(block, keys)
        assert outcome.excess or pieces in outcome.readings
        if outcome.readings == [pieces]:
            return block
