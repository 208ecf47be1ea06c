"""Memory that the daemon and one worker share: a slot for each unit, so that nothing of it is copied between them.

A slot belongs to one side at a time: the daemon gives free ones to the worker by number, the worker hands them back full. The memory
is anonymous (a memfd: no name, no file), is left out of core dumps, and cannot be made smaller under either side's feet.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os

from qustream.model.entropy import UNIT_BYTES

__all__ = ["SLOT_BYTES", "SlotMemory"]

# A unit on pages of its own, so that a slot's memory can be given back to the system.
SLOT_BYTES = -(-UNIT_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE
_libc = ctypes.CDLL(None)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # fallocate(2)
_ZEROS = memoryview(bytes(UNIT_BYTES))


class SlotMemory:
    """`count` slots of one unit each. Pages are taken when they are first written to."""

    def __init__(self, fd: int, count: int) -> None:
        """Map the memory behind `fd`, which this object then owns."""
        self.fd, self.count = fd, count
        self._map = mmap.mmap(fd, count * SLOT_BYTES)
        self._map.madvise(mmap.MADV_DONTDUMP)
        whole = memoryview(self._map)
        self._units = [whole[start : start + UNIT_BYTES] for start in range(0, count * SLOT_BYTES, SLOT_BYTES)]

    @classmethod
    def create(cls, count: int) -> SlotMemory:
        """New memory, all zeros."""
        fd = os.memfd_create("qrngd-units", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, count * SLOT_BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd, count)

    def unit(self, slot: int) -> memoryview:
        """The unit in `slot`, `UNIT_BYTES` writable bytes."""
        return self._units[slot]

    def wipe(self, slot: int) -> None:
        """Overwrite a slot with zeros."""
        self._units[slot][:] = _ZEROS

    def give_back(self, slot: int) -> None:
        """Wipe a slot by returning its pages to the system; it reads as zeros afterwards."""
        # Not madvise(MADV_REMOVE), which refuses memory that is locked.
        if _libc.fallocate(self.fd, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_int64(slot * SLOT_BYTES), ctypes.c_int64(SLOT_BYTES)):
            self.wipe(slot)
