"""`qrngd devices`: what on this machine could be read."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from qrngd.cli.openers import openers
from qrngd.config import load_config
from qrngd.device_config import DeviceKind, usual_kind
from qrngd.devices.quantis import read_card
from qrngd.devices.serial_ports import SerialPort, serial_ports
from qustream.errors import QuStreamError

__all__ = ["devices"]

HWRNG_FOLDER = Path("/sys/class/misc/hw_random")
# Where drivers of QRNG cards put their character devices.
PATTERNS = ("hwrng", "qrandom*")
_SERIAL_KINDS = ("serial", "qcicada")
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
@click.option("--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), help="Show the devices this file names, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def devices(config_path: Path | None, as_json: bool) -> None:
    """List the devices that could be read here, and their `kind`. Nothing is read from them; a Quantis card is asked what it is. Serial
    ports are not even opened: what is behind one is what the kernel says of its USB device.

    Two readers of a device share its bits, so this says which other processes have one open; of other users' processes only to root.
    """
    places = _paths(config_path)
    configured = {path.resolve(): (path, kind) for path, kind in places.items() if kind in _SERIAL_KINDS}
    found = [_examine(path, kind) for path, kind in places.items() if kind not in _SERIAL_KINDS]
    for port in serial_ports():
        path, kind = configured.pop(Path(port.path).resolve(), (Path(port.path), "serial"))
        found.append(_port(path, kind, port))
    found += [_port(path, kind, None) for path, kind in configured.values()]
    found.append(Candidate("", "emulator", True, "", [], "/dev/urandom, for test networks only"))
    if as_json:
        click.echo(json.dumps([asdict(candidate) for candidate in found], indent=2))
        return
    for candidate in found:
        behind = f" [{candidate.current or 'nothing'}; available: {', '.join(candidate.available) or 'none'}]" if candidate.path.endswith(
            "/hwrng") else ""  # fmt: skip
        mark = "usable  " if candidate.usable else "unusable"
        name = f"{candidate.path} ({candidate.kind})" if candidate.path else candidate.kind
        click.echo(f"{mark}  {name}{behind}  {candidate.note}".rstrip())


def _paths(config_path: Path | None) -> dict[Path, DeviceKind]:
    """Where to look, and as what."""
    paths = [path for pattern in PATTERNS for path in sorted(Path("/dev").glob(pattern))][:DEVICES_MAX]
    found = {path: usual_kind(path) for path in paths}
    if config_path is not None:
        found |= {device.path: device.kind for device in load_config(config_path).device if device.path is not None}
    return found


def _examine(path: Path, kind: str) -> Candidate:
    current, available = ("", [])
    if path.name == "hwrng":
        current, available = _sysfs("rng_current"), _sysfs("rng_available").split()
        if current in ("", "none"):
            return Candidate(str(path), kind, False, "", available, "no hardware generator is behind it")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        return Candidate(str(path), kind, False, current, available, error.strerror or str(error))
    others = openers(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = _card(path, handle) if kind == "quantis" else Candidate(str(path), kind, True, current, available, "")
        # Nothing hinders a second reader that does not lock, as rngd does not; who looks here should know of it.
        return replace(found, note=", ".join(filter(None, (found.note, f"also open in {others}")))) if others else found
    except OSError:
        return Candidate(str(path), kind, False, current, available, f"held by {others or 'another process'}")
    finally:
        os.close(handle)


def _port(path: Path, kind: str, port: SerialPort | None) -> Candidate:
    """A serial port. `port`: what is known of it, if it is one of USB."""
    if not path.exists():
        return Candidate(str(path), kind, False, "", [], "not there")
    permitted, others = os.access(path, os.R_OK | os.W_OK), openers(path)
    trouble = f"held by {others}" if others else "" if permitted else "not permitted"
    words = [f"usb {port.usb} {port.product}".strip(), f"serial {port.serial}" if port.serial else ""] if port and port.usb else []
    return Candidate(str(path), kind, not trouble, "", [], ", ".join(filter(None, [trouble, *words])))


def _card(path: Path, handle: int) -> Candidate:
    """What a Quantis card says of itself; what does not answer as one may still be a stream of bytes."""
    try:
        card = read_card(handle, str(path))
    except QuStreamError as error:
        kind = "chardev" if error.code == "E-CONFIG" else "quantis"
        return Candidate(str(path), kind, kind == "chardev", "", [], error.detail)
    modules = f"{card.versions}, modules present {card.mask:04b}, working {card.mask & card.status:04b}"
    return Candidate(str(path), "quantis", not card.trouble, card.source, [], card.trouble or modules)


def _sysfs(name: str) -> str:
    try:
        return (HWRNG_FOLDER / name).read_text(errors="replace").strip()
    except OSError:
        return ""
