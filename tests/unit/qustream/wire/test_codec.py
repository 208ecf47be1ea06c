"""The one decoding seam: size first, then shape, then canonical form."""

from __future__ import annotations

import pytest

from qustream.errors import QuStreamError
from qustream.model.entropy import LeafProof
from qustream.wire.codec import decode, encode
from qustream.wire.hello import Goodbye, Hello, Ping, Pong

PING = encode(Ping(5))


def refusal(data, kind, max_bytes: int = 1024) -> QuStreamError:
    with pytest.raises(QuStreamError) as caught:
        decode(data, kind, max_bytes=max_bytes)
    return caught.value


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(wrap):
    assert decode(wrap(PING), Ping, max_bytes=3) == Ping(5)
    assert decode(wrap(PING), Hello | Ping | Pong | Goodbye, max_bytes=3) == Ping(5)


def test_size_comes_first():
    assert refusal(PING, Ping, 2).code == "E-WIRE-OVERSIZE"
    assert refusal(bytes(5000), Ping).code == "E-WIRE-OVERSIZE"


def test_a_refusal_names_the_kind_and_shows_none_of_the_bytes():
    secret = b"\x93\x04\xa6secret\x01"
    error = refusal(secret, Goodbye)
    assert error.code == "E-WIRE-MALFORMED"
    assert "Goodbye" in error.detail
    assert "secret" not in str(error)
    assert "message" in refusal(secret, Ping | Pong).detail
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_noun_has_no_tag():
    proof = LeafProof(1, 2, (bytes(32),))
    assert encode(proof) == b"\x93\x01\x02\x91\xc4\x20" + bytes(32)
    assert decode(encode(proof), LeafProof, max_bytes=100) == proof


def test_every_longer_form_of_a_number_is_refused():
    for longer in (
        b"\xcc\x05",
        b"\xcd\x00\x05",
        b"\xce\x00\x00\x00\x05",
        b"\xcf" + bytes(7) + b"\x05",
        b"\xd0\x05",
        b"\xd3" + bytes(7) + b"\x05",
    ):
        assert refusal(b"\x92\x02" + longer, Ping).code == "E-WIRE-NONCANONICAL"


def test_nesting_as_deep_as_the_place_allows_is_refused():
    for depth in (100, 10_000, 500_000):
        assert refusal(b"\x91" * depth, Ping, 1 << 20).code == "E-WIRE-MALFORMED"
        assert refusal(b"\x93\x02\x05" + b"\x91" * depth, Ping, 1 << 20).code == "E-WIRE-MALFORMED"
