"""What a QRNG device is to the rest of the daemon (`proto/spec/entropy-feed.md`, "Devices").

    descriptor = device.open()             # again after every error, with the delays of `reopen_delay_ms`
    while True:
        size = device.readinto(buffer)     # never blocks
        if not size:                       # nothing there now: wait
            await wait_readable(device)  if device.pollable else  sleep(device.retry_after_ms)
        ...
    device.close()

A device that raises has closed itself. Nothing here falls back to another source: what cannot be read is not read.
"""

from __future__ import annotations

import time
from typing import Protocol, TypeAlias

from qustream.model.entropy import DeviceDescriptor

__all__ = ["SILENCE_LIMIT_MS", "Device", "DeviceFlags", "monotonic_ms", "reopen_delay_ms"]

# Status bits a device reports of itself: (name, whether it is set), always the same names in the same order for one driver.
DeviceFlags: TypeAlias = tuple[tuple[str, bool], ...]

# Back-off between attempts to open: soon enough for a cable that was put back, rare enough to leave a dead bus alone.
REOPEN_FIRST_MS = 500
REOPEN_MAX_MS = 30_000
# An open device that gives no byte for this long is treated as lost (E-DEV-READ): the slowest devices we know give kilobytes a
# second, so ten seconds of silence are a fault and not patience.
SILENCE_LIMIT_MS = 10_000


def reopen_delay_ms(attempt: int) -> int:
    """How long to wait before opening again, after `attempt` attempts that failed (0: the device was just lost)."""
    return min(REOPEN_MAX_MS, REOPEN_FIRST_MS << min(attempt, 16))


def monotonic_ms() -> int:
    """The clock of a driver that asks its device again now and then."""
    return time.monotonic_ns() // 1_000_000


class Device(Protocol):
    """One source of raw bytes. Not for two threads at once. A driver is made from its path and the descriptor that is expected: what the
    device does not say of itself is stated as that has it."""

    @property
    def pollable(self) -> bool:
        """Whether `fileno()` can be waited on. Many devices (and files) cannot: then `retry_after_ms` says when to try again."""

    @property
    def retry_after_ms(self) -> int:
        """How long to sleep after a read that gave nothing, when the device is not pollable."""

    @property
    def flags(self) -> DeviceFlags:
        """What the device last said of itself; () for a device that says nothing."""

    def open(self) -> DeviceDescriptor:
        """Open for this process alone and say what answered. May take a second where a device has to be asked.

        Raises E-DEV-ABSENT (not there, or not permitted), E-DEV-LOCKED (another process holds it), E-DEV-READ, E-DEV-IDENTITY (another
        device answers than the configured one), E-DEV-STATUS (it reports a fault of its own), E-DEV-CERTIFICATE, E-CONFIG.
        """

    def readinto(self, buffer: memoryview) -> int:
        """Read up to `len(buffer)` bytes; 0: nothing there now. Short reads are ordinary; a sample may be cut by them.

        Raises E-DEV-ABSENT when the device is gone or has come to its end, E-DEV-READ when it fails, E-DEV-STATUS when it says so itself.
        """

    def read(self, size: int) -> bytes:
        """As `readinto`, into new memory."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def fileno(self) -> int:
        """The open descriptor."""

    def close(self) -> None:
        """Let go; does nothing when it is closed."""
