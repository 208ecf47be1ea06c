"""Emulated devices on pseudo-terminals and FIFOs, served by a thread of the test, and readers that wait with a bound."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qrngd.devices import Device
from qrngd.emulation.fifo import serve_fifo
from qrngd.emulation.maker import Maker
from qrngd.emulation.pace import Pace
from qrngd.emulation.pty_line import LineDevice, RawStick, VanishingSource, serve_pty
from qrngd.emulation.qcc_device import QccDevice
from qrngd.emulation.qcc_faults import QccFaults
from qrngd.emulation.source import ByteSource
from qustream.errors import QuStreamError

__all__ = [
    "MAKER",
    "emulated_fifo",
    "qcicada_line",
    "raw_line",
    "read_exactly",
    "read_until_fault",
    "reading",
    "reopened",
    "served_line",
]

MAKER = Maker(bytes(range(32)))
PATIENCE_S = 60.0


@contextmanager
def _served(run: Callable[..., None], *args: object) -> Iterator[None]:
    ended, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=run, args=args, kwargs={"stop": ended.is_set, "ready": ready.set})
    thread.start()
    try:
        assert ready.wait(PATIENCE_S)
        yield
    finally:
        ended.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@contextmanager
def _line(link: Path, device: LineDevice, source: ByteSource, rate: int) -> Iterator[None]:
    try:
        with _served(serve_pty, link, device, source, Pace(rate)):
            yield
    finally:
        source.close()


@contextmanager
def raw_line(link: Path, *, faults: str = "", rate: int = 0) -> Iterator[None]:
    """A stick that streams."""
    source = ByteSource(faults)
    with _line(link, RawStick(source.draw), source, rate):
        yield


@contextmanager
def qcicada_line(
    link: Path, *, faults: str = "", protocol_faults: str = "", rate: int = 0, serial_number: int = 217, maker: Maker = MAKER
) -> Iterator[QccDevice]:
    """A QCicada certified by `MAKER`."""
    source = ByteSource(faults)
    device = QccDevice(source.draw, maker, faults=QccFaults(protocol_faults), serial_number=serial_number, speed=8 * rate)
    with _line(link, device, source, rate):
        yield device


@contextmanager
def emulated_fifo(path: Path, *, faults: str = "", rate: int = 0) -> Iterator[None]:
    """A FIFO that is written while it is read."""
    source = ByteSource(faults)
    try:
        with _served(serve_fifo, path, source, Pace(rate)):
            yield
    finally:
        source.close()


@contextmanager
def served_line(link: Path, device: LineDevice, source: VanishingSource) -> Iterator[None]:
    """Any device on a line, as fast as it is read."""
    with _served(serve_pty, link, device, source, Pace(0)):
        yield


def reading(device: Device, most: int) -> bytes:
    """What one read of an open device gives, up to `most` bytes; waits until there is something."""
    buffer = memoryview(bytearray(most))
    give_up_s = time.monotonic() + PATIENCE_S
    while not (size := device.readinto(buffer)):
        assert time.monotonic() < give_up_s, "nothing came"
        _wait(device)
    return bytes(buffer[:size])


def read_exactly(device: Device, size: int) -> bytes:
    """`size` bytes of an open device, waiting as its reader does."""
    buffer = memoryview(bytearray(size))
    got = 0
    give_up_s = time.monotonic() + PATIENCE_S
    while got < size:
        step = device.readinto(buffer[got:])
        got += step
        if not step:
            assert time.monotonic() < give_up_s, f"{got} of {size} bytes came"
            _wait(device)
    return bytes(buffer)


def read_until_fault(device: Device) -> tuple[QuStreamError, int]:
    """Read an open device until it raises: what it raised, and how many bytes came before."""
    got = 0
    buffer = memoryview(bytearray(1 << 16))
    give_up_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_s:
        try:
            step = device.readinto(buffer)
        except QuStreamError as error:
            return error, got
        got += step
        if not step:
            _wait(device)
    raise AssertionError(f"nothing went wrong in {got} bytes")


def reopened(device: Device) -> None:
    """Open a device that is away for a while."""
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            device.open()
            return
        except QuStreamError as error:
            if error.code != "E-DEV-ABSENT" or time.monotonic() > give_up_s:
                raise
            time.sleep(0.02)


def _wait(device: Device) -> None:
    if device.pollable:
        poll = select.poll()
        poll.register(device.fileno(), select.POLLIN)
        poll.poll(100)
    else:
        time.sleep(device.retry_after_ms / 1000)
