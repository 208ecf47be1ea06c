"""One device, kept open, read, tested and conditioned into the stock; every change of its state is told (`proto/spec/entropy-feed.md`).

How much is read: what the feed wants and the stock lacks. When neither wants anything, one window every `PROBE_INTERVAL_S` is still read
and judged, so the state in every display is at most that old and an idle daemon costs next to nothing; what the probe yields
replaces the oldest bytes of the stock. A slow device is probed a tenth of the time, at least every `PROBE_PAUSE_MAX_S`.

A device that cannot be opened or read is tried again with growing pauses. A device that failed for good is closed and left alone until
the daemon is started again. No other source is ever read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import trio

from qrngd.bell import Bell
from qrngd.devices import SILENCE_LIMIT_MS, Device, reopen_delay_ms
from qrngd.health.state import DeviceState, StateChanged
from qrngd.pipeline import Conditioned, Event, Measurement, Pipeline
from qrngd.status import StateChange
from qrngd.stock import Span, Stock
from qustream.errors import QuStreamError, fault
from qustream.model.entropy import UNIT_BYTES

__all__ = ["DeviceReader"]

# How old the state of an idle device may be.
PROBE_INTERVAL_S = 1.0
# A window of the slowest devices takes seconds of polling; with nine times as long a pause that is under 1 % of a core.
PROBE_PAUSE_FACTOR = 9
PROBE_PAUSE_MAX_S = 60.0
# One trip to a worker thread: four batches of the pipeline, or what a slow device gives in a tenth of a second.
READ_MAX_BYTES = 1 << 22
READ_TIME_MAX_S = 0.1
# Changes of state kept for the operator to look at; more is what the log is for.
HISTORY_LENGTH = 64


class DeviceReader:
    """One task (`run`). `wanted_units`: what the feed could take now; `feed_changed`: rings when that may have grown, and is
    rung when the stock has."""

    def __init__(
        self,
        device: Device,
        pipeline: Pipeline,
        stock: Stock,
        *,
        wanted_units: Callable[[], int],
        feed_changed: Bell,
        on_change: Callable[[StateChanged], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self.raw_bytes = 0
        self.opened = 0
        self.read_errors = 0
        self.since_ms = clock_ms()
        self.history: deque[StateChange] = deque(maxlen=HISTORY_LENGTH)
        self._live_ms = 0
        self._device, self._pipeline, self._stock = device, pipeline, stock
        self._wanted_units, self._feed_changed, self._on_change, self._clock_ms = wanted_units, feed_changed, on_change, clock_ms
        self._buffer = memoryview(bytearray(READ_MAX_BYTES))
        self._heard_s = 0.0
        self._read_s = 0.0  # what a window took lately
        self._measured = Measurement()  # at the end of the bytes handed out last
        self._measured_ms = self.since_ms

    @property
    def live_ms(self) -> int:
        """How long the device has been live, all told."""
        running = self._clock_ms() - self.since_ms if self._pipeline.state is DeviceState.LIVE else 0
        return self._live_ms + max(0, running)

    @property
    def _failed(self) -> bool:
        return self._pipeline.state is DeviceState.FAILED

    async def run(self) -> None:
        """Read until the device fails for good, then wait for the daemon to end."""
        attempt = 0
        while not self._failed:
            try:
                await self._open()
                while not self._failed:
                    await self._read(await self._demand())
                    attempt = 0
            except QuStreamError as error:
                self.read_errors += 1
                self._handle(self._pipeline.lost(error.code, error.detail), self._clock_ms())
            finally:
                self._device.close()
                self._buffer[:] = bytes(len(self._buffer))
            if not self._failed:
                await trio.sleep(reopen_delay_ms(attempt) / 1000)
                attempt += 1
        await trio.sleep_forever()

    async def _open(self) -> None:
        descriptor = await trio.to_thread.run_sync(self._device.open)
        self.opened += 1
        self._heard_s = trio.current_time()
        self._handle(self._pipeline.opened(descriptor), self._clock_ms())

    async def _demand(self) -> int:
        """How many raw bytes to read now. Without any demand: one window, when its time has come."""
        if not self._missing_bytes():
            pause_s = min(PROBE_PAUSE_MAX_S, max(PROBE_INTERVAL_S, PROBE_PAUSE_FACTOR * self._read_s))
            with trio.move_on_after(pause_s):
                while not self._missing_bytes():
                    await self._feed_changed.wait()
            self._heard_s = trio.current_time()
        window = self._pipeline.layout.window_bytes
        return -(-max(1, self._missing_bytes()) // window) * window

    def _missing_bytes(self) -> int:
        """Raw bytes that would be used up now; a device that is not live has to be tested whatever is wanted."""
        if self._pipeline.state is not DeviceState.LIVE:
            return self._pipeline.layout.window_bytes
        report = self._pipeline.conditioning_report()
        wanted = self._wanted_units() * UNIT_BYTES + self._stock.capacity_bytes - self._stock.size_bytes
        return -(-max(0, wanted) // report.out_bytes) * report.raw_bytes

    async def _read(self, size: int) -> None:
        """Read and judge `size` raw bytes, as they come. Raises E-DEV-READ after too long a silence."""
        started_s, windows = trio.current_time(), size // self._pipeline.layout.window_bytes
        while size > 0 and not self._failed:
            got, events = await trio.to_thread.run_sync(self._read_and_judge, min(size, READ_MAX_BYTES))
            size -= got
            self._handle(events, self._clock_ms())
            if got:
                self._heard_s = trio.current_time()
            else:
                await self._wait_for_bytes()
        self._read_s = (trio.current_time() - started_s) / windows

    def _read_and_judge(self, most: int) -> tuple[int, list[Event]]:
        """In a worker thread: what is there now, up to `most` bytes."""
        got = 0
        ends_s = time.monotonic() + READ_TIME_MAX_S
        while got < most and time.monotonic() < ends_s:
            size = self._device.readinto(self._buffer[got:most])
            got += size
            if not size:
                break
        self.raw_bytes += got
        return got, self._pipeline.feed(self._buffer[:got])

    async def _wait_for_bytes(self) -> None:
        left_s = self._heard_s + SILENCE_LIMIT_MS / 1000 - trio.current_time()
        if left_s <= 0:
            raise fault("E-DEV-READ", f"the device gave no byte for {SILENCE_LIMIT_MS // 1000} s")
        if self._device.pollable:
            with trio.move_on_after(left_s):
                await trio.lowlevel.wait_readable(self._device.fileno())
        else:
            await trio.sleep(min(left_s, self._device.retry_after_ms / 1000))

    def _handle(self, events: list[Event], now_ms: int) -> None:
        for event in events:
            if isinstance(event, Conditioned):
                span = Span(self._pipeline.descriptor, self._measured, event.measured, self._measured_ms, now_ms)
                self._measured, self._measured_ms = event.measured, now_ms
                self._stock.put(event, span)
                self._feed_changed.ring()
            elif isinstance(event, StateChanged):
                self._changed(event, now_ms)

    def _changed(self, change: StateChanged, now_ms: int) -> None:
        if change.before is DeviceState.LIVE:
            self._live_ms += max(0, now_ms - self.since_ms)
        if change.before is not change.after:
            self.since_ms = now_ms
        if change.after is DeviceState.TESTING:
            self._measured, self._measured_ms = self._pipeline.measured, now_ms
        if change.after is DeviceState.FAILED:
            self._stock.clear()
        self.history.append(StateChange(now_ms, change.before, change.after, change.code, change.reason))
        self._on_change(change)
