"""A data directory that one process has to itself (`proto/spec/delivery.md` §5)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from qustream.errors import QuStreamError, fault
from qustream.identity import files

__all__ = ["DataDirectory", "is_out_of_space"]

# What systems say when a write finds no room: no space, no quota, a file at its size limit.
OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_out_of_space(error: OSError) -> bool:
    """Whether `error` means that nothing is broken but room is missing."""
    return error.errno in OUT_OF_SPACE


class DataDirectory:
    """The directory, created if missing, for its owner alone, locked until `close`."""

    def __init__(self, path: Path) -> None:
        """Errors: `E-DATA-LOCKED` if another process has it, `E-FILE`, `E-DISK-FULL`."""
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self.fault(error) from None
        self._lock = files.hold(path / "lock")

    def free_bytes(self) -> int:
        """What the file system has left for this user."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    def fault(self, error: OSError) -> QuStreamError:
        """The coded form of an operating system's refusal in this directory."""
        return fault("E-DISK-FULL" if is_out_of_space(error) else "E-FILE", f"{self.path}: {os.strerror(error.errno or errno.EIO)}")

    def close(self) -> None:
        """Release the lock; the system does the same when the process ends in any other way."""
        os.close(self._lock)
