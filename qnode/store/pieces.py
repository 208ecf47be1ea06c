"""Objects that come in pieces, on the disk while they come and while they are served (`proto/spec/bulk.md`, §5).

A folder of its own: `ID.manifest` and `ID.part` while an object comes, `ID.object` when it is whole. What an earlier life has left is
looked at piece by piece: its hash says whether a piece is there, nothing else does. A name appears when what it names is on the disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import weakref
from contextlib import suppress
from pathlib import Path

from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.wire.bulk import (
    MANIFEST_MAX_BYTES,
    OBJECT_MAX_BYTES,
    PIECE_BYTES,
    Manifest,
    checked_manifest,
    manifest_of,
    object_id,
    piece_bytes,
)
from qustream.wire.codec import encode

__all__ = ["FileObject", "PieceStore"]

# What stays free on the disk: LMDB's pages, and the erasures of a full store (`qnode doctor` counts with the same).
SPARE_BYTES = 128 << 20
# Of `st_blocks` (stat(2)).
BLOCK_BYTES = 512
_PART, _MANIFEST, _OBJECT = ".part", ".manifest", ".object"
# What we make here, and the names under which files are written first.
_OURS = re.compile(r"\.?([0-9a-f]{64})\.(part|manifest|object)(\.[0-9a-f]{16})?")


class FileObject:
    """A file that is served in pieces, as it was when it was opened. `read` may be called from any thread.

    Every piece is checked before it goes out: whoever changes the file in place makes us silent, not a liar."""

    def __init__(self, handle: int, manifest: Manifest, digest: bytes) -> None:
        self.manifest, self.id = manifest, object_id(manifest)
        self.digest = digest  # SHA-256 of the whole
        self._handle = handle
        weakref.finalize(self, os.close, handle)  # when the last reader has gone

    @classmethod
    def open(cls, path: Path, most_bytes: int = OBJECT_MAX_BYTES) -> FileObject:
        """Blocking: reads all of it. Errors: `E-FILE`."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            raise files.file_fault(path, error) from None
        try:
            size = os.fstat(handle).st_size
            if not 0 < size <= most_bytes:
                raise fault("E-FILE", f"{path}: {size} bytes are no object; at most {most_bytes}")
            whole, hashes = hashlib.sha256(), []
            for start in range(0, size, PIECE_BYTES):
                data = os.pread(handle, min(PIECE_BYTES, size - start), start)
                whole.update(data)
                hashes.append(hashlib.sha256(data).digest())
            manifest, digest = manifest_of(size, hashes), whole.digest()
        except OSError as error:
            os.close(handle)
            raise files.file_fault(path, error) from None
        except BaseException:
            os.close(handle)
            raise
        return cls(handle, manifest, digest)

    def read(self, first: int, count: int) -> list[bytes]:
        """These pieces. Errors: `E-NOT-HELD` if the file is not what it was, or the disk does not give it."""
        found = []
        for index in range(first, first + count):
            try:
                data = os.pread(self._handle, piece_bytes(self.manifest, index), index * PIECE_BYTES)
            except OSError:
                data = b""
            if hashlib.sha256(data).digest() != self.manifest.pieces[index]:
                raise fault("E-NOT-HELD", "the object has changed meanwhile")
            found.append(data)
        return found


