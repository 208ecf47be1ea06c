"""One log segment, from bytes and to bytes (`proto/spec/leaf-log.md`, "Log segments")."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TypeVar

from qustream.entropy.batch import LEAF_DATA_BYTES
from qustream.errors import QuStreamError, fault
from qustream.model.base import Noun
from qustream.model.entropy import LeafLogEntry, LeafLogHeader
from qustream.wire.codec import decode, encode

__all__ = ["FIRST_PREVIOUS", "SEGMENT_MAX_BYTES", "SegmentContents", "read_segment", "record", "segment_name", "segment_number"]

_N = TypeVar("_N", bound=Noun)
# Any web server hands out a file of a mebibyte whole, and an auditor holds one in memory; 40 full batches.
SEGMENT_MAX_BYTES = 1 << 20
RECORD_MAX_BYTES = 314_682  # of its body: the longest LeafLogEntry: 4,096 leaves under the longest Signed (encoding.md)
LENGTH_BYTES = 4  # big endian, in front of every record
HEAD_BYTES = LENGTH_BYTES + 32  # and SHA-256 of the body
FIRST_PREVIOUS = bytes(32)
NAME = re.compile(r"([0-9]{10})\.leaves")
NUMBER_MAX = (1 << 32) - 1  # of a segment: a Count32


def segment_name(number: int) -> str:
    """The name of a segment's file."""
    return f"{number:010}.leaves"


def segment_number(name: str) -> int | None:
    """The number of the segment whose file is called `name`; None if it is no segment's."""
    found = NAME.fullmatch(name)
    number = int(found[1]) if found else None
    return number if number is not None and number <= NUMBER_MAX else None


def record(noun: LeafLogHeader | LeafLogEntry) -> bytes:
    """The record of a header or an entry: length and SHA-256 of its canonical bytes, then these."""
    body = encode(noun)
    return len(body).to_bytes(LENGTH_BYTES, "big") + hashlib.sha256(body).digest() + body


@dataclass(frozen=True, slots=True)
class SegmentContents:
    """A segment that was read. `whole_bytes`: up to the end of its last whole record; what the file has beyond is torn."""

    header: LeafLogHeader
    entries: list[LeafLogEntry]
    whole_bytes: int


def read_segment(data: bytes) -> SegmentContents:
    """Read the hostile bytes of a segment's file. A torn end is left out; whoever may not have one compares `whole_bytes`.

    Errors: `E-LEAF-LOG`, with the place.
    """
    if len(data) > SEGMENT_MAX_BYTES:
        raise fault("E-LEAF-LOG", f"a segment of more than {SEGMENT_MAX_BYTES} bytes")
    # The file gets its name when its header is in it, so a header is never torn.
    body, at = _record(data, 0)
    if body is None:
        raise fault("E-LEAF-LOG", "the segment does not begin with a whole record")
    header = _noun(body, LeafLogHeader, 0)
    entries: list[LeafLogEntry] = []
    while at < len(data):
        body, end = _record(data, at)
        if body is None:
            # What a crash leaves of the last record is its beginning, at most with zeros after it. The entry was never acknowledged.
            if end - at <= HEAD_BYTES + RECORD_MAX_BYTES and not any(data[end:]):
                break
            raise fault("E-LEAF-LOG", f"at byte {at} of the segment: a record that does not check")
        entry = _noun(body, LeafLogEntry, at)
        if len(entry.leaves) % LEAF_DATA_BYTES:
            raise fault("E-LEAF-LOG", f"at byte {at} of the segment: leaves of {len(entry.leaves)} bytes")
        entries.append(entry)
        at = end
    return SegmentContents(header, entries, at)


def _record(data: bytes, at: int) -> tuple[bytes | None, int]:
    """The body of the record at `at`, None if it does not check, and where the record says it ends."""
    length = int.from_bytes(data[at : at + LENGTH_BYTES], "big")
    start, end = at + HEAD_BYTES, at + HEAD_BYTES + length
    body, digest = data[start:end], data[at + LENGTH_BYTES : start]
    # An empty body is none: a record of zeros must not check.
    return (body if length and len(body) == length and hashlib.sha256(body).digest() == digest else None), end


def _noun(body: bytes, kind: type[_N], at: int) -> _N:
    try:
        return decode(body, kind, max_bytes=RECORD_MAX_BYTES)
    except QuStreamError as error:
        raise fault("E-LEAF-LOG", f"at byte {at} of the segment: {error.detail}") from None
