"""Failures that stay: a device that failed for good stays failed, whatever is restarted, until the operator clears it.

    latches/NAME    JSON: code, reason, at_ms; there while the failure is latched
    incidents       JSON lines: every latched failure and every clearing, with its reason: the log an auditor reads

Both are on disk, fsynced, before anybody is told. A latch that cannot be read counts as one: only the operator removes a latch.
"""

from __future__ import annotations

import json
from pathlib import Path

from qustream.errors import QuStreamError
from qustream.identity import files

__all__ = ["Latches"]

# A reason has 256 characters; what is longer is not our file.
LATCH_MAX_BYTES = 4096
# Ten years of an incident a day; the oldest go first.
INCIDENTS_MAX_BYTES = 1 << 20


class Latches:
    """The latches below a data directory that this process has locked."""

    def __init__(self, data_dir: Path) -> None:
        self._folder, self._incidents = data_dir / "latches", data_dir / "incidents"

    def read(self, device: str) -> tuple[str, str] | None:
        """Code and reason of the latched failure of `device`, None if there is none."""
        path = self._folder / device
        try:
            data = files.read(path, LATCH_MAX_BYTES, private=True)
        except QuStreamError as error:
            if not path.exists():
                return None
            return "E-DEV-LATCHED", f"a failure is latched, and its record cannot be read: {error.detail}"[:256]
        try:
            record = json.loads(data)
            return "E-DEV-LATCHED", str(record["reason"])[:256]
        except (ValueError, TypeError, KeyError, RecursionError):
            return "E-DEV-LATCHED", "a failure is latched, and its record is damaged"

    def latch(self, device: str, reason: str, at_ms: int) -> None:
        """Record a failure. Raises E-DISK-FULL, E-FILE."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise files.file_fault(self._folder, error) from None
        record = {"device": device, "at_ms": at_ms, "code": "E-DEV-LATCHED", "reason": reason[:256]}
        files.replace(self._folder / device, json.dumps(record).encode() + b"\n")
        self._note(record | {"event": "latched"})

    def clear(self, device: str, reason: str, at_ms: int) -> None:
        """Record that the operator has examined the device, and why it may be used again. Raises E-DISK-FULL, E-FILE."""
        self._note({"device": device, "at_ms": at_ms, "event": "cleared", "reason": reason[:256]})
        try:
            (self._folder / device).unlink(missing_ok=True)
            if self._folder.exists():
                files.sync_directory(self._folder)
        except OSError as error:
            raise files.file_fault(self._folder / device, error) from None

    def _note(self, record: dict[str, object]) -> None:
        old = files.read(self._incidents, 2 * INCIDENTS_MAX_BYTES, private=True) if self._incidents.exists() else b""
        lines = (old + json.dumps(record).encode() + b"\n").splitlines(keepends=True)
        while sum(map(len, lines)) > INCIDENTS_MAX_BYTES:
            del lines[: 1 + len(lines) // 10]
        files.replace(self._incidents, b"".join(lines))
