"""Writing a file that is either whole and checked or not there (`proto/spec/envelope.md`, "Opening")."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from qustream.envelope.content import ContentKey
from qustream.envelope.header import Header
from qustream.envelope.stream import Progress, decrypt_stream
from qustream.errors import fault
from qustream.identity.files import check_replaceable, file_fault, sync_directory

__all__ = ["file_in_making", "open_to_path"]

PRIVATE_MODE = 0o600
NAME_CHARACTERS = 32  # of the final name in the hidden one: recognisable, and never too long with what is added
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)  # what file systems without hard links, such as exFAT, answer


@contextlib.contextmanager
def file_in_making(path: Path, *, replace: bool = False) -> Iterator[BinaryIO]:
    """A new file, mode 0600, under a hidden name beside `path`; it takes the name `path`, durably, if the body of the `with` ends well.

    On any failure it is removed. Killed outright, the program leaves the hidden file behind. Errors: `E-FILE-EXISTS` (something is at
    `path` and `replace` is false), `E-FILE` (also: a device, a pipe or a directory is at `path`), `E-DISK-FULL`.
    """
    temporary = path.with_name(f".{path.name[:NAME_CHARACTERS]}.{os.urandom(8).hex()}.part")
    try:
        check_replaceable(path)
        if not replace and os.path.lexists(path):
            raise fault("E-FILE-EXISTS", f"{path}: there is a file already")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_MODE)
        try:
            with open(handle, "wb", buffering=0) as file:
                yield file
                os.fsync(handle)
            _give_name(temporary, path, replace=replace)
            sync_directory(path.parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise fault("E-FILE-EXISTS", f"{path}: there is a file already") from None
        raise file_fault(path, error) from None


def _give_name(temporary: Path, path: Path, *, replace: bool) -> None:
    if not replace:
        try:
            os.link(temporary, path)  # a rename would overwrite what appeared meanwhile
            return
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
    os.rename(temporary, path)


def open_to_path(
    source: BinaryIO, path: Path, header: Header, key: ContentKey, *, replace: bool = False, progress: Progress | None = None
) -> int:
    """Decrypt into `path`, mode 0600, which appears only after the trailer has verified. Returns the bytes of plaintext.

    Errors: those of `decrypt_stream` and of `file_in_making`; after any, nothing is left at or beside `path`.
    """
    with file_in_making(path, replace=replace) as file:
        return decrypt_stream(source, file, header, key, progress=progress)
