"""The leaf log on the disk: append-only, synchronised before anything leaves, cut into segments (`proto/spec/leaf-log.md`).

    <path>/0000000000.leaves    closed: never changes again
    <path>/0000000001.leaves    open: the newest; entries are appended

One thread appends; any other may read meanwhile. What is synchronised is what readers see. The daemon's lock on its data directory
keeps a second writer away.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qustream.entropy.batch import BATCH_UNITS_MAX, LEAF_DATA_BYTES
from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.leaflog.segment import (
    FIRST_PREVIOUS,
    SEGMENT_MAX_BYTES,
    SegmentContents,
    read_segment,
    record,
    segment_name,
    segment_number,
)
from qustream.model.base import Signed
from qustream.model.entropy import Attestation, LeafLogEntry, LeafLogHeader
from qustream.wire.codec import decode

__all__ = ["KEEP_BYTES", "LeafLog", "SegmentInfo"]

# Eleven million units in full batches: six hours of a device of 1 Gbit/s, years of one that serves some nodes.
KEEP_BYTES = 1 << 30
PROBE_FILE = ".probe"
PROBE_BYTES = 1 << 16  # a full batch of 256 units has 22 KiB, with the signature
FILE_MODE = 0o644  # it is published
DIRECTORY_MODE = 0o755  # likewise; the data directory above it is the daemon's own


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment that is kept. `size_bytes`: of the open one what is synchronised."""

    number: int
    size_bytes: int
    is_open: bool


