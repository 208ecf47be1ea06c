"""Whether a data directory remembers what its node has spent (`proto/spec/delivery.md` §5).

A node that starts on an empty directory would believe that nothing was ever spent. So only a directory that `qnode init` made may be
without a store, and only until the first start; any other has lost its history, and `qnode restore` takes it over at its price.
"""

from __future__ import annotations

from pathlib import Path

from qustream.errors import fault
from qustream.identity import files

__all__ = ["FIRST_START", "allow_first_start", "first_start_done", "require_history"]

FIRST_START = "first-start"
STORE = "data.mdb"


def allow_first_start(data_dir: Path) -> None:
    """Say that a new node's directory is empty by right. Errors: `E-FILE`, `E-DISK-FULL`."""
    files.replace(data_dir / FIRST_START, b"made by qnode init; the first start removes it\n")


def require_history(data_dir: Path) -> None:
    """Errors: `E-DATA-CORRUPT` for a directory without a store that is not a new node's; `E-FILE` if there is no directory."""
    if not data_dir.is_dir():
        raise fault("E-FILE", f"{data_dir} is not there")
    if not (data_dir / STORE).exists() and not (data_dir / FIRST_START).exists():
        raise fault(
            "E-DATA-CORRUPT",
            f"{data_dir} is empty: what this node has spent is not known; qnode restore takes it over, init makes a new node",
        )


def first_start_done(data_dir: Path) -> None:
    """There is a store from now on."""
    (data_dir / FIRST_START).unlink(missing_ok=True)
