"""Bytes of a day, counted on the disk before they are asked for, so that no restart and no crash asks for more than the quota.

The state directory holds `lock`, and `quota`: the day (since 1970, UTC) and the bytes that may have been used, in decimal. The number runs
ahead of what was used by at most a 256th of the quota; that is what a crash costs, and what keeps the disk quiet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from qustream.errors import fault
from qustream.identity import files

__all__ = ["DayQuota"]

_DAY_S = 86_400
# Written ahead: at most so much of the quota at once.
AHEAD_FRACTION = 256
# Two numbers of at most twenty digits; more is not our file.
FILE_MAX_BYTES = 64
_FILE = re.compile(r"(\d{1,9}) (\d{1,20})\n")


class DayQuota:
    """`limit_bytes` a day; 0: no limit, and no file. `now_s`: Unix time."""

    def __init__(self, folder: Path | None, limit_bytes: int, now_s: Callable[[], float]) -> None:
        """Raises E-FILE, E-DATA-LOCKED (another reader uses `folder`), E-DATA-CORRUPT, E-DISK-FULL."""
        self.limit_bytes, self.used_bytes = limit_bytes, 0
        self._now_s, self._day, self._written_bytes = now_s, 0, 0
        self._lock = -1
        self._file: Path | None = None
        if folder is not None and limit_bytes:
            self._lock = files.hold(folder / "lock")
            self._file = folder / "quota"
            self._load(self._file)

    def take(self, size: int) -> None:
        """Count `size` bytes as used, on the disk before this returns. Raises E-APPLIANCE-QUOTA, with the time until the next day."""
        if self._file is None:
            self.used_bytes += size
            return
        now_s = self._now_s()
        today = int(now_s) // _DAY_S
        if today > self._day:  # a clock that was set back is still in the day it was in
            self._day, self.used_bytes, self._written_bytes = today, 0, 0
        if self.used_bytes + size > self.limit_bytes:
            left_ms = int(((self._day + 1) * _DAY_S - now_s) * 1000)
            what = f"{self.used_bytes} of the {self.limit_bytes} bytes of quota_bytes_per_day are used; the day ends at 00:00 UTC"
            raise fault("E-APPLIANCE-QUOTA", what, retry_after_ms=max(1000, left_ms))
        if self.used_bytes + size > self._written_bytes:
            self._write(min(self.limit_bytes, self.used_bytes + max(size, self.limit_bytes // AHEAD_FRACTION)))
        self.used_bytes += size

    def give_back(self, size: int) -> None:
        """Of `size` bytes that were taken nothing was delivered."""
        self.used_bytes = max(0, self.used_bytes - size)

    def close(self) -> None:
        """Write what was really used, and let go."""
        if self._file is None:
            return
        try:
            if self._written_bytes != self.used_bytes:
                self._write(self.used_bytes)
        finally:
            self._file = None
            os.close(self._lock)

    def _load(self, file: Path) -> None:
        if not file.exists():
            return
        found = _FILE.fullmatch(files.read(file, FILE_MAX_BYTES, private=True).decode("ascii", "replace"))
        if found is None:
            raise fault("E-DATA-CORRUPT", f"{file} does not hold a day and a number of bytes; remove it if today's quota may begin anew")
        self._day, self.used_bytes = int(found[1]), int(found[2])
        self._written_bytes = self.used_bytes

    def _write(self, used: int) -> None:
        assert self._file is not None
        files.replace(self._file, f"{self._day} {used}\n".encode())
        self._written_bytes = used
