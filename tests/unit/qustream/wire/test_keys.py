"""Sizes that follow from the block, and requests that carry a seed."""

from __future__ import annotations

from qustream.model.entropy import KGEN_BYTES, MATERIAL_BYTES, R_BYTES, SCATTER_BYTES, UNIT_BYTES
from qustream.wire.keys import BLOCK_BYTES, BLOCK_SEED_BYTES

SEGMENTS = 18


def test_sizes_are_those_of_the_block():
    assert R_BYTES * 8 == 2_097_152
    assert KGEN_BYTES * 8 == 1008 == SEGMENTS * 56
    assert MATERIAL_BYTES == R_BYTES + KGEN_BYTES == 262_270
    assert UNIT_BYTES == MATERIAL_BYTES + SCATTER_BYTES == 262_398
    # R and, for each segment, marker (64) and suffix (40) around it; the segments together are kGen.
    assert BLOCK_BYTES * 8 == R_BYTES * 8 + SEGMENTS * (64 + 40) + KGEN_BYTES * 8
    assert BLOCK_SEED_BYTES == KGEN_BYTES
