"""The slot file: one 32-byte seal key a held block, overwritten in place to erase it (`proto/spec/delivery.md` §5 and §6).

64 bytes of header, then the slots. Its blocks are allocated and written at creation, so overwriting needs no space and changes no
metadata. It is never part of a backup: `generation` ties it to the database it was made with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from qustream.errors import fault
from qustream.identity.files import sync_directory

__all__ = ["EMPTY", "GENERATION_BYTES", "SLOT_BYTES", "SlotFile"]

SLOT_BYTES = 32  # a 256-bit key; a divisor of every sector size, so that no slot crosses one
HEADER_BYTES = 64  # magic, generation, zeros; slots stay at multiples of 32
GENERATION_BYTES = 32  # a random name no two files share
MAGIC = b"qnode-slots-v1\n"
# An erased slot. No key is ever all zeros but once in 2^256.
EMPTY = bytes(SLOT_BYTES)


class SlotFile:
    """An open slot file. `write` reaches the disk with `sync`, never before."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle
        header = os.pread(handle, HEADER_BYTES, 0)
        if len(header) != HEADER_BYTES or not header.startswith(MAGIC):
            raise fault("E-DATA-CORRUPT", f"{path} is not a slot file")
        self.generation = header[len(MAGIC) : len(MAGIC) + GENERATION_BYTES]
        self.count = (os.fstat(handle).st_size - HEADER_BYTES) // SLOT_BYTES

    @classmethod
    def open(cls, path: Path) -> SlotFile:
        """Open an existing file. `FileNotFoundError` if there is none; `E-DATA-CORRUPT` if it is something else."""
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return cls(path, handle)
        except BaseException:
            os.close(handle)
            raise

    @classmethod
    def create(cls, path: Path, count: int) -> SlotFile:
        """Make a file of `count` empty slots, whole and on the disk, in place of any other. Errors: `OSError`."""
        temporary = path.with_name(f".{path.name}.new")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            header = (MAGIC + os.urandom(GENERATION_BYTES)).ljust(HEADER_BYTES, b"\0")
            _write_all(handle, header + bytes(count * SLOT_BYTES), 0)
            os.fsync(handle)
            os.rename(temporary, path)
            sync_directory(path.parent)
            return cls(path, handle)
        except BaseException:
            os.close(handle)
            raise

    def grow(self, count: int) -> None:
        """Have at least `count` slots. The file never shrinks. Errors: `OSError`."""
        if count > self.count:
            _write_all(self._handle, bytes((count - self.count) * SLOT_BYTES), HEADER_BYTES + self.count * SLOT_BYTES)
            os.fsync(self._handle)
            self.count = count

    def read(self, slot: int) -> bytes:
        """The 32 bytes of `slot`; `EMPTY` if it is erased or there is no such slot."""
        return os.pread(self._handle, SLOT_BYTES, HEADER_BYTES + slot * SLOT_BYTES).ljust(SLOT_BYTES, b"\0")

    def used(self) -> set[int]:
        """The slots that are not empty."""
        data = os.pread(self._handle, self.count * SLOT_BYTES, HEADER_BYTES)
        return {slot for slot in range(self.count) if data[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES] != EMPTY}

    def write(self, keys: Mapping[int, bytes]) -> None:
        """Overwrite slots and wait until the disk has them. Errors: `OSError`."""
        if not keys:
            return
        for slot, key in keys.items():
            _write_all(self._handle, key, HEADER_BYTES + slot * SLOT_BYTES)
        os.fdatasync(self._handle)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)

    def __repr__(self) -> str:
        return f"<SlotFile {self._path} of {self.count}>"


def _write_all(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written
