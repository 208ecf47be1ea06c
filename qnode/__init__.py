"""A QuStream node: `proto/spec/node.md`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The command `qnode`, or one line that says how to install what it needs beside the library."""
    try:
        from qnode.cli import main as command

        command()  # which loads what it needs itself
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in ("qnode", "qustream"):
            raise
        sys.stderr.write(
            f"qnode: the daemon's packages are not installed ({missing.name} is missing). Remedy: pip install 'qustream[node]'.\n"
        )
        sys.exit(78)
