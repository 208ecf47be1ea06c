"""Keeping a copy of a published log: servers forget, auditors need not (`proto/spec/leaf-log.md`, "Keeping")."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from qustream.errors import fault
from qustream.identity import files
from qustream.leaflog.segment import FIRST_PREVIOUS, SEGMENT_MAX_BYTES, SegmentContents, read_segment, segment_name, segment_number
from qustream.leaflog.source import LogPages
from qustream.model.ids import IdKind, to_text

__all__ = ["Fetched", "fetch_closed"]

FILE_MODE = 0o644  # public as it is


@dataclass(frozen=True, slots=True)
class Fetched:
    """`first` and `last`: numbers of the segments that were added to the copy; `last` < `first`: none was closed since."""

    first: int
    last: int


def fetch_closed(pages: LogPages, folder: Path) -> Fetched:
    """Add to `folder` the closed segments it does not have, each checked against the one before it; whoever is interrupted begins again.

    What the entries say is for the audit of `folder`. Errors: `E-LEAF-LOG` for a segment that does not fit the copy, and when segments
    went before they were fetched; those of `LogPages`; `E-FILE`, `E-DISK-FULL`.
    """
    index = pages.index()
    newest = _newest(folder)
    first = index.first if newest is None else newest + 1
    if index.last < first:  # a closed segment has one after it
        raise fault("E-LEAF-LOG", f"{pages.name}: the log ends at segment {index.last}, and {folder} has {first - 1}: it was begun anew")
    if first < index.first:
        raise fault(
            "E-LEAF-LOG", f"{pages.name}: segments {first} to {index.first - 1} went before they were fetched; begin another directory"
        )
    before = None if newest is None else files.read(folder / segment_name(newest), SEGMENT_MAX_BYTES, private=False)
    for number in range(first, index.last):
        data = pages.segment(number)
        if data is None:
            raise fault("E-PEER-UNREACHABLE", f"segment {number} of {pages.name} was gone when it was asked for")
        contents = read_segment(data)
        if contents.header.chain != index.chain or to_text(IdKind.QRNG, contents.header.server) != index.server:
            raise fault("E-LEAF-LOG", f"{pages.name}, segment {number}: of another server or network than its list says")
        _check_next(pages.name, number, contents, data, before)
        try:
            files.create(folder / segment_name(number), data, mode=FILE_MODE)
        except FileExistsError:
            raise fault("E-FILE", f"{folder}: somebody else is writing this copy") from None
        before = data
    return Fetched(first, index.last - 1)


def _newest(folder: Path) -> int | None:
    try:
        folder.mkdir(exist_ok=True)
        numbers = [number for entry in folder.iterdir() if (number := segment_number(entry.name)) is not None]
    except OSError as error:
        raise files.file_fault(folder, error) from None
    return max(numbers, default=None)


def _check_next(name: str, number: int, contents: SegmentContents, data: bytes, before: bytes | None) -> None:
    header = contents.header
    if header.segment != number or contents.whole_bytes != len(data) or not contents.entries:
        raise fault("E-LEAF-LOG", f"{name}, segment {number}: not a closed segment of this number")
    if before is not None and header.server != read_segment(before).header.server:
        raise fault("E-LEAF-LOG", f"{name}, segment {number}: of another server than the copy")
    previous = hashlib.sha256(before).digest() if before is not None else FIRST_PREVIOUS if number == 0 else header.previous
    if header.previous != previous:
        raise fault("E-LEAF-LOG", f"{name}, segment {number}: the segment before it is not the one that was published before")
