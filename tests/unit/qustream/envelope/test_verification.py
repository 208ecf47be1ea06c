"""Verifying content without any key: what `decrypt_stream` accepts, and only that, whatever the sizes."""

from __future__ import annotations

import os
from io import BytesIO
from typing import Any

import pytest

from qustream.envelope import read_header, verify_content
from qustream.envelope.trailer import TRAILER_BYTES
from qustream.errors import QuStreamError


def checked(envelope: bytes) -> int:
    stream = BytesIO(envelope)
    return verify_content(stream, read_header(stream))


@pytest.mark.parametrize("size", [0, 5, 65_536, (1 << 20) - 100, (1 << 20) - TRAILER_BYTES, 3 << 20])
def test_a_whole_envelope_holds(world: Any, size: int) -> None:
    envelope = world.envelope(os.urandom(size))
    assert checked(envelope) == len(envelope) - TRAILER_BYTES - len(read_header(BytesIO(envelope)).raw)


def test_a_pad_holds(world: Any) -> None:
    assert checked(world.pad(b"hello")) == 5 + 16


@pytest.mark.parametrize("kind", ["envelope", "pad"])
def test_no_edit_holds(world: Any, kind: str) -> None:
    envelope = getattr(world, kind)(b"hello")
    front = len(read_header(BytesIO(envelope)).raw)
    for at in range(front, len(envelope), 7):
        with pytest.raises(QuStreamError, match=r"E-ENVELOPE-(SENDER|TRUNCATED)"):
            checked(envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :])
        with pytest.raises(QuStreamError, match="E-ENVELOPE-TRUNCATED"):
            checked(envelope[:at])
    with pytest.raises(QuStreamError, match="E-ENVELOPE-TRUNCATED"):
        checked(envelope + b"x")
