"""The worker: one synchronous loop around one device (`python -I -m qrngd.worker.process LINK MEMORY`).

    listen (orders; or the device has something) → open, or read what the plan wants → judge, condition, fill slots → tell

It ends when the daemon's end of the link is gone, whatever ended the daemon. Coded errors of the device are told and waited out;
anything else ends the process with a traceback, and the daemon starts another.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
import sys
import time
from dataclasses import dataclass

from qrngd.devices import Device
from qrngd.health.state import DeviceState, StateChanged
from qrngd.memory import forbid_core_dumps, lock_memory
from qrngd.pipeline import Conditioned, Event, Pipeline
from qrngd.slots import SlotMemory
from qrngd.worker.filling import SlotFiller
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
    encode_message,
)
from qrngd.worker.plan import ReadPlan
from qustream.errors import QuStreamError

__all__ = ["HEARTBEAT_S", "DeviceWorker", "WorkerClock", "main"]

# The daemon hears from its worker at least this often.
HEARTBEAT_S = 0.5
# One batch of the pipeline: it stays in the second-level cache from the read to the hash.
READ_MAX_BYTES = 1 << 20
# While a device is away, how often to look whether something has appeared at its path: a cable put back is noticed at once.
PRESENCE_POLL_S = 0.5
REASON_MAX_CHARS = 256  # of FeedHealth


@dataclass(frozen=True, slots=True)
class WorkerClock:
    """The two clocks of a worker: monotonic seconds for waiting, Unix ms for what is told."""

    @staticmethod
    def now_s() -> float:
        return time.monotonic()

    @staticmethod
    def now_ms() -> int:
        return time.time_ns() // 1_000_000


class DeviceWorker:
    """See the module. `run` returns when the daemon is gone."""

    def __init__(self, link: socket.socket, memory: SlotMemory, setup: Setup, *, memory_locked: bool, device: Device | None = None) -> None:
        self._link, self._memory_locked = link, memory_locked
        self._path = str(setup.device.path or "")
        self._device = setup.device.make() if device is None else device
        self._pipeline = Pipeline(
            setup.device.expected,
            draw=ssl.RAND_bytes,
            reseed=lambda seed: ssl.RAND_add(seed, 0.0),
            assessed_min_entropy_millibits=setup.device.assessed_min_entropy_millibits,
            latched=setup.latched,
            alarms=setup.alarms,
        )
        report, layout = self._pipeline.conditioning_report(), self._pipeline.layout
        self._plan = ReadPlan(window_bytes=layout.window_bytes, raw_bytes=report.raw_bytes, out_bytes=report.out_bytes)
        self._clock = WorkerClock()
        self._filler = SlotFiller(memory, self._clock.now_ms())
        self._buffer = memoryview(bytearray(READ_MAX_BYTES))
        self._made: list[MadeUnit] = []
        self._raw_bytes = self._opened = self._read_errors = 0
        self._told_s = 0.0
        self._estimated_s = 0.0
        self._waits_for_device = False
        self._identity = self._look()
        self._is_over = False

    def run(self) -> None:
        """Work until the daemon is gone; leave nothing behind in memory."""
        try:
            wait_s = 0.0
            while not self._is_over:
                self._listen(wait_s)
                wait_s = self._step()
        finally:
            self._device.close()
            self._pipeline.wipe()
            self._filler.drop()
            self._buffer[:] = bytes(len(self._buffer))

    # --- orders

    def _listen(self, wait_s: float) -> None:
        """Wait for orders, or for the device if it is what we wait for; obey what has come."""
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        if self._waits_for_device:
            poll.register(self._device.fileno(), select.POLLIN)
        ready = dict(poll.poll(max(0.0, min(wait_s, HEARTBEAT_S)) * 1000))
        while self._link.fileno() in ready and not self._is_over:
            try:
                data = self._link.recv(MESSAGE_MAX_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._obey(decode_order(data))
            else:
                self._is_over = True

    def _obey(self, order: Order) -> None:
        if isinstance(order, Give):
            self._filler.give(order.slots)
        elif isinstance(order, Clear):
            self._handle(self._pipeline.clear(order.reason))
            self._plan.closed()
        elif isinstance(order, Retest):
            self._handle(self._pipeline.retest(order.reason))
            self._plan.abandon()

    # --- the device

    def _step(self) -> float:
        """Do what is due; return how long nothing is."""
        now_s = self._clock.now_s()
        self._waits_for_device = False
        if now_s - self._told_s >= HEARTBEAT_S:
            self._tell_figures(now_s)
        if self._pipeline.state is DeviceState.FAILED:
            return HEARTBEAT_S
        try:
            return self._read(now_s) if self._plan.is_open else self._open(now_s)
        except QuStreamError as error:
            self._lose(error)
            return 0.0

    def _open(self, now_s: float) -> float:
        identity = self._look()
        if identity is not None and identity != self._identity:
            self._plan.try_now()
        self._identity = identity
        wait_s = self._plan.open_in_s(now_s)
        if wait_s > 0:
            return min(wait_s, PRESENCE_POLL_S)
        descriptor = self._device.open()
        self._opened += 1
        self._plan.opened(self._clock.now_s())
        self._send(Opened(descriptor, self._memory_locked))
        self._handle(self._pipeline.opened(descriptor))
        return 0.0

    def _look(self) -> tuple[int, int, int] | None:
        """What stands at the device's path now, None for nothing."""
        try:
            found = os.stat(self._path) if self._path else None
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino, found.st_rdev)

    def _read(self, now_s: float) -> float:
        wanted = self._plan.wanted_bytes(now_s, is_live=self._pipeline.state is DeviceState.LIVE, room_bytes=self._filler.room_bytes)
        if not wanted:
            return self._plan.idle_s(now_s)
        size = self._device.readinto(self._buffer[: min(wanted, READ_MAX_BYTES)])
        self._raw_bytes += size
        self._plan.got(size, self._clock.now_s())
        if not size:
            self._waits_for_device = self._device.pollable
            return HEARTBEAT_S if self._waits_for_device else self._device.retry_after_ms / 1000
        if now_s - self._estimated_s >= 1:
            self._estimated_s = now_s
            self._pipeline.estimate_next()
        self._handle(self._pipeline.feed(self._buffer[:size]))
        return 0.0

    def _lose(self, error: QuStreamError) -> None:
        self._device.close()
        self._buffer[:] = bytes(len(self._buffer))
        self._read_errors += 1
        self._plan.lost(self._clock.now_s())
        self._identity = self._look()
        self._handle(self._pipeline.lost(error.code, error.detail))

    # --- what follows

    def _handle(self, events: list[Event]) -> None:
        now_ms = self._clock.now_ms()
        for event in events:
            if isinstance(event, Conditioned):
                self._made += self._filler.put(event, now_ms)
            elif isinstance(event, StateChanged):
                self._changed(event, now_ms)
        self._tell_made()

    def _changed(self, change: StateChanged, now_ms: int) -> None:
        self._tell_made()  # in the order in which it happened
        if change.after is DeviceState.TESTING:
            self._filler.restart(self._pipeline.measured, now_ms)
        if change.after is DeviceState.FAILED:
            self._device.close()
            self._plan.lost(self._clock.now_s())
        if change.after in (DeviceState.FAILED, DeviceState.ABSENT):
            self._filler.drop()  # it would be at the next opening, which may be far off
        self._send(Changed(now_ms, change.before, change.after, change.code, change.reason[:REASON_MAX_CHARS]))
        self._tell_figures(self._clock.now_s())

    def _tell_made(self) -> None:
        if self._made:
            self._send(Made(tuple(self._made)))
            self._made.clear()

    def _tell_figures(self, now_s: float) -> None:
        self._told_s = now_s
        self._send(
            Figures(
                measured=self._pipeline.measured,
                raw_bytes=self._raw_bytes,
                opened=self._opened,
                read_errors=self._read_errors,
                dropped_bytes=self._filler.dropped_bytes,
                estimate_millibits=self._pipeline.min_entropy_estimate_millibits,
                flags=self._device.flags,
            )
        )

    def _send(self, report: Report) -> None:
        """Blocks while the daemon does not read; when it is gone there is nobody to tell."""
        try:
            self._link.send(encode_message(report))
        except OSError:
            self._is_over = True


def main() -> None:
    """`LINK MEMORY`: the two inherited descriptors. The daemon decides when this ends, so signals meant for it are not for us."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    link = socket.socket(fileno=int(sys.argv[1]))
    data = link.recv(MESSAGE_MAX_BYTES)
    if not data:
        return
    setup = decode_order(data)
    assert isinstance(setup, Setup), "the first order is Setup"
    forbid_core_dumps()
    locked = lock_memory() if setup.memory_lock else False
    DeviceWorker(link, SlotMemory(int(sys.argv[2]), setup.slots), setup, memory_locked=locked).run()


if __name__ == "__main__":
    main()
