"""Serial ports as the kernel describes them, in folders that look like its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrngd.devices.serial_ports import SerialPort, serial_ports


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two USB devices, a port on the board, and a port of which nothing is known."""
    (tmp_path / "dev/serial/by-id").mkdir(parents=True)
    for name in ("ttyUSB0", "ttyACM0", "ttyACM1", "ttyS0"):
        (tmp_path / "dev" / name).touch()
    (tmp_path / "dev/serial/by-id/usb-Lamp_7-if00").symlink_to("../../ttyUSB0")
    lamp, stick = tmp_path / "usb/1-1", tmp_path / "usb/1-2"
    (lamp / "1-1:1.0/ttyUSB0").mkdir(parents=True)
    (stick / "1-2:1.0").mkdir(parents=True)
    for folder, words in ((lamp, ("0403", "6015", "Lamps & Co", "Lamp", "7")), (stick, ("1234", "5678", "", "St\x1b[2Jick\n", ""))):
        for name, word in zip(("idVendor", "idProduct", "manufacturer", "product", "serial"), words, strict=True):
            (folder / name).write_text(word + "\n")
    (stick / "serial").unlink()
    for name, interface in (("ttyUSB0", lamp / "1-1:1.0/ttyUSB0"), ("ttyACM0", stick / "1-2:1.0")):
        (tmp_path / "tty" / name).mkdir(parents=True)
        (tmp_path / "tty" / name / "device").symlink_to(interface)
    return tmp_path


def test_ports_are_named_by_what_stays_and_say_what_they_are(machine: Path) -> None:
    stick, unknown, lamp = serial_ports(machine / "dev", machine / "tty")
    assert lamp == SerialPort(str(machine / "dev/serial/by-id/usb-Lamp_7-if00"), "0403:6015", "Lamps & Co Lamp", "7")
    assert stick == SerialPort(str(machine / "dev/ttyACM0"), "1234:5678", "St?[2Jick", "")
    assert unknown == SerialPort(str(machine / "dev/ttyACM1"), "", "", "")


def test_a_machine_without_ports_has_none(tmp_path: Path) -> None:
    assert serial_ports(tmp_path, tmp_path) == []


def test_long_names_are_cut(machine: Path) -> None:
    (machine / "usb/1-1/product").write_bytes(b"x" * 10_000)
    assert len(serial_ports(machine / "dev", machine / "tty")[2].product) <= len("Lamps & Co ") + 64
