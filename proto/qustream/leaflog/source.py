"""Where a leaf log is read from: a directory of its segments, or the server's pages (`proto/spec/leaf-log.md`, "Publishing"). Blocking."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from qustream.errors import fault
from qustream.identity import files
from qustream.leaflog.segment import NUMBER_MAX, SEGMENT_MAX_BYTES, segment_name, segment_number
from qustream.model.base import U63, Label
from qustream.wire.json_text import decode_json

__all__ = ["DirectorySource", "LogIndex", "LogPages", "LogSource", "open_source"]

SEGMENTS_MAX = 65_536  # 64 GiB of leaves in one audit: five hundred million units
INDEX_MAX_BYTES = 4096  # five fields
PAGE_TIMEOUT_S = 30.0  # a mebibyte over a poor line
_Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]


class LogIndex(Struct, frozen=True):
    """The page `/v1/log`: which segments there are. `server`: `qr1…`."""

    chain: Label
    server: Annotated[str, Meta(max_length=128)]
    first: _Number
    last: _Number
    bytes: U63


class LogSource(Protocol):
    """`name`: as whoever audits called it."""

    name: str

    def segments(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of every segment, in order. Errors: `E-FILE`, `E-LEAF-LOG`, `E-PEER-UNREACHABLE`."""
        ...


def open_source(text: str) -> LogSource:
    """`http://…` and `https://…` are a server's status address, anything else is a directory."""
    return LogPages(text) if text.startswith(("http://", "https://")) else DirectorySource(Path(text))


class DirectorySource:
    """A directory of segment files; files with other names are not looked at."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def segments(self) -> Iterator[tuple[int, bytes]]:
        try:
            numbers = sorted(number for entry in self._path.iterdir() if (number := segment_number(entry.name)) is not None)
        except OSError as error:
            raise files.file_fault(self._path, error) from None
        if not numbers:
            raise fault("E-FILE", f"{self._path}: no segment of a leaf log is here")
        if len(numbers) > SEGMENTS_MAX:
            raise fault("E-LEAF-LOG", f"more than {SEGMENTS_MAX} segments; audit them in parts")
        for number in numbers:
            yield number, files.read(self._path / segment_name(number), SEGMENT_MAX_BYTES, private=False)


class LogPages:
    """The pages of a QRNG server at its status address, or of a web server in front of it."""

    def __init__(self, address: str) -> None:
        self.name = address
        self._base = address.rstrip("/") + "/v1/log"

    def index(self) -> LogIndex:
        """Errors: `E-PEER-UNREACHABLE`, `E-LEAF-LOG`."""
        status, body = _fetch(self._base, INDEX_MAX_BYTES)
        if status != http.client.OK:
            raise fault("E-PEER-UNREACHABLE", f"no leaf log at {self._base}: status {status}")
        try:
            index = decode_json(body, LogIndex)
        except ValueError:
            raise fault("E-LEAF-LOG", "the list of segments is not what it should be") from None
        if not 0 <= index.last - index.first < SEGMENTS_MAX:
            raise fault("E-LEAF-LOG", f"the list names no segments, or more than {SEGMENTS_MAX}")
        return index

    def segment(self, number: int) -> bytes | None:
        """Segment `number`, None if it is not there. Errors: `E-PEER-UNREACHABLE`, `E-LEAF-LOG`."""
        url = f"{self._base}/{number}"
        status, body = _fetch(url, SEGMENT_MAX_BYTES)
        if status == http.client.NOT_FOUND:
            return None
        if status != http.client.OK:
            raise fault("E-PEER-UNREACHABLE", f"no segment from {url}: status {status}")
        return body

    def segments(self) -> Iterator[tuple[int, bytes]]:
        index = self.index()
        began = False
        for number in range(index.first, index.last + 1):
            data = self.segment(number)
            if data is not None:
                began = True
                yield number, data
            elif began or number == index.last:
                raise fault("E-PEER-UNREACHABLE", f"segment {number} of {self.name} was gone when it was asked for")


def _fetch(url: str, max_bytes: int) -> tuple[int, bytes]:
    """Status and body. `url` begins with http:// or https://."""
    try:
        with urllib.request.urlopen(url, timeout=PAGE_TIMEOUT_S) as answer:  # noqa: S310 - `open_source` saw to the scheme
            body: bytes = answer.read(max_bytes + 1)
            status: int = answer.status
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, b""
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise fault("E-PEER-UNREACHABLE", f"{url}: {getattr(error, 'reason', error)}") from None
    if len(body) > max_bytes:
        raise fault("E-LEAF-LOG", f"{url}: more than {max_bytes} bytes")
    return status, body
