"""Keeping one device read: demand, probes, silence, loss and return, failure for good."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from qrngd.bell import Bell
from qrngd.devices import CharacterDevice, Device, Emulator
from qrngd.health.state import StateChanged
from qrngd.pipeline import Pipeline
from qrngd.reader import PROBE_INTERVAL_S, DeviceReader
from qrngd.stock import Stock
from qustream.model.entropy import UNIT_BYTES, DeviceDescriptor

WINDOW = 65_536


class World:
    def __init__(self, device: Device, *, stock_units: int = 1, entropy: int = 7000) -> None:
        self.wanted = 0
        self.changes: list[StateChanged] = []
        self.bell = Bell()
        self.stock = Stock(stock_units * UNIT_BYTES)
        expected = DeviceDescriptor("test", "test", "", 8, entropy, 0, False, True, "")
        self.pipeline = Pipeline(expected, draw=os.urandom, reseed=lambda _: None)
        self.reader = DeviceReader(
            device,
            self.pipeline,
            self.stock,
            wanted_units=lambda: self.wanted,
            feed_changed=self.bell,
            on_change=self.changes.append,
            clock_ms=lambda: int(trio.current_time() * 1000),
        )

    @property
    def states(self) -> list[str]:
        return [change.after.value for change in self.changes]

    async def until(self, ready: Callable[[], object]) -> None:
        """Wait for worker threads, which the test's clock does not move."""
        for _ in range(20_000):
            if ready():
                return
            await trio.to_thread.run_sync(lambda: None)
        raise AssertionError(f"never; {self.states}")

    @staticmethod
    async def settle() -> None:
        """Until every task waits, and not for a worker thread."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            if not trio.to_thread.current_default_thread_limiter().borrowed_tokens:
                return
            await trio.to_thread.run_sync(lambda: None)


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock()


async def test_the_stock_is_filled_and_then_only_probed(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(Emulator(), stock_units=2)
        nursery.start_soon(world.reader.run)
        await world.until(lambda: world.stock.size_bytes == 2 * UNIT_BYTES)
        await world.settle()
        filled = world.reader.raw_bytes
        for second in range(1, 4):
            clock.jump(PROBE_INTERVAL_S)
            await world.settle()
            assert world.reader.raw_bytes == filled + second * WINDOW
        assert world.stock.size_bytes == 2 * UNIT_BYTES
        assert world.stock.dropped_bytes > 0
        assert world.states == ["testing", "live"]
        nursery.cancel_scope.cancel()


async def test_demand_is_met_beyond_the_stock(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(Emulator())
        nursery.start_soon(world.reader.run)
        await world.until(lambda: world.stock.units)
        await world.settle()
        before = world.reader.raw_bytes
        world.wanted = 10
        world.bell.ring()
        await world.until(lambda: world.reader.raw_bytes >= before + 10 * 2 * UNIT_BYTES)
        world.wanted = 0
        nursery.cancel_scope.cancel()


async def test_a_device_that_falls_silent_is_lost(tmp_path: Path, clock: trio.testing.MockClock) -> None:
    os.mkfifo(tmp_path / "device")
    device = CharacterDevice(str(tmp_path / "device"), min_entropy_millibits=7000)
    writer = os.open(tmp_path / "device", os.O_RDWR)
    try:
        async with trio.open_nursery() as nursery:
            world = World(device)
            nursery.start_soon(world.reader.run)
            os.write(writer, os.urandom(1000))
            await world.until(lambda: world.reader.raw_bytes == 1000)
            await world.settle()
            clock.jump(10.1)
            await world.until(lambda: "absent" in world.states)
            assert (world.pipeline.code, world.reader.read_errors) == ("E-DEV-READ", 1)
            clock.jump(0.6)
            await world.until(lambda: world.reader.opened == 2)  # and tried again
            nursery.cancel_scope.cancel()
    finally:
        os.close(writer)


async def test_a_missing_device_is_tried_with_growing_pauses(tmp_path: Path, clock: trio.testing.MockClock) -> None:
    path = tmp_path / "device"
    async with trio.open_nursery() as nursery:
        world = World(CharacterDevice(str(path), min_entropy_millibits=7000))
        nursery.start_soon(world.reader.run)
        attempts = []
        await world.until(lambda: world.reader.read_errors == 1)
        for pause_s in (0.5, 1.0, 2.0, 4.0):
            await world.settle()
            clock.jump(pause_s - 0.01)
            await world.settle()
            attempts.append(world.reader.read_errors)
            clock.jump(0.02)
            await world.until(lambda: world.reader.read_errors == len(attempts) + 1)
        assert attempts == [1, 2, 3, 4]
        assert world.states == ["absent"]  # said once
        path.write_bytes(os.urandom(40 * WINDOW))
        await world.settle()
        clock.jump(8.1)
        await world.until(lambda: "live" in world.states)
        nursery.cancel_scope.cancel()


async def test_a_device_that_failed_is_closed_and_left_alone(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(Emulator("stuck@bytes=2000000"), stock_units=8)
        nursery.start_soon(world.reader.run)
        await world.until(lambda: world.states[-1:] == ["failed"])
        await world.settle()
        assert world.stock.size_bytes == 0
        read, opened = world.reader.raw_bytes, world.reader.opened
        world.wanted = 10
        world.bell.ring()
        clock.jump(3600)
        await world.settle()
        assert (world.reader.raw_bytes, world.reader.opened, world.states[-1]) == (read, opened, "failed")
        nursery.cancel_scope.cancel()


async def test_time_live_is_counted(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(Emulator("vanish@bytes=700000,opens=0"))
        nursery.start_soon(world.reader.run)
        await world.until(lambda: "live" in world.states)
        await world.settle()
        clock.jump(7)  # seven seconds live; the probe then finds the device gone
        await world.until(lambda: "absent" in world.states or clock.jump(1))
        live_ms = world.reader.live_ms
        assert live_ms >= 7000
        await world.settle()
        assert world.reader.live_ms == live_ms
        assert [change.after for change in world.reader.history] == world.states
        nursery.cancel_scope.cancel()
