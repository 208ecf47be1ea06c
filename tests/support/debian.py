"""Prometheus' and Alertmanager's programs, and `nft` and `tc`, of `scripts/debian` or of this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["HOME", "environment", "program"]

# Where the programs that `scripts/debian` unpacked are to run: Alertmanager reads a template below it.
HOME = Path(__file__).resolve().parents[2] / ".debian"


_FOLDERS = ("usr/bin", "usr/sbin", "sbin")


def program(name: str) -> Path | None:
    """Where `promtool`, `prometheus`, `amtool`, `alertmanager`, `nft` or `tc` is; None if it is not here. Debian calls one differently."""
    ours = os.pathsep.join(str(HOME / each) for each in _FOLDERS)
    system = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    for each in (name, f"prometheus-{name}"):
        if found := shutil.which(each, path=ours) or shutil.which(each, path=system):
            return Path(found)
    return None


def environment(found: Path) -> dict[str, str]:
    """What this program runs with: the libraries it was unpacked with, if it was."""
    if HOME not in found.parents:
        return dict(os.environ)
    folders = [*HOME.glob("usr/lib/*-linux-gnu*"), *HOME.glob("lib/*-linux-gnu*")]
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(str(each) for each in folders)}
