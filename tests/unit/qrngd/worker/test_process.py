"""The worker's loop around real devices, in a thread of the test: what it tells, and that orders and faults come through."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from qrngd.device_config import DeviceConfig
from qrngd.pipeline import Measurement
from qrngd.slots import SlotMemory
from qrngd.worker.messages import (
    MESSAGE_MAX_BYTES,
    Changed,
    Clear,
    Figures,
    Give,
    Made,
    MadeUnit,
    Opened,
    Order,
    Report,
    Retest,
    Setup,
    decode_order,
    decode_report,
    encode_message,
    socket_pair,
)
from qrngd.worker.process import DeviceWorker
from qustream.model.entropy import UNIT_BYTES

SLOTS = 8
PATIENCE_S = 60.0


class Boss:
    """The daemon's end, held by the test."""

    def __init__(self, link: socket.socket, memory: SlotMemory) -> None:
        self.memory = memory
        self.heard: list[Report] = []
        self._link = link
        link.settimeout(PATIENCE_S)

    def say(self, order: Order) -> None:
        self._link.send(encode_message(order))

    def until(self, ready: Callable[[], object]) -> None:
        ends = time.monotonic() + PATIENCE_S
        while not ready():
            assert time.monotonic() < ends, self.heard[-3:]
            self.heard.append(decode_report(self._link.recv(MESSAGE_MAX_BYTES)))

    @property
    def states(self) -> list[str]:
        return [report.after.value for report in self.heard if isinstance(report, Changed)]

    @property
    def made(self) -> list[MadeUnit]:
        return [unit for report in self.heard if isinstance(report, Made) for unit in report.units]

    @property
    def figures(self) -> Figures:
        told = [report for report in self.heard if isinstance(report, Figures)]
        return told[-1] if told else Figures(Measurement(), 0, 0, 0, 0, None, ())

    def hang_up(self) -> None:
        self._link.close()


@contextmanager
def working(device: DeviceConfig, *, latched: tuple[str, str] | None = None) -> Iterator[Boss]:
    ours, theirs = socket_pair()
    memory = SlotMemory.create(SLOTS)
    setup = decode_order(encode_message(Setup(device, SLOTS, latched, (), False)))
    assert isinstance(setup, Setup)
    assert setup.device == device
    worker = DeviceWorker(theirs, SlotMemory(os.dup(memory.fd), SLOTS), setup, memory_locked=False)
    thread = threading.Thread(target=worker.run)
    thread.start()
    boss = Boss(ours, memory)
    try:
        yield boss
    finally:
        boss.hang_up()
        thread.join(PATIENCE_S)
        theirs.close()
        assert not thread.is_alive(), "the worker does not end when the daemon is gone"


EMULATOR = DeviceConfig("emulator")


def test_slots_are_filled_but_the_reserve_and_units_are_all_different() -> None:
    with working(EMULATOR) as boss:
        boss.say(Give((0, 1, 2, 3)))
        boss.until(lambda: len(boss.made) >= 3)
        assert boss.states == ["testing", "live"]
        assert [report.device.emulated for report in boss.heard if isinstance(report, Opened)] == [True]
        assert [unit.slot for unit in boss.made] == [0, 1, 2]
        assert len({unit.digest for unit in boss.made}) == 3
        assert len({bytes(boss.memory.unit(unit.slot)[:32]) for unit in boss.made}) == 3
        raw = boss.figures.raw_bytes
        boss.say(Give((4,)))
        boss.until(lambda: len(boss.made) >= 4)
        boss.until(lambda: boss.figures.raw_bytes > raw)
        assert boss.figures.measured.windows_discarded == 0


def test_an_idle_worker_says_that_it_lives_and_probes() -> None:
    with working(EMULATOR) as boss:
        boss.say(Give((0,)))
        boss.until(lambda: "live" in boss.states)
        boss.until(lambda: boss.figures.measured.windows >= 4)  # a window a second
        assert not boss.made
        assert boss.figures.estimate_millibits is not None
        assert boss.figures.estimate_millibits > 7000


