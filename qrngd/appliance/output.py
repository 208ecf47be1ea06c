"""The FIFO through which qrngd gets the bytes: made for one group to read, never a file, and full when nobody reads.

Its room is the only demand there is: the kernel keeps 64 KiB, and nothing is asked of the appliance while that is full. Without a process
that reads it, it is not even opened.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path

from qustream.errors import fault

__all__ = ["FIFO_MODE", "OutputFifo"]

FIFO_MODE = 0o640  # the group is qrngd's, which reads; nobody else
_OTHERS = 0o137  # what no FIFO of ours may grant


class OutputFifo:
    """The writing end. Not for two threads at once."""

    def __init__(self, path: Path) -> None:
        """Make the FIFO if nothing is there. Raises E-CONFIG for anything else at `path`, E-FILE."""
        self.path = path
        self._fd = -1
        self._make()

    def _make(self) -> None:
        before = os.umask(0o777 & ~FIFO_MODE)
        try:
            os.mkfifo(self.path, FIFO_MODE)
        except FileExistsError:
            pass  # checked below, like one that was just made
        except OSError as error:
            raise fault("E-FILE", f"{self.path}: {error.strerror}") from None
        finally:
            os.umask(before)
        try:
            self._check(os.lstat(self.path))
        except OSError as error:
            raise fault("E-FILE", f"{self.path}: {error.strerror}") from None

    @property
    def has_reader(self) -> bool:
        """Whether somebody had it open for reading when we looked last."""
        return self._fd >= 0

    def open(self) -> bool:
        """Open it if somebody reads it; whether it is open. Raises E-CONFIG, E-FILE."""
        if self._fd >= 0:
            return True
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return False
            if error.errno == errno.ENOENT:  # somebody tidied up
                self._make()
                return False
            raise fault("E-FILE", f"{self.path}: {error.strerror}") from None
        try:
            self._check(os.fstat(handle))
        except BaseException:
            os.close(handle)
            raise
        self._fd = handle
        return True

    def has_room(self, timeout_s: float) -> bool:
        """Wait at most so long until something can be written; False also when the reader has left."""
        assert self._fd >= 0, "the FIFO is not open"
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        events = poll.poll(timeout_s * 1000)
        if events and events[0][1] & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            self.close()
            return False
        return bool(events)

    def write(self, data: memoryview) -> int:
        """Write what there is room for now; the bytes written. 0 also when the reader has left: see `has_reader`."""
        assert self._fd >= 0, "the FIFO is not open"
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            self.close()
            return 0
        except OSError as error:
            self.close()
            raise fault("E-FILE", f"{self.path}: {error.strerror}") from None

    def close(self) -> None:
        """Let go; the reader then sees the end."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISFIFO(status.st_mode):
            raise fault("E-CONFIG", f"output: {self.path} is not a FIFO; raw bytes go through a FIFO and never onto a disk")
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS:
            mode = stat.S_IMODE(status.st_mode)
            raise fault(
                "E-CONFIG", f"output: {self.path} must be ours with mode {FIFO_MODE:04o} at most; it is user {status.st_uid}'s, {mode:04o}"
            )
