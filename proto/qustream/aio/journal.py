"""Lines for the journal (`sd-daemon(3)`): whether standard error is one, and how a line says its priority. No imports that take time."""

from __future__ import annotations

import os
import sys

__all__ = ["PRIORITIES", "is_journal", "journal_prefix"]

# Priorities of syslog(3), by the names of our levels.
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def is_journal() -> bool:
    """Whether standard error is the journal itself, and not a file or pipe that somebody put in its place (`systemd.exec(5)`)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def journal_prefix(level: str) -> str:
    """What a line of this level begins with: `<3>` for an error that goes to the journal, nothing elsewhere."""
    return f"<{PRIORITIES[level]}>" if is_journal() else ""
