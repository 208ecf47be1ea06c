"""Prometheus' and Alertmanager's programs, of `scripts/debian` or of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["HOME", "program"]

# Where the programs that `scripts/debian` unpacked are to run: Alertmanager reads a template below it.
HOME = Path(__file__).resolve().parents[2] / ".debian"


def program(name: str) -> Path | None:
    """Where `promtool`, `prometheus`, `amtool` or `alertmanager` is; None if it is not here. Debian calls the last one differently."""
    for each in (name, f"prometheus-{name}"):
        if found := shutil.which(each, path=HOME / "usr" / "bin") or shutil.which(each):
            return Path(found)
    return None
