"""One log segment, from bytes and to bytes (`proto/spec/leaf-log.md`, "Log segments")."""

from __future__ import annotations

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
RECORD_MAX_BYTES = 314_682  # the longest LeafLogEntry: 4,096 leaves under the longest Signed (encoding.md)
LENGTH_BYTES = 4  # big endian, in front of every record
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
    """The record of a header or an entry: its length, then its canonical bytes."""
    body = encode(noun)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


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
    header, at = _noun(data, 0, LeafLogHeader)
    entries: list[LeafLogEntry] = []
    while at < len(data) and not _is_torn(data, at):
        try:
            entry, end = _noun(data, at, LeafLogEntry)
        except QuStreamError:
            if _end(data, at) == len(data):
                break  # the last record, of which a crash left a part: the entry was never acknowledged
            raise
        entries.append(entry)
        at = end
    return SegmentContents(header, entries, at)


def _end(data: bytes, at: int) -> int:
    return at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES], "big")


def _is_torn(data: bytes, at: int) -> bool:
    """Whether the file ends before the record at `at` does, as a crash leaves it: short, or zeros where data should be."""
    if len(data) - at < LENGTH_BYTES or not any(data[at:]):
        return True
    return _end(data, at) > len(data) and _end(data, at) - at - LENGTH_BYTES <= RECORD_MAX_BYTES


def _noun(data: bytes, at: int, kind: type[_N]) -> tuple[_N, int]:
    end = _end(data, at)
    if end > len(data) or end - at > LENGTH_BYTES + RECORD_MAX_BYTES:
        raise fault("E-LEAF-LOG", f"at byte {at} of the segment: a record of {end - at - LENGTH_BYTES} bytes")
    try:
        noun = decode(data[at + LENGTH_BYTES : end], kind, max_bytes=RECORD_MAX_BYTES)
    except QuStreamError as error:
        raise fault("E-LEAF-LOG", f"at byte {at} of the segment: {error.detail}") from None
    if isinstance(noun, LeafLogEntry) and len(noun.leaves) % LEAF_DATA_BYTES:
        raise fault("E-LEAF-LOG", f"at byte {at} of the segment: leaves of {len(noun.leaves)} bytes")
    return noun, end
