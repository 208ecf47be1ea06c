"""A unit encoded from its pieces is the message every encoder makes."""

from __future__ import annotations

import os
import random
from itertools import pairwise

import pytest

from qustream.model.entropy import UNIT_BYTES, LeafProof
from qustream.wire.codec import decode, encode
from qustream.wire.feed import FEED_MAX_BYTES, FeedUnit, encode_unit, encode_unit_parts


@pytest.mark.parametrize("cuts", [[], [1], [100_000, 200_000], [UNIT_BYTES - 1]])
@pytest.mark.parametrize(
    "proof", [LeafProof(0, 0, ()), LeafProof((1 << 63) - 1, 255, (bytes(32),) * 8), LeafProof(1 << 40, 70_000, (b"p" * 32,))]
)
def test_pieces_make_the_canonical_message(cuts: list[int], proof: LeafProof) -> None:
    unit = random.Random(1).randbytes(UNIT_BYTES)
    ends = [0, *cuts, UNIT_BYTES]
    pieces = [memoryview(unit)[a:b] for a, b in pairwise(ends)]
    message = encode_unit(b"r" * 32, proof, pieces)
    assert message == encode(FeedUnit(b"r" * 32, proof, unit))
    assert decode(message, FeedUnit, max_bytes=FEED_MAX_BYTES) == FeedUnit(b"r" * 32, proof, unit)


def test_a_unit_in_parts_is_the_same_bytes_and_its_pieces_are_not_copied() -> None:
    memory = bytearray(UNIT_BYTES)
    proof = LeafProof(3, 7, (b"p" * 32,))
    pieces = [memoryview(memory)[:100], memoryview(memory)[100:]]
    parts = encode_unit_parts(b"r" * 32, proof, pieces)
    assert parts[1:] == pieces
    memory[:] = os.urandom(UNIT_BYTES)
    assert b"".join(parts) == encode(FeedUnit(b"r" * 32, proof, bytes(memory)))
