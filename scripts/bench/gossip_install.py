"""The environment of py-libp2p for the bench `gossip`: it has some seventy dependencies, which must not enter ours.

    python scripts/bench/gossip_install.py        make it once; the bench does so too when it is missing

It lies in `.cache/bench/`, which git does not see; delete it to make it anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["NAME", "installed"]

VERSION = "0.8.1"
NAME = f"py-libp2p {VERSION}"
FOLDER = Path(__file__).resolve().parent.parent.parent / ".cache" / "bench" / f"libp2p-{VERSION}"
PYTHON = FOLDER / "bin" / "python"
INSTALL_S = 600  # a minute where wheels are near; a registry that answers slower than this does not answer


def installed() -> Path | None:
    """Its interpreter, or None if it cannot be installed; then the reason has been printed to standard error."""
    if (FOLDER / "complete").exists():
        return PYTHON
    print(f"installing {NAME} once into {FOLDER}", file=sys.stderr)
    shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        for command in ([sys.executable, "-m", "venv", FOLDER], [PYTHON, "-m", "pip", "install", "-q", f"libp2p=={VERSION}"]):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.SubprocessError as error:
        last = str(getattr(error, "stderr", None) or error).strip().splitlines()[-1:]
        print(f"{NAME} could not be installed: {' '.join(last)}", file=sys.stderr)
        print(f"with a package registry in reach, try again: {sys.executable} {__file__}", file=sys.stderr)
        return None
    (FOLDER / "complete").touch()
    return PYTHON


if __name__ == "__main__":
    sys.exit(0 if installed() else 1)
