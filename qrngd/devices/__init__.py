"""QRNG devices: one `Device` protocol, and a driver for each kind."""

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
    "parse_faults",
    "reopen_delay_ms",
]