class PieceStore:
    """One folder, used by one process. `room_bytes`: of all objects in it. Every method blocks; one thread at a time for each object."""

    def __init__(self, folder: Path, *, room_bytes: int) -> None:
        """Errors: `E-FILE`, `E-DISK-FULL`."""
        self._folder, self._room_bytes = folder, room_bytes
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise files.file_fault(folder, error) from None
        self._open: dict[bytes, tuple[int, Manifest]] = {}
        self.clean()

    def clean(self, *, keep: frozenset[bytes] | None = None) -> None:
        """Take away files that were being written when a process ended, and, unless `keep` is None, all objects but those and those that
        are coming. Errors: `E-FILE`."""
        try:
            for path in self._folder.iterdir():
                ours = _OURS.fullmatch(path.name)
                if not ours or (name := bytes.fromhex(ours[1])) in self._open:
                    continue
                if ours[3] or (keep is not None and name not in keep):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise files.file_fault(self._folder, error) from None

    def _path(self, name: bytes, kind: str) -> Path:
        return self._folder / f"{name.hex()}{kind}"

    # --- while it comes

    def manifest(self, name: bytes) -> Manifest | None:
        """The manifest that an earlier attempt has left, if it is whole."""
        try:
            return checked_manifest(files.read(self._path(name, _MANIFEST), MANIFEST_MAX_BYTES, private=False), name)
        except QuStreamError:
            return None

    def begin(self, name: bytes, manifest: Manifest) -> frozenset[int]:
        """Make room for an object and say which of its pieces are here and good. Errors: `E-DISK-FULL`, `E-FILE`."""
        assert name not in self._open, "an object comes once at a time"
        self._open[name] = (-1, manifest)  # nobody takes its files away from now on
        try:
            return self._begin(name, manifest)
        except OSError as error:
            self._open.pop(name, None)
            raise files.file_fault(self._folder, error) from None
        except BaseException:
            self._open.pop(name, None)
            raise

    def _begin(self, name: bytes, manifest: Manifest) -> frozenset[int]:
        self._make_room(name, manifest.size)
        files.replace(self._path(name, _MANIFEST), encode(manifest))
        part = self._path(name, _PART)
        try:
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, files.PRIVATE_MODE)
        except OSError as error:
            raise files.file_fault(part, error) from None
        try:
            here = range(-(-os.fstat(handle).st_size // PIECE_BYTES))
            os.ftruncate(handle, manifest.size)
            good = frozenset(index for index in here if index < len(manifest.pieces) and _is_good(handle, manifest, index))
        except OSError as error:
            os.close(handle)
            raise files.file_fault(part, error) from None
        self._open[name] = (handle, manifest)
        return good

    def write(self, name: bytes, index: int, data: bytes) -> None:
        """A piece that has been checked. Errors: `E-DISK-FULL`, `E-FILE`."""
        handle, _ = self._open[name]
        view, at = memoryview(data), index * PIECE_BYTES
        try:
            while view:
                written = os.pwrite(handle, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            raise files.file_fault(self._path(name, _PART), error) from None

    def finish(self, name: bytes) -> Path:
        """All pieces are written: make it an object, durably. Errors: `E-DATA-CORRUPT`, `E-DISK-FULL`, `E-FILE`."""
        handle, manifest = self._open.pop(name)
        part, whole = self._path(name, _PART), self._path(name, _OBJECT)
        try:
            os.fsync(handle)
            if not all(_is_good(handle, manifest, index) for index in range(len(manifest.pieces))):
                raise fault("E-DATA-CORRUPT", f"{part} does not hold what was written to it")
            os.rename(part, whole)
            self._path(name, _MANIFEST).unlink(missing_ok=True)
            files.sync_directory(self._folder)
        except OSError as error:
            raise files.file_fault(part, error) from None
        finally:
            os.close(handle)
        return whole

    def leave(self, name: bytes) -> None:
        """Nobody writes to it now; it stays for the next attempt. Harmless when repeated."""
        handle, _ = self._open.pop(name, (-1, None))
        if handle >= 0:
            os.close(handle)

    def drop(self, name: bytes) -> None:
        """Take it away, whole or not. Harmless when repeated."""
        self.leave(name)
        for kind in (_PART, _MANIFEST, _OBJECT):
            with suppress(OSError):
                self._path(name, kind).unlink()

    # --- room

    def used_bytes(self) -> int:
        """What all objects take that came or are coming: their sizes, written or not."""
        return sum(size for _, _, size in self._others(b""))

    def _others(self, name: bytes) -> list[tuple[float, bytes, int]]:
        """When it was last written to, id and size of every object but this, the oldest first."""
        found = []
        for path in self._folder.iterdir():
            ours = _OURS.fullmatch(path.name)
            if ours and ours[2] != "manifest" and bytes.fromhex(ours[1]) != name:
                with suppress(FileNotFoundError):
                    state = path.stat()
                    found.append((state.st_mtime, bytes.fromhex(ours[1]), state.st_size))
        return sorted(found)

    def _make_room(self, name: bytes, size: int) -> None:
        others = self._others(name)
        taken = sum(other_size for _, _, other_size in others)
        for _, other, other_size in others:
            if taken + size <= self._room_bytes:
                break
            if other not in self._open:
                self.drop(other)
                taken -= other_size
        if taken + size > self._room_bytes:
            raise fault(
                "E-DISK-FULL", f"{self._folder}: no room for an object of {size >> 20} MiB; {self._room_bytes >> 20} MiB are for all"
            )
        state = os.statvfs(self._folder)
        if state.f_bavail * state.f_frsize < size + self._to_come(name) + SPARE_BYTES:
            raise fault("E-DISK-FULL", f"{self._folder}: no room for an object of {size >> 20} MiB")

    def _to_come(self, name: bytes) -> int:
        """What the others that are coming will take and do not yet."""
        left = 0
        for other, (_, manifest) in list(self._open.items()):
            written = 0
            with suppress(FileNotFoundError):
                written = self._path(other, _PART).stat().st_blocks * BLOCK_BYTES
            left += max(0, manifest.size - written) if other != name else 0
        return left


def _is_good(handle: int, manifest: Manifest, index: int) -> bool:
    data = os.pread(handle, piece_bytes(manifest, index), index * PIECE_BYTES)
    return hashlib.sha256(data).digest() == manifest.pieces[index]
