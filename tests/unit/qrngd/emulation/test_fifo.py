"""An emulated device as a FIFO, read by the driver that reads FIFOs."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.emulated_line import emulated_fifo, read_exactly, read_until_fault

from qrngd.device_config import DeviceConfig
from qrngd.devices import Device
from qrngd.emulation.fifo import serve_fifo
from qrngd.emulation.pace import Pace
from qrngd.emulation.source import ByteSource
from qustream.errors import QuStreamError


def reader(path: Path) -> Device:
    return DeviceConfig("chardev", path=path, min_entropy_millibits=7000).make()


def test_readers_come_and_go(tmp_path: Path) -> None:
    with emulated_fifo(tmp_path / "lamp"):
        device = reader(tmp_path / "lamp")
        for _ in range(3):
            assert device.open().kind == "fifo"
            assert len(set(read_exactly(device, 200_000))) == 256
            device.close()


def test_faults_are_in_the_bytes(tmp_path: Path) -> None:
    with emulated_fifo(tmp_path / "lamp", faults="stuck@bytes=1000,value=5"):
        device = reader(tmp_path / "lamp")
        device.open()
        raw = read_exactly(device, 3000)
        assert len(set(raw[:1000])) > 16
        assert set(raw[1000:]) == {5}
        device.close()


def test_vanishing_is_the_end_of_the_stream_and_it_comes_back(tmp_path: Path) -> None:
    with emulated_fifo(tmp_path / "lamp", faults="vanish@bytes=70000", rate=10_000_000):
        device = reader(tmp_path / "lamp")
        device.open()
        error, got = read_until_fault(device)
        assert error.code == "E-DEV-ABSENT"
        assert got == 70_000
        device.open()
        read_exactly(device, 10_000)
        device.close()


def test_something_else_at_the_path_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    source = ByteSource()
    for path in (tmp_path / "file", tmp_path / "none" / "lamp"):
        with pytest.raises(QuStreamError) as caught:
            serve_fifo(path, source, Pace(0), stop=lambda: True, ready=lambda: None)
        assert caught.value.code == "E-FILE"
    assert (tmp_path / "file").read_bytes() == b"mine"
    source.close()