def test_a_device_that_failed_is_closed_until_it_is_cleared() -> None:
    with working(DeviceConfig("emulator", faults="stuck@bytes=2000000,length=70000")) as boss:
        boss.say(Give(tuple(range(SLOTS))))
        boss.until(lambda: boss.states[-1:] == ["failed"])
        opened = boss.figures.opened
        boss.say(Retest("cannot be tested"))
        count = len(boss.heard)
        boss.until(lambda: len(boss.heard) >= count + 3)
        assert boss.states[-1] == "failed"
        assert boss.figures.opened == opened
        boss.say(Clear("the fan was replaced"))
        boss.until(lambda: boss.states[-1] == "live")
        assert boss.states[-4:] == ["failed", "starting", "testing", "live"]
        assert boss.figures.opened == opened + 1


def test_a_latched_device_is_not_even_opened() -> None:
    with working(EMULATOR, latched=("E-DEV-LATCHED", "stuck, last week")) as boss:
        boss.say(Give((0, 1, 2)))
        boss.until(lambda: len(boss.heard) >= 3)
        assert not boss.states
        assert (boss.figures.opened, boss.figures.raw_bytes) == (0, 0)
        boss.say(Clear("examined"))
        boss.until(lambda: boss.states[-1:] == ["live"])


def test_a_test_on_demand_leads_back_to_live() -> None:
    with working(EMULATOR) as boss:
        boss.say(Give((0,)))
        boss.until(lambda: boss.states[-1:] == ["live"])
        startups = boss.figures.measured.windows_startup
        boss.say(Retest("monthly"))
        boss.until(lambda: boss.states[-2:] == ["testing", "live"] and len(boss.states) == 4)
        boss.until(lambda: boss.figures.measured.windows_startup == startups + 1)


def test_a_missing_device_is_noticed_as_soon_as_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "device"
    with working(DeviceConfig("chardev", path=path, min_entropy_millibits=7000)) as boss:
        boss.say(Give((0, 1)))
        boss.until(lambda: boss.figures.read_errors >= 3)
        assert boss.states == ["absent"]
        path.write_bytes(os.urandom(10 * 65_536))
        boss.until(lambda: "live" in boss.states)
        boss.until(lambda: boss.states[-1] == "absent")  # a file comes to its end
        assert [report.code for report in boss.heard if isinstance(report, Changed)][-1] == "E-DEV-ABSENT"


def test_a_pipe_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "device"
    os.mkfifo(path)
    with working(DeviceConfig("chardev", path=path, min_entropy_millibits=7000)) as boss:
        boss.say(Give((0, 1)))
        writer = os.open(path, os.O_RDWR)
        try:
            for _ in range(3):
                os.write(writer, os.urandom(65_536))
                count = len(boss.heard)
                boss.until(lambda count=count: len(boss.heard) > count)
            boss.until(lambda: boss.figures.raw_bytes == 3 * 65_536)
            assert boss.states == ["testing", "live"]
        finally:
            os.close(writer)


def test_units_are_wiped_when_the_device_fails() -> None:
    with working(DeviceConfig("emulator", faults="stuck@bytes=400000")) as boss:
        boss.say(Give(tuple(range(SLOTS))))
        boss.until(lambda: boss.states[-1:] == ["failed"])
        done = {unit.slot for unit in boss.made}
        assert all(boss.memory.unit(slot) == bytes(UNIT_BYTES) for slot in range(SLOTS) if slot not in done)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x90", b"\x91\x01", b"\x92\x0c\x00", b"\xff" * 100, b"\x93" * 5000, b"\x96\x0c\x01\xa4live\xa4live\xa0\xa1\xff"],
    ids=["nothing", "empty", "an order", "short", "no message", "nested", "no text"],
)
def test_what_no_worker_says_is_an_error_of_decoding(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_report(data)


def test_what_was_not_finished_does_not_lie_about_while_the_device_is_away(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(os.urandom(3 * 65_536))  # one window for the test, two for a part of a unit
    with working(DeviceConfig("chardev", path=path, min_entropy_millibits=7000)) as boss:
        boss.say(Give((0, 1)))
        boss.until(lambda: boss.states[-2:] == ["live", "absent"] and boss.figures.measured.conditioned_bytes)
        assert boss.memory.unit(0) == bytes(UNIT_BYTES)
