"""A QRNG server: `proto/spec/entropy-feed.md`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The command `qrngd`, or one line that says how to install what it needs beside the library."""
    try:
        from qrngd.cli import main as command
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in ("qrngd", "qustream"):
            raise
        sys.stderr.write(
            f"qrngd: the daemon's packages are not installed ({missing.name} is missing). Remedy: pip install 'qustream[node]'.\n"
        )
        sys.exit(78)
    command()
