"""Prometheus' and Alertmanager's programs, of `scripts/debian` or of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["program"]

UNPACKED = Path(__file__).resolve().parents[2] / ".debian" / "usr" / "bin"


def program(name: str) -> Path | None:
    """Where `promtool`, `prometheus`, `amtool` or `alertmanager` is; None if it is not here. Debian calls the last one differently."""
    for each in (name, f"prometheus-{name}"):
        if found := shutil.which(each, path=UNPACKED) or shutil.which(each):
            return Path(found)
    return None
