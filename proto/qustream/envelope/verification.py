"""Verifying an envelope's content without any key: the trailer signs its bytes as they stand (`proto/spec/envelope.md`, "Trailer")."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from qustream.envelope.header import Header
from qustream.envelope.trailer import TRAILER_BYTES, check_trailer
from qustream.errors import fault

__all__ = ["verify_content"]

READ_BYTES = 1 << 20  # large enough that hashing, not reading, sets the pace


def verify_content(source: BinaryIO, header: Header) -> int:
    """Check that the device the header names signed everything that follows `header` in `source`; returns the bytes of content.

    `verify_sender` comes first. Errors: `E-ENVELOPE-TRUNCATED`, `E-ENVELOPE-SENDER`.
    """
    digest, size, held = hashlib.sha256(), 0, b""
    while piece := source.read(READ_BYTES):
        held += piece
        ready, held = held[:-TRAILER_BYTES], held[-TRAILER_BYTES:]
        digest.update(ready)
        size += len(ready)
    if len(held) < TRAILER_BYTES:
        raise fault("E-ENVELOPE-TRUNCATED", "the envelope ends before its trailer")
    check_trailer(held, header, digest.digest())
    return size
