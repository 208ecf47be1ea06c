"""An emulated device on a pseudo-terminal: the path it is found at stays the same, whoever opens, closes, or is killed.

The device is this program at the master's side. Pulling the plug is closing the master: whoever has the line open meets what the kernel
tells of an adapter that is gone, and the path is gone too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import select
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from qrngd.emulation.pace import Pace
from qustream.errors import QuStreamError, fault

__all__ = ["LineDevice", "RawStick", "VanishingSource", "serve_pty"]

# How long it may take to see that it is to end, or that somebody has opened the line.
LOOK_INTERVAL_MS = 10
# How often it looks, while nobody has the line open, whether it could be opened. Shorter than the first pause before a device is
# opened again.
RENEW_INTERVAL_S = 0.2
CHUNK_BYTES = 4096  # what a line holds


class LineDevice(Protocol):
    """What a device does with its line."""

    def receive(self, data: bytes) -> None:
        """What the host sent."""

    def output(self, most: int) -> bytes:
        """Up to `most` bytes it has to say now. Raises E-DEV-ABSENT when it vanishes."""


class VanishingSource(Protocol):
    """Where the device's bytes come from, which may vanish."""

    def return_after_vanishing(self, stop: Callable[[], bool]) -> None:
        """Wait until it is back, or `stop()`."""


class RawStick:
    """A stick that streams while its line is open and listens to nobody."""

    def __init__(self, draw: Callable[[int], bytes]) -> None:
        self.output = draw

    def receive(self, data: bytes) -> None:
        """Is not listened to."""


class _Pseudo:
    """One pseudo-terminal, to be found at `link`."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self.master, slave = pty.openpty()
        self._name = os.ttyname(slave)
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        self._poll = select.poll()
        os.close(slave)  # from now on the master sees whether anybody has it open
        beside = link.with_name(f".{link.name}.{os.getpid()}")
        try:
            if link.exists() and not link.is_symlink():
                raise fault("E-FILE", f"{link} is there and no link to a serial line")
            os.symlink(self._name, beside)
            os.replace(beside, link)
        except OSError as error:
            os.close(self.master)
            raise fault("E-FILE", f"{link}: {error.strerror}") from None

    def poll(self, events: int, timeout_ms: int) -> int:
        """What has happened at the master; POLLHUP while nobody has the line open."""
        self._poll.register(self.master, events)
        return dict(self._poll.poll(timeout_ms)).get(self.master, 0)

    def is_locked(self) -> bool:
        """Whether nobody has it open and nobody can: the last one was killed while he held it alone (TIOCEXCL). A real adapter forgets
        that when it is closed, a pseudo-terminal does not."""
        try:
            os.close(os.open(self._name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
        except OSError as error:
            return error.errno == errno.EBUSY and bool(self.poll(0, 0) & select.POLLHUP)
        return False

    def close(self, *, unlink: bool) -> None:
        """`unlink`: the path goes, too, unless it leads elsewhere by now."""
        if self.master < 0:
            return
        if unlink:
            with contextlib.suppress(OSError):
                if os.readlink(self._link) == self._name:
                    self._link.unlink()
        os.close(self.master)
        self.master = -1


def serve_pty(
    link: Path, device: LineDevice, source: VanishingSource, pace: Pace, *, stop: Callable[[], bool], ready: Callable[[], None]
) -> None:
    """Until `stop()` says so. `ready` is called when the line is first there. Raises E-FILE when `link` cannot be made."""
    line = _Pseudo(link)
    ready()
    try:
        while not stop():
            try:
                _serve(line, device, pace, stop)
                if not stop():
                    old, line = line, _Pseudo(link)
                    old.close(unlink=False)
            except QuStreamError as error:
                if error.code != "E-DEV-ABSENT":
                    raise
                line.close(unlink=True)
                source.return_after_vanishing(stop)
                line = _Pseudo(link)
    finally:
        line.close(unlink=True)


def _serve(line: _Pseudo, device: LineDevice, pace: Pace, stop: Callable[[], bool]) -> None:
    """Until it is to end, or the line cannot be opened any more."""
    rest = b""
    talking, looked_s = False, time.monotonic()
    while not stop():
        events = select.POLLIN | (select.POLLOUT if rest else 0)
        happened = line.poll(events, 0 if talking and not rest else LOOK_INTERVAL_MS)
        if happened & select.POLLHUP:
            rest = b""
            if time.monotonic() - looked_s > RENEW_INTERVAL_S:
                if line.is_locked():
                    return
                looked_s = time.monotonic()
            time.sleep(LOOK_INTERVAL_MS / 1000)
            continue
        with contextlib.suppress(OSError):  # closed this very moment
            if happened & select.POLLIN:
                device.receive(os.read(line.master, CHUNK_BYTES))
            rest = rest or device.output(pace.allowed(CHUNK_BYTES))
            talking = bool(rest)
            if rest:
                size = os.write(line.master, rest)
                pace.spend(size)
                rest = rest[size:]
