"""The data directory: one daemon at a time, and numbers that are never used twice (`proto/spec/entropy-feed.md`, "Sequences").

    lock            held by the running daemon
    identity        keystore of the server's signing key
    run             the number of the current run, in decimal; `qrngd init` writes 0

Each start takes the next run number and has it on disk, fsynced with its directory, before the first unit is made. A run owns
`RUN_NUMBERS` batch numbers and, for every node, as many sequence numbers; so whatever kill -9 interrupts, no number comes again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from qustream.errors import fault
from qustream.identity import files

__all__ = ["IDENTITY_FILE", "RUN_NUMBERS", "DataDirectory"]

IDENTITY_FILE = "identity"
# 2^40 units for one node are 19 years at the full rate of the reference appliance; 2^23 runs are a restart a minute for 15 years.
RUN_NUMBERS = 1 << 40
RUNS_MAX = (1 << 63) // RUN_NUMBERS - 1
# A decimal number below 2^23; more is not our file.
RUN_FILE_MAX_BYTES = 16
# `qrngd clear` on a stopped server holds the lock for some fsyncs; a daemon that starts just then must not give up for good (exit 78).
LOCK_PATIENCE_S = 2.0
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class DataDirectory:
    """The locked directory. A context manager; the lock ends with it or with the process."""

    def __init__(self, path: Path) -> None:
        """Lock `path`, which must exist; waits a moment for whoever is about to let go. Blocking. Raises E-DATA-LOCKED, E-FILE."""
        self.path = path
        try:
            if path.stat().st_mode & OTHERS_WRITE:  # they could move latches and the run number out of the way
                raise fault("E-FILE", f"{path}: others than its owner may write there; chmod 0700")
        except OSError as error:
            raise fault("E-FILE", f"{path}: {error.strerror}; make it with qrngd init") from None
        self._lock = files.hold(path / "lock", patience_s=LOCK_PATIENCE_S)

    @staticmethod
    def create(path: Path) -> None:
        """Make the directory (0700) with run number 0, keeping what is there. Raises E-FILE, E-DISK-FULL."""
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise fault("E-FILE", f"{path}: {error.strerror}") from None
        with contextlib.suppress(FileExistsError):
            files.create(path / "run", b"0\n")

    def next_run(self) -> int:
        """The first number of a new run, on disk before it is returned. Raises E-DATA-CORRUPT, E-DISK-FULL, E-FILE."""
        run = self._last_run() + 1
        if run > RUNS_MAX:
            raise fault("E-DATA-CORRUPT", f"{self.path / 'run'}: no run number is left; make a new identity with qrngd init")
        files.replace(self.path / "run", f"{run}\n".encode())
        return run * RUN_NUMBERS

    def _last_run(self) -> int:
        """Absent is not zero: numbers would repeat after somebody removed the file."""
        file = self.path / "run"
        data = files.read(file, RUN_FILE_MAX_BYTES, private=True)
        text = data.strip()
        if not text.isdigit():
            raise fault("E-DATA-CORRUPT", f"{file} does not hold a run number; numbers could repeat if it were made up")
        return int(text)

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._lock)

    def __enter__(self) -> DataDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