class LeafLog:
    """One server's log on one network. `open()` before anything else, `close()` at the end; a context manager does both.

    `keep_bytes`: what is above goes in whole segments, the oldest first, but never the newest two. Errors of `open` and `append`:
    `E-DISK-FULL`, `E-FILE`, `E-DATA-CORRUPT`.
    """

    def __init__(self, path: Path, chain: str, server: bytes, *, keep_bytes: int = KEEP_BYTES) -> None:
        self.chain, self.server = chain, server
        self.last_batch = -1  # number of the newest batch in the log; -1: none, or none in the open segment
        self.cut_bytes = 0  # torn end that `open` cut off
        self._path, self._keep_bytes = path, keep_bytes
        self._sizes: dict[int, int] = {}  # of the kept segments, oldest first; the last is the open one
        self._lock = threading.Lock()  # over `_sizes`, which readers look at
        self._handle = -1
        self._dirty = False  # an append failed: behind the synchronised bytes there may be others

    # -- starting and stopping -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Find the newest segment, cut a torn end off it, and be ready to append; makes the directory and the first segment."""
        assert self._handle < 0, "opened once"
        try:
            self._path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            files.sync_directory(self._path.parent)
            found = sorted((number, entry) for entry in self._path.iterdir() if (number := segment_number(entry.name)) is not None)
            sizes = {number: entry.stat().st_size for number, entry in found}
        except OSError as error:
            raise files.file_fault(self._path, error) from None
        numbers = list(sizes)
        if not numbers:
            self._begin(0, FIRST_PREVIOUS)
            return
        if numbers[-1] - numbers[0] != len(numbers) - 1:
            raise fault("E-DATA-CORRUPT", f"{self._path}: a segment is missing between {numbers[0]} and {numbers[-1]}")
        self._sizes = sizes
        self._resume(numbers)

    def _resume(self, numbers: list[int]) -> None:
        newest = self._file(numbers[-1])
        contents = self._read_own(numbers[-1])
        if len(numbers) > 1:
            before = files.read(self._file(numbers[-2]), SEGMENT_MAX_BYTES, private=False)
            if contents.header.previous != hashlib.sha256(before).digest():
                raise fault("E-DATA-CORRUPT", f"{newest}: the segment before it has been changed")
            if not contents.entries:
                self.last_batch = _last_batch(self._read_own(numbers[-2]))
        if contents.entries:
            self.last_batch = _last_batch(contents)
        self.cut_bytes = self._sizes[numbers[-1]] - contents.whole_bytes
        self._sizes[numbers[-1]] = contents.whole_bytes
        self._handle = self._opened(numbers[-1])
        if self.cut_bytes:
            self._dirty = True
            self._cut_back()

    def _read_own(self, number: int) -> SegmentContents:
        file = self._file(number)
        try:
            contents = read_segment(files.read(file, SEGMENT_MAX_BYTES, private=False))
        except QuStreamError as error:
            if error.code != "E-LEAF-LOG":
                raise
            raise fault("E-DATA-CORRUPT", f"{file}: {error.detail}") from None
        header = contents.header
        if (header.chain, header.server, header.segment) != (self.chain, self.server, number):
            raise fault("E-DATA-CORRUPT", f"{file} belongs to another QRNG server, network or place in the log")
        return contents

    def close(self) -> None:
        """Give the file back. Nothing is pending: every append is on the disk when it returns."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> LeafLog:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- appending -----------------------------------------------------------------------------------------------------

    def append(self, attestation: Signed, leaves: Sequence[bytes]) -> None:
        """Write a batch and have it on the disk; only then may its units leave. If it raises, none of them may, ever: what was written of
        the batch is cut off again, and where the disk refuses that too it may stand in the log after a restart.

        `leaves`: the leaf data in order, 72 bytes each. Batch numbers rise.
        """
        assert self._handle >= 0, "open it first"
        assert 1 <= len(leaves) <= BATCH_UNITS_MAX, "a batch has 1 to 4,096 units"
        assert all(len(leaf) == LEAF_DATA_BYTES for leaf in leaves), "leaf data has 72 bytes"
        batch = decode(attestation.body, Attestation, max_bytes=len(attestation.body)).batch
        if batch <= self.last_batch:
            raise fault("E-DATA-CORRUPT", f"batch {batch} after batch {self.last_batch} of the leaf log: is the run file an old copy?")
        data = record(LeafLogEntry(attestation, b"".join(leaves)))
        if self._dirty:
            self._cut_back()
        number, size = self._open_segment
        if size + len(data) > SEGMENT_MAX_BYTES:
            self._next_segment(number)
            number, size = self._open_segment
        try:
            self._dirty = True
            _write_at(self._handle, data, size)
            os.fdatasync(self._handle)
        except OSError as error:
            with contextlib.suppress(QuStreamError):  # what is wrong is said once, and the next append tries this again
                self._cut_back()
            raise files.file_fault(self._file(number), error) from None
        self._dirty = False
        self.last_batch = batch
        with self._lock:
            self._sizes[number] = size + len(data)

    def probe(self) -> None:
        """Raises as `append` would where the disk takes nothing; leaves nothing behind."""
        if self._dirty:
            self._cut_back()
        file = self._path / PROBE_FILE
        files.replace(file, bytes(PROBE_BYTES))
        file.unlink(missing_ok=True)

    @property
    def _open_segment(self) -> tuple[int, int]:
        number = next(reversed(self._sizes))
        return number, self._sizes[number]

    def _cut_back(self) -> None:
        """Leave nothing behind the synchronised bytes of the open segment."""
        number, size = self._open_segment
        try:
            os.ftruncate(self._handle, size)
            os.fsync(self._handle)
        except OSError as error:
            raise files.file_fault(self._file(number), error) from None
        self._dirty = False

    def _next_segment(self, number: int) -> None:
        """Close the open segment. Its bytes are read back: the next one's header binds what is there, not what was meant."""
        data = files.read(self._file(number), SEGMENT_MAX_BYTES, private=False)
        self._begin(number + 1, hashlib.sha256(data).digest())
        self._forget()

    def _begin(self, number: int, previous: bytes) -> None:
        file = self._file(number)
        header = record(LeafLogHeader(self.chain, self.server, number, previous))
        try:
            files.create(file, header, mode=FILE_MODE)
        except FileExistsError:  # made by an attempt that got no further
            if files.read(file, SEGMENT_MAX_BYTES, private=False) != header:
                raise fault("E-DATA-CORRUPT", f"{file} is there already, with something else in it") from None
        handle = self._opened(number)
        self.close()
        self._handle = handle
        with self._lock:
            self._sizes[number] = len(header)

    def _forget(self) -> None:
        """Remove the oldest closed segments above what is kept. A crash between leaves the log whole, if a little too large."""
        # The newest closed one stays: if nothing comes into the open one, it alone knows the number of the newest batch.
        while len(self._sizes) > 2 and sum(self._sizes.values()) > self._keep_bytes:
            oldest = next(iter(self._sizes))
            with self._lock:
                del self._sizes[oldest]
            try:
                self._file(oldest).unlink(missing_ok=True)
            except OSError as error:
                raise files.file_fault(self._file(oldest), error) from None

    def _opened(self, number: int) -> int:
        try:
            return os.open(self._file(number), os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise files.file_fault(self._file(number), error) from None

    def _file(self, number: int) -> Path:
        return self._path / segment_name(number)

    # -- reading, from any thread --------------------------------------------------------------------------------------

    def index(self) -> list[SegmentInfo]:
        """The segments that are kept, oldest first; the last is open."""
        with self._lock:
            sizes = list(self._sizes.items())
        return [SegmentInfo(number, size, at == len(sizes) - 1) for at, (number, size) in enumerate(sizes)]

    def read(self, number: int) -> bytes | None:
        """The bytes of segment `number`, at most 1 MiB; None if it is not there, or no more. Errors: `E-FILE`."""
        with self._lock:
            size = self._sizes.get(number)
        if size is None:
            return None
        try:
            with self._file(number).open("rb") as file:
                return file.read(size)
        except FileNotFoundError:
            return None  # it went in this moment
        except OSError as error:
            raise files.file_fault(self._file(number), error) from None


def _write_at(handle: int, data: bytes, offset: int) -> None:
    """All of `data`; a full disk takes a part first and says no at the next attempt."""
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def _last_batch(contents: SegmentContents) -> int:
    if not contents.entries:
        return -1
    body = contents.entries[-1].attestation.body
    try:
        return decode(body, Attestation, max_bytes=len(body)).batch
    except QuStreamError as error:
        raise fault("E-DATA-CORRUPT", f"the newest attestation in the leaf log: {error.detail}") from None
