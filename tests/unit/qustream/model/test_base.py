"""Field types refuse what they do not hold, at the decoder."""

from __future__ import annotations

import msgspec
import pytest

from qustream.model import base
from qustream.model.base import Noun, Signed


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (base.Bytes16, [bytes(16)], [bytes(15), bytes(17)]),
        (base.Bytes32, [bytes(32)], [b"", bytes(31), bytes(33)]),
        (base.Bytes64, [bytes(64)], [bytes(63), bytes(65)]),
        (base.HybridSignature, [bytes(3373)], [bytes(3372), bytes(3374)]),
        (base.U16, [0, 65_535], [-1, 65_536]),
        (base.Count32, [0, (1 << 32) - 1], [-1, 1 << 32]),
        (base.U63, [0, (1 << 63) - 1], [-1, 1 << 63]),
        (base.Label, ["", "x" * 64, "ü" * 64], ["x" * 65]),
        (base.Text, ["", "x" * 256], ["x" * 257]),
        (base.Path, [(), (bytes(32),) * 32], [(bytes(32),) * 33, (bytes(31),)]),
    ],
)
def test_bounds(kind, good, bad):
    decoder = msgspec.msgpack.Decoder(kind)
    for value in good:
        assert decoder.decode(msgspec.msgpack.encode(value)) == value
    for value in bad:
        with pytest.raises(msgspec.ValidationError):
            decoder.decode(msgspec.msgpack.encode(value))


def test_nouns_are_frozen_values():
    noun = Signed(b"body", bytes(3373))
    assert noun == Signed(b"body", bytes(3373))
    assert hash(noun) == hash(Signed(b"body", bytes(3373)))
    with pytest.raises(AttributeError):
        noun.body = b"other"
    assert issubclass(Signed, Noun)
