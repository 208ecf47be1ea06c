"""QRNG devices: one `Device` protocol, their drivers, and the one-word form in which a device is named on a command line."""

from __future__ import annotations

from qrngd.devices.chardev import CharacterDevice
from qrngd.devices.device import SILENCE_LIMIT_MS, Device, reopen_delay_ms
from qrngd.devices.emulator import EMULATOR_MIN_ENTROPY_MILLIBITS, Emulator
from qrngd.devices.faults import parse_faults
from qrngd.devices.qcicada import QCicadaDevice
from qrngd.devices.quantis import QuantisDevice
from qrngd.devices.serial_line import SerialDevice

__all__ = [
    "EMULATOR_MIN_ENTROPY_MILLIBITS",
    "SILENCE_LIMIT_MS",
    "CharacterDevice",
    "Device",
    "Emulator",
    "QCicadaDevice",
    "QuantisDevice",
    "SerialDevice",
    "device_from_text",
    "parse_faults",
    "reopen_delay_ms",
]


def device_from_text(text: str, *, min_entropy_millibits: int | None = None, sample_bits: int = 8) -> Device:
    """`emulator`, `emulator:<fault script>`, `serial:<path>`, `qcicada:<path>`, or the path of anything else. Raises E-CONFIG; a path needs
    `min_entropy_millibits`."""
    kind, colon, rest = text.partition(":")
    if kind == "emulator" and (not colon or rest):
        return Emulator(rest, min_entropy_millibits=min_entropy_millibits, sample_bits=sample_bits)
    if kind == "serial" and rest:
        return SerialDevice(rest, min_entropy_millibits=min_entropy_millibits, sample_bits=sample_bits)
    if kind == "qcicada" and rest:
        return QCicadaDevice(rest, min_entropy_millibits=min_entropy_millibits, sample_bits=sample_bits)
    return CharacterDevice(text, min_entropy_millibits=min_entropy_millibits, sample_bits=sample_bits)
