"""Which other processes have a device open. Only the kernel knows, and only root is told of processes of others."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["openers"]

COMMAND_MAX_CHARS = 60  # enough to know a program by
SHOWN_MAX = 3  # who finds more processes than that on a device looks with other means


def openers(path: Path, processes: Path = Path("/proc")) -> str:
    """Other processes that have the file at `path` open, such as "process 712 (rngd -f)"; "" where none is known of, and for
    anything but a character device: a FIFO has a writer.

    A lock does not show a reader that does not lock, as rngd and `dd` do not. Compared by name, so that nothing is opened or waited for.
    """
    wanted = str(path.resolve())
    try:
        if not stat.S_ISCHR(path.stat().st_mode):
            return ""
        pids = sorted(int(name) for name in os.listdir(processes) if name.isdecimal())
    except OSError:  # it is not there, or there is no /proc
        return ""
    found = [pid for pid in pids if pid != os.getpid() and _has_open(processes / str(pid) / "fd", wanted)]
    names = [f"process {pid}{_command(processes / str(pid) / 'cmdline')}" for pid in found[:SHOWN_MAX]]
    return ", ".join([*names, *(["others"] if len(found) > SHOWN_MAX else [])])


def _has_open(folder: Path, wanted: str) -> bool:
    try:
        return any(os.readlink(entry) == wanted for entry in folder.iterdir())
    except OSError:  # it has ended meanwhile, or is another user's
        return False


def _command(file: Path) -> str:
    """What the process was started as, in parentheses; another program's words are made harmless."""
    try:
        words = file.read_bytes()[: 4 * COMMAND_MAX_CHARS].decode("utf-8", "replace").replace("\0", " ").strip()
    except OSError:
        return ""
    text = "".join(char if char.isprintable() else "\ufffd" for char in words)[:COMMAND_MAX_CHARS]
    return f" ({text})" if text else ""
