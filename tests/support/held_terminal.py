"""A character device that needs no hardware and no permission, and processes that have it open."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["held", "terminal"]

HOLD = "import sys; line = open(sys.argv[1], 'rb', 0); print(flush=True); sys.stdin.read()"


@contextlib.contextmanager
def terminal() -> Iterator[Path]:
    """A character device that anybody may make; nothing comes from it."""
    ours, theirs = os.openpty()
    try:
        yield Path(os.ttyname(theirs))
    finally:
        os.close(ours)
        os.close(theirs)


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Another process that has `path` open, and locks nothing."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()
