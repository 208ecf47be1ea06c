"""Verifying content without any key."""

from __future__ import annotations

import io
from typing import Any

import pytest

from qustream.envelope import read_header, verify_content
from qustream.envelope.trailer import TRAILER_BYTES
from qustream.errors import QuStreamError


def verified(envelope: bytes, chunk: int | None = None) -> int:
    stream: Any = io.BytesIO(envelope)
    header = read_header(stream)
    if chunk is not None:
        stream = Dripping(stream, chunk)
    return verify_content(stream, header)


class Dripping:
    """A pipe that gives a few bytes at a time."""

    def __init__(self, stream: io.BytesIO, chunk: int) -> None:
        self.stream, self.chunk = stream, chunk

    def read(self, size: int) -> bytes:
        return self.stream.read(min(size, self.chunk))


def code_of(envelope: bytes) -> str:
    with pytest.raises(QuStreamError) as caught:
        verified(envelope)
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
def test_what_was_signed_verifies(world: Any, size: int) -> None:
    envelope = world.envelope(bytes(size))
    header = read_header(io.BytesIO(envelope))
    assert verified(envelope) == len(envelope) - len(header.raw) - TRAILER_BYTES


def test_a_pad_verifies_too(world: Any) -> None:
    assert verified(world.pad(bytes(1000))) == 1000 + 16


@pytest.mark.parametrize("chunk", [1000, TRAILER_BYTES - 1, TRAILER_BYTES, TRAILER_BYTES + 1])
def test_the_trailer_is_found_however_the_bytes_come(world: Any, chunk: int) -> None:
    assert verified(world.envelope(bytes(10_000)), chunk) == verified(world.envelope(bytes(10_000)))


def test_every_changed_byte_is_found(world: Any) -> None:
    envelope = world.envelope(bytes(5000))
    start = len(read_header(io.BytesIO(envelope)).raw)
    for at in (start, start + 2500, len(envelope) - TRAILER_BYTES - 1, len(envelope) - TRAILER_BYTES, len(envelope) - 20):
        changed = bytearray(envelope)
        changed[at] ^= 1
        assert code_of(bytes(changed)) == "E-ENVELOPE-SENDER"


def test_what_was_cut_or_lengthened_is_found(world: Any) -> None:
    envelope = world.envelope(bytes(5000))
    start = len(read_header(io.BytesIO(envelope)).raw)
    for cut in (envelope[:start], envelope[: start + 100], envelope[:-1], envelope + b"x"):
        assert code_of(cut) == "E-ENVELOPE-TRUNCATED"


def test_content_of_another_envelope_is_found(world: Any) -> None:
    one, other = world.envelope(bytes(5000), tag="one"), world.envelope(bytes(5000), tag="other")
    start, other_start = (len(read_header(io.BytesIO(each)).raw) for each in (one, other))
    assert code_of(one[:start] + other[other_start:]) == "E-ENVELOPE-SENDER"
