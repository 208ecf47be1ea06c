"""`qrngd devices`: what on this machine could be read."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from qrngd.config import load_config

__all__ = ["devices"]

HWRNG_FOLDER = Path("/sys/class/misc/hw_random")
# Where drivers of QRNG cards put their character devices.
PATTERNS = ("hwrng", "qrandom*")
DEVICES_MAX = 64  # a machine with more cards than that names them in its configuration


@dataclass(frozen=True)
class Candidate:
    """A device that may or may not be usable; `note` says what is known."""

    path: str
    kind: str
    usable: bool
    current: str
    available: list[str]
    note: str


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), help="Show the device this file names, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def devices(config_path: Path | None, as_json: bool) -> None:
    """List the devices that `kind = "chardev"` could read here. Nothing is read from them."""
    found = [_examine(path) for path in _paths(config_path)]
    found.append(Candidate("", "emulator", True, "", [], "/dev/urandom, for test networks only"))
    if as_json:
        click.echo(json.dumps([asdict(candidate) for candidate in found], indent=2))
        return
    for candidate in found:
        behind = f" [{candidate.current or 'nothing'}; available: {', '.join(candidate.available) or 'none'}]" if candidate.path.endswith(
            "/hwrng") else ""  # fmt: skip
        mark = "usable  " if candidate.usable else "unusable"
        click.echo(f"{mark}  {candidate.path or candidate.kind}{behind}  {candidate.note}".rstrip())


def _paths(config_path: Path | None) -> list[Path]:
    paths = [path for pattern in PATTERNS for path in sorted(Path("/dev").glob(pattern))][:DEVICES_MAX]
    if config_path is not None:
        configured = load_config(config_path).device[0].path
        if configured is not None and configured not in paths:
            paths.append(configured)
    return paths


def _examine(path: Path) -> Candidate:
    current, available = ("", [])
    if path.name == "hwrng":
        current, available = _sysfs("rng_current"), _sysfs("rng_available").split()
        if current in ("", "none"):
            return Candidate(str(path), "chardev", False, "", available, "no hardware generator is behind it")
    trouble = _trouble(path)
    return Candidate(str(path), "chardev", not trouble, current, available, trouble)


def _trouble(path: Path) -> str:
    """Why the device cannot be opened, '' if it can. Opened without blocking, not read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        return error.strerror or str(error)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return "held by another process"
    finally:
        os.close(handle)
    return ""


def _sysfs(name: str) -> str:
    try:
        return (HWRNG_FOLDER / name).read_text(errors="replace").strip()
    except OSError:
        return ""
