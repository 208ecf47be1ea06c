"""Writing small files so that a crash leaves the old one or the new one, never a torn one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from qustream.errors import QuStreamError, fault

__all__ = ["check_replaceable", "create", "give_to_owner", "hold", "locked", "make_directory", "read", "replace", "sync_directory"]

PRIVATE_MODE = 0o600
HOLD_POLL_S = 0.05  # between two looks whether a lock is free: nobody waits long for it
OTHERS = stat.S_IRWXG | stat.S_IRWXO
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def file_fault(path: Path, error: OSError) -> QuStreamError:
    """The coded form of an operating system's refusal: `E-DISK-FULL` or `E-FILE`."""
    code = "E-DISK-FULL" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "E-FILE"
    return fault(code, f"{path}: {os.strerror(error.errno or errno.EIO)}")


def sync_directory(directory: Path) -> None:
    """Make a rename or a new name in `directory` outlive a power failure."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def give_to_owner(handle: int, directory: Path) -> None:
    """What root has just made in a directory that is somebody else's becomes his: a daemon must be able to read what a command put there.

    By its descriptor, so that no link leads to another file. Not where others may write too, such as /tmp or a group's directory: there
    the directory's owner is not the one for whom the file was made. Errors: `OSError`."""
    if os.geteuid() != 0:
        return
    owner = os.stat(directory)
    if owner.st_uid and not owner.st_mode & WRITABLE_BY_OTHERS:
        os.fchown(handle, owner.st_uid, owner.st_gid)


def make_directory(path: Path) -> None:
    """A directory for its owner alone, in one that is there; what root makes is given away as its files are. Errors: `OSError`."""
    path.mkdir(mode=0o700)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        give_to_owner(handle, path.parent)
    finally:
        os.close(handle)
    sync_directory(path.parent)


@contextlib.contextmanager
def _written(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """`data` on the disk under a name beside `path`, gone again at the end unless it was renamed."""
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(handle, "wb") as file:
            give_to_owner(handle, path.parent)  # before it has its name: a daemon that looks meanwhile finds the old one or its own
            file.write(data)
            file.flush()
            os.fsync(handle)
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def check_replaceable(path: Path) -> None:
    """A rename takes away what is at `path`: only a file may go so, never a device, a pipe, a socket or a directory. Errors: `E-FILE`."""
    try:
        ordinary = stat.S_ISREG(os.stat(path).st_mode)
        if path.is_symlink():  # such as /dev/stdout
            ordinary = ordinary and not os.readlink(path).startswith("/proc/")
    except FileNotFoundError:
        return
    if not ordinary:
        raise fault("E-FILE", f"{path}: not an ordinary file, so it is not replaced")


def replace(path: Path, data: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """Put `data` in place of the file at `path`, if there is one, durably. Errors: `E-FILE`, `E-DISK-FULL`."""
    try:
        check_replaceable(path)
        with _written(path, data, mode) as temporary:
            os.rename(temporary, path)
            sync_directory(path.parent)
    except OSError as error:
        raise file_fault(path, error) from None


def create(path: Path, data: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """Put `data` at `path`, durably and whole. `FileExistsError` if something is there; other errors: `E-FILE`, `E-DISK-FULL`."""
    try:
        with _written(path, data, mode) as temporary:
            os.link(temporary, path)  # a rename would overwrite
            sync_directory(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise file_fault(path, error) from None


def read(path: Path, max_bytes: int, *, private: bool) -> bytes:
    """The bytes of a regular file of at most `max_bytes`.

    Errors: `E-FILE`; `E-KEYSTORE-MODE` if it is `private` and anybody but its owner may read or write it.
    """
    try:
        # Non-blocking, so that a FIFO put in a file's place cannot stop us.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise fault("E-FILE", f"{path}: not a regular file")
            if private and status.st_mode & OTHERS:
                raise fault("E-KEYSTORE-MODE", f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, 0600 is needed")
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise file_fault(path, error) from None
    if len(data) > max_bytes:
        raise fault("E-FILE", f"{path}: larger than {max_bytes} bytes")
    return data


def _lock_file(path: Path, flags: int) -> int:
    """Only a file that was made here changes its owner. Errors: `OSError`."""
    try:
        handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    except FileExistsError:
        return os.open(path, flags | os.O_CREAT, PRIVATE_MODE)
    try:
        give_to_owner(handle, path.parent)
    except OSError:
        os.close(handle)
        raise
    return handle


def hold(path: Path, *, patience_s: float = 0.0) -> int:
    """Lock the file `path` (made if need be) against other processes, until the descriptor returned is closed or this process ends.

    Blocking, for at most `patience_s` if somebody has it. Errors: `E-DATA-LOCKED`, `E-FILE`, `E-DISK-FULL`.
    """
    try:
        handle = _lock_file(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise file_fault(path, error) from None
    until_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() >= until_s:
                os.close(handle)
                raise fault("E-DATA-LOCKED", f"{path.parent} is in use by another process") from None
        except OSError as error:
            os.close(handle)
            raise file_fault(path, error) from None
        time.sleep(HOLD_POLL_S)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of the file `path` (made if need be); waits for other threads and processes. Errors: `E-FILE`."""
    try:
        handle = _lock_file(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise file_fault(path, error) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
