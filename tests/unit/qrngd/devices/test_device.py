"""Back-off, and the one-word form of a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrngd.devices import CharacterDevice, Device, Emulator, QCicadaDevice, SerialDevice, device_from_text, reopen_delay_ms
from qustream.errors import OperatorFault


def test_back_off_doubles_and_is_bounded() -> None:
    delays = [reopen_delay_ms(attempt) for attempt in range(10)]
    assert delays[:4] == [500, 1000, 2000, 4000]
    assert max(delays) == reopen_delay_ms(10**9) == 30_000


@pytest.mark.parametrize("text", ["emulator", "emulator:stuck@bytes=1000000", "emulator:torn+slow@rate=9"])
def test_emulators_by_text(text: str) -> None:
    device: Device = device_from_text(text)
    assert isinstance(device, Emulator)
    assert device.open().emulated
    device.close()


def test_paths_by_text(tmp_path: Path) -> None:
    assert isinstance(device_from_text(str(tmp_path / "lamp"), min_entropy_millibits=6000), CharacterDevice)
    with pytest.raises(OperatorFault, match="min_entropy_millibits"):
        device_from_text("/dev/hwrng")


def test_serial_devices_by_text() -> None:
    assert isinstance(device_from_text("serial:/dev/ttyACM0", min_entropy_millibits=6000), SerialDevice)
    assert isinstance(device_from_text("qcicada:/dev/ttyUSB0", min_entropy_millibits=6000), QCicadaDevice)
    for text in ("serial:/dev/ttyACM0", "qcicada:/dev/ttyUSB0"):
        with pytest.raises(OperatorFault, match="min_entropy_millibits"):
            device_from_text(text)


def test_a_bad_script_is_refused() -> None:
    for text in ("emulator:", "emulator:nothing"):
        with pytest.raises(OperatorFault, match="E-CONFIG"):
            device_from_text(text)
