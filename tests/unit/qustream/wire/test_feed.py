"""A unit encoded from its pieces is the message every encoder makes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest

from qustream.errors import QuStreamError
from qustream.model.base import Signed
from qustream.model.entropy import UNIT_BYTES, LeafProof
from qustream.wire.codec import decode, encode
from qustream.wire.feed import (
    FEED_MAX_BYTES,
    FeedBatch,
    FeedCredit,
    FeedHealth,
    FeedMessage,
    FeedOpen,
    FeedUnit,
    ReceivedUnit,
    decode_feed,
    encode_unit,
    encode_unit_parts,
)


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


UNIT = random.Random(2).randbytes(UNIT_BYTES)
GOOD = encode(FeedUnit(b"r" * 32, LeafProof(3, 7, (b"p" * 32,) * 8), UNIT))
BEFORE = GOOD[:-UNIT_BYTES]
SHORT = (FeedOpen(bytes(32), 5), FeedCredit(3), FeedHealth("live", "", "ok"), FeedBatch(Signed(b"body", bytes(3373))))


def code_of(body: bytes | bytearray) -> str:
    with pytest.raises(QuStreamError) as caught:
        decode_feed(body)
    return caught.value.code


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_unit_is_decoded_where_it_lies(kind: type[bytearray]) -> None:
    body = kind(GOOD)
    unit = decode_feed(body)
    assert isinstance(unit, ReceivedUnit)
    assert FeedUnit(unit.root, unit.proof, bytes(unit.unit)) == decode(GOOD, FeedUnit, max_bytes=FEED_MAX_BYTES)
    assert unit.unit.obj is body
    assert unit.unit.readonly


@pytest.mark.parametrize("message", SHORT)
def test_other_messages_of_the_feed_are_decoded_as_ever(message: FeedOpen | FeedCredit | FeedHealth | FeedBatch) -> None:
    assert decode_feed(encode(message)) == message


ALTERED = {
    "nothing": b"",
    "the mark alone": BEFORE[-5:],
    "no head": BEFORE[-5:] + UNIT,
    "a byte more": GOOD + b"x",
    "a byte less": GOOD[:-1],
    "a byte before": b"\x00" + GOOD,
    "another tag": b"\x94\x2b" + GOOD[2:],
    "a tag in two bytes": b"\x94\xcc\x2c" + GOOD[2:],
    "a long array": b"\xdc\x00\x04" + GOOD[1:],
    "a field less": b"\x93" + GOOD[1:],
    "a field more": b"\x95" + GOOD[1:],
    "a length too great": BEFORE[:-1] + b"\xff" + UNIT,
    "a length too small": BEFORE[:-1] + b"\x00" + UNIT,
    "a string instead of bytes": BEFORE[:-5] + b"\xdb" + BEFORE[-4:] + UNIT,
    "a short root": b"\x94\x2c\xc4\x1f" + GOOD[5:],
    "a long form of the root": b"\x94\x2c\xc5\x00\x20" + GOOD[4:],
    "a long form of the sequence": BEFORE.replace(b"\x93\x03\x07", b"\x93\xcc\x03\x07") + UNIT,
    "a negative sequence": BEFORE.replace(b"\x93\x03\x07", b"\x93\xff\x07") + UNIT,
    "a float": BEFORE.replace(b"\x93\x03\x07", b"\x93\xcb" + bytes(8) + b"\x07") + UNIT,
    "a field more in the proof": BEFORE.replace(b"\x93\x03\x07", b"\x94\x00\x03\x07") + UNIT,
    "two units": BEFORE + UNIT + BEFORE[-5:] + UNIT,
    "noise before the mark": b"\xc1" * 300 + BEFORE[-5:] + UNIT,
    "too much before the mark": bytes(5000) + BEFORE[-5:] + UNIT,
}


@pytest.mark.parametrize("body", ALTERED.values(), ids=list(ALTERED))
def test_what_the_general_decoder_refuses_is_refused_with_its_code(body: bytes) -> None:
    with pytest.raises(QuStreamError) as caught:
        decode(body, FeedMessage, max_bytes=FEED_MAX_BYTES)
    assert code_of(body) == caught.value.code
    assert code_of(bytearray(body)) == caught.value.code


def outcome(body: bytearray, decoder: Callable[[bytearray], object]) -> object:
    """What comes out, a unit as `FeedUnit`, or the code of the refusal."""
    try:
        message = decoder(body)
    except QuStreamError as error:
        return error.code
    return FeedUnit(message.root, message.proof, bytes(message.unit)) if isinstance(message, ReceivedUnit) else message


def test_every_altered_byte_of_a_head_is_judged_as_the_general_decoder_does() -> None:
    general = partial(decode, kind=FeedMessage, max_bytes=FEED_MAX_BYTES)
    for at in range(len(BEFORE)):
        for change in (0x01, 0x80, 0xFF):
            body = bytearray(GOOD)
            body[at] ^= change
            assert outcome(body, decode_feed) == outcome(body, general), (at, change)
