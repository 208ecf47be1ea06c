"""A file descriptor opened for one process, read without blocking, with the daemon's error codes."""

from __future__ import annotations

import errno
import fcntl
import os
import select

from qustream.errors import QuStreamError, fault

__all__ = ["DescriptorFile"]

# Waits between reads of something that cannot be polled: quick after data, doubling while nothing comes, so a slow device costs
# little and a fast one is not held up.
RETRY_FIRST_MS = 1
RETRY_MAX_MS = 32
_ABSENT = {errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ESTALE}


def coded(error: OSError, what: str) -> QuStreamError:
    """The daemon's error for what the system said about `what`."""
    said = f"{what}: {error.strerror or error}"
    if error.errno in _ABSENT:
        return fault("E-DEV-ABSENT", said)
    if error.errno == errno.EBUSY:
        return fault("E-DEV-LOCKED", said)
    return fault("E-DEV-READ", said)


class DescriptorFile:
    """An open, locked, non-blocking descriptor for reading."""

    def __init__(self, path: str, *, lock: bool) -> None:
        """`lock`: hold it alone among all who lock (rngd does not; nothing can stop it). Raises as `Device.open`."""
        self.path = path
        self._empty_reads = 0
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            raise coded(error, path) from None
        try:
            if lock:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise fault("E-DEV-LOCKED", f"{path} is held by another process") from None
        except OSError as error:
            self.close()
            raise coded(error, path) from None
        self.pollable = self._is_pollable()

    def _is_pollable(self) -> bool:
        with select.epoll() as probe:
            try:
                probe.register(self._fd, select.EPOLLIN)
            except PermissionError:  # the kernel's word for "cannot be waited on"
                return False
        return True

    @property
    def retry_after_ms(self) -> int:
        return min(RETRY_MAX_MS, RETRY_FIRST_MS << min(self._empty_reads, 16))

    def fileno(self) -> int:
        return self._fd

    def readinto(self, buffer: memoryview) -> int | None:
        """Bytes read, 0 at the end of the file, None when nothing is there now. Raises E-DEV-ABSENT, E-DEV-READ."""
        try:
            size = os.readv(self._fd, [buffer])
        except BlockingIOError:
            self._empty_reads += 1
            return None
        except OSError as error:
            raise coded(error, self.path) from None
        self._empty_reads = 0 if size else self._empty_reads + 1
        return size

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
