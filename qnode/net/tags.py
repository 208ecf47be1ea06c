"""Which message a body is, before it is decoded (`proto/spec/encoding.md`): whoever is to take it is chosen by its tag."""

from __future__ import annotations

__all__ = ["CONSENSUS_TAGS", "tag_of"]

CONSENSUS_TAGS = range(90, 100)
# A MessagePack array of up to fifteen elements begins with one of these.
FIXARRAY, FIXARRAY_MAX = 0x90, 0x9F


def tag_of(body: bytes | bytearray) -> int:
    """The tag of an encoded message, 0 for what cannot be one. Tags of requests are below 128, so they take one byte."""
    return body[1] if len(body) > 1 and FIXARRAY < body[0] <= FIXARRAY_MAX and body[1] < 0x80 else 0
