"""Serial ports of this machine by what the kernel knows of them. None is opened: that alone raises DTR, at which some devices restart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SerialPort", "serial_ports"]

# What USB devices become; a port on the board (ttyS) has nothing to say of what is behind it.
PATTERNS = ("ttyACM*", "ttyUSB*")
PORTS_MAX = 64  # a machine with more names the one it means in its configuration
TEXT_MAX_CHARS = 64  # of what a USB device calls itself
# From a port up to the USB device it is an interface of.
LEVELS_MAX = 4


@dataclass(frozen=True, slots=True)
class SerialPort:
    """`path`: the one that stays with the device where there is one. `usb`: vendor:product. All texts are the device's own words."""

    path: str
    usb: str
    product: str
    serial: str


def serial_ports(devices: Path = Path("/dev"), classes: Path = Path("/sys/class/tty")) -> list[SerialPort]:
    """The USB serial ports there are, in order of their names."""
    lasting = {link.resolve(): link for link in sorted((devices / "serial/by-id").glob("*"))}
    nodes = sorted(node for pattern in PATTERNS for node in devices.glob(pattern))[:PORTS_MAX]
    return [_port(node, lasting.get(node.resolve(), node), classes / node.name / "device") for node in nodes]


def _port(node: Path, path: Path, interface: Path) -> SerialPort:
    usb = interface.resolve()
    for _ in range(LEVELS_MAX):
        if (usb / "idVendor").exists():
            break
        usb = usb.parent
    vendor, product_id = _word(usb / "idVendor"), _word(usb / "idProduct")
    return SerialPort(
        path=str(path),
        usb=f"{vendor}:{product_id}" if vendor else "",
        product=" ".join(filter(None, (_word(usb / "manufacturer"), _word(usb / "product")))),
        serial=_word(usb / "serial"),
    )


def _word(path: Path) -> str:
    """What a device says of itself, made harmless; '' for nothing."""
    try:
        with path.open("rb") as file:
            text = file.read(4 * TEXT_MAX_CHARS).decode("utf-8", "replace")
    except OSError:
        return ""
    return re.sub(r"[^ -~]", "?", text.strip())[:TEXT_MAX_CHARS]
