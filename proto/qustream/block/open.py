"""Open a block (`proto/spec/block.md` §5)."""

from __future__ import annotations

from qustream.block.bits import BitJoiner, read_bits
from qustream.block.layout import (
    BLOCK_BITS,
    BLOCK_BYTES,
    MATERIAL_BYTES,
    SEED_BYTES,
    SEGMENTS,
    WRAP_BITS,
    Piece,
    check_size,
)
from qustream.block.reading import MAX_MARKERS, MAX_PIECES, read_block
from qustream.block.segment import MARKER_BITS, SegmentKeys
from qustream.errors import fault

__all__ = ["open"]


def _extract(block: bytes, pieces: tuple[Piece, ...]) -> bytes:
    """Return R ‖ kGen of a block whose pieces are known."""
    joiner = BitJoiner(MATERIAL_BYTES)
    done = 0
    for piece in pieces:
        joiner.copy(block, done, piece.offset)
        done = piece.offset + WRAP_BITS + piece.size_bits
    joiner.copy(block, done, BLOCK_BITS)
    for piece in sorted(pieces, key=lambda piece: piece.segment):
        joiner.put(read_bits(block, piece.offset + MARKER_BITS, piece.size_bits), piece.size_bits)
    return joiner.finish()


def open(block: bytes, block_seed: bytes) -> bytes:  # noqa: A001 - the protocol's word; always written block.open
    """Return the material in `block`: R (262,144 bytes) ‖ kGen (126 bytes).

    `block`: R′, 262,504 bytes, from anywhere; `block_seed`: the 126 bytes it was built with. Work is bounded whatever `block`
    holds. A block that opens is not proof of where it came from: compare the SHA-256 of the material with the attested leaf.

    Raises `E-BLOCK-SIZE` if an input has the wrong size, `E-BLOCK-OPEN` if the block has no reading with this seed,
    `E-BLOCK-AMBIGUOUS` if it has more than one, or more markers or pieces than an honest block can have.
    """
    check_size("block", block, BLOCK_BYTES)
    check_size("block seed", block_seed, SEED_BYTES)
    readings, markers_seen, excess = read_block(block, SegmentKeys(block_seed))
    if excess:
        limits = f"{MAX_MARKERS} markers or {MAX_PIECES} pieces"
        raise fault("E-BLOCK-AMBIGUOUS", f"the block holds more than {limits}; an honest one holds {SEGMENTS} of each")
    if not readings:
        detail = f"no segment layout fits this seed ({markers_seen} of the {SEGMENTS} markers are there)"
        raise fault("E-BLOCK-OPEN", detail)
    if len(readings) > 1:
        raise fault("E-BLOCK-AMBIGUOUS", f"{len(readings)} segment layouts fit this seed")
    return _extract(block, readings[0])
