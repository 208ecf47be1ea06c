"""The daemon's side of one device: its worker process, what it says, and the units it makes (`proto/spec/entropy-feed.md`).

    run:  start a worker ─▶ listen and give slots ─▶ it ended, or was silent too long: kill, wait, start again
                                      └─ the device's errors are its own affair and end no worker

A device whose worker ended is `absent` (E-DEV-WORKER) until the next one has opened it, and is tested from the beginning then. No other
source is ever read in its place.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace

import msgspec
import trio

from qrngd.bell import Bell
from qrngd.device_config import DeviceConfig
from qrngd.devices import reopen_delay_ms
from qrngd.health.state import INTERMITTENT_LIMIT, DeviceState, StateChanged
from qrngd.latches import Latches
from qrngd.pipeline import Measurement, Pipeline
from qrngd.slots import SlotMemory
from qrngd.status import StateChange
from qrngd.stock import ReadyUnit, Span, Stock
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
    decode_report,
    encode_message,
    socket_pair,
)
from qustream.aio.logs import logger
from qustream.errors import QuStreamError, fault
from qustream.model.entropy import Conditioning, DeviceDescriptor, HealthReport

__all__ = ["HISTORY_LENGTH", "DeviceHost"]

# A worker speaks twice a second, and may be inside a driver's `open` for a few; after this it hangs.
SILENCE_LIMIT_S = 20.0
# For a worker to wipe its memory when it is told to end; then it is killed.
FAREWELL_S = 2.0
# Changes of state kept for the operator to look at; more is what the log is for.
HISTORY_LENGTH = 64
# One read of the link: so many reports before others have their turn.
REPORTS_AT_ONCE = 64
# The rate shown is over the last minute, from one figure a second.
RATE_SPAN_S = 60
# Between the end of the link and that of the process, which says how it ended.
LAST_BREATH_S = 0.5
ENDED = "the worker has ended"
MS_PER_S = 1000
COUNTS_MAX = 1 << 63  # U63: 39 years of credited bits at 7.5 Gbit/s
# Half of what nodes tolerate (`entropy-feed.md`, "Checks"): units further ahead of the clock are from before it was set back.
AHEAD_MAX_MS = 30_000


class DeviceHost:
    """One task (`run`). `on_change` hears of every change of state after it is on disk where it has to be; `stirred` rings when there are
    more units. `in_flight_units`: how many may be with the feed at once."""

    def __init__(
        self,
        config: DeviceConfig,
        *,
        stock_units: int,
        in_flight_units: int,
        latches: Latches,
        stirred: Bell,
        on_change: Callable[[DeviceHost, StateChanged], None],
        clock_ms: Callable[[], int],
        memory_lock: bool = False,
        silence_s: float = SILENCE_LIMIT_S,
    ) -> None:
        self.config, self.name = config, config.name
        self.descriptor: DeviceDescriptor = config.expected
        # What an attestation says of tests and conditioning follows from the configuration alone; the worker computes the same.
        self._rules = Pipeline(
            config.expected,
            draw=bytes,
            reseed=lambda _: None,
            assessed_min_entropy_millibits=config.assessed_min_entropy_millibits,
        )
        latched = latches.read(self.name)
        self.state = DeviceState.STARTING if latched is None else DeviceState.FAILED
        self.code, self.reason = ("", "the daemon has started") if latched is None else latched
        self.since_ms = self._listened_ms = clock_ms()
        self.history: deque[StateChange] = deque(maxlen=HISTORY_LENGTH)
        self.worker_starts = 0
        self.memory_locked = False
        self.figures = Figures(Measurement(), 0, 0, 0, 0, None, ())
        self._earlier = self.figures  # what the workers before this one counted
        self._counted = self.figures.measured  # up to the last unit or figures that came, whichever was later
        self._unrecorded: tuple[str, int] | None = None  # reason and moment of a failure that is not on disk yet
        self.latch_trouble = ""  # why it is not
        self._alarms: deque[int] = deque(maxlen=INTERMITTENT_LIMIT)  # windows counted before each; they outlive the worker that saw them
        self._live_ms = 0
        self._rates: deque[tuple[int, int]] = deque(maxlen=RATE_SPAN_S)
        self._stock_units, self._latches, self._stirred, self._clock_ms = stock_units, latches, stirred, clock_ms
        self._on_change, self._memory_lock = on_change, memory_lock
        self._memory = SlotMemory.create(stock_units + 1 + in_flight_units)
        self.stock = Stock(self._memory, stock_units)
        self._link: socket.socket | None = None
        self._silence_s = silence_s
        self.worker_pid: int | None = None

    # --- what others want to know

    @property
    def live_ms(self) -> int:
        """How long the device has been live, all told."""
        running = self._clock_ms() - self.since_ms if self.state is DeviceState.LIVE else 0
        return self._live_ms + max(0, running)

    @property
    def raw_rate_bps(self) -> int:
        """Raw bits a second over the last minute."""
        if len(self._rates) < 2:
            return 0
        (first_ms, first), (last_ms, last) = self._rates[0], self._rates[-1]
        return 8 * MS_PER_S * (last - first) // max(1, last_ms - first_ms)

    @property
    def rules(self) -> Pipeline:
        """Cutoffs, layout and min-entropy that this device is judged by."""
        return self._rules

    def health_report(self, between: Measurement) -> HealthReport:
        """The attestation's health part for what was measured `between` two moments."""
        return self._rules.health_report(between)

    def conditioning_report(self) -> Conditioning:
        """The attestation's conditioning part."""
        return self._rules.conditioning_report()

    # --- units

    @property
    def units(self) -> int:
        """Units that could be taken now."""
        return self.stock.units

    def take(self) -> ReadyUnit:
        """The oldest unit."""
        unit = self.stock.take()
        self.give_slots()
        return unit

    def give_slots(self) -> None:
        """Let the worker have what slots are due; call it when some have become free."""
        if self._link is not None and (slots := self.stock.due()) and not self._tell(Give(slots)):
            self.stock.withdraw(slots)

    def drop_older(self, than_ms: int) -> None:
        """Throw away stock that was read before `than_ms`, or in what is the future now, and unused memory. Call it every second."""
        self.stock.drop_outside(than_ms, self._clock_ms() + AHEAD_MAX_MS)
        self.stock.shrink()
        self.give_slots()
        self._record_latch()

    # --- what the operator asks

    def clear(self, reason: str) -> None:
        """The operator has examined the device. Raises E-DEV-STATE if nothing is latched; E-DISK-FULL, E-FILE."""
        if self.state is not DeviceState.FAILED:
            raise fault("E-DEV-STATE", f"{self.name} is {self.state}; only a latched failure can be cleared")
        self._latches.clear(self.name, reason, self._clock_ms())
        self._unrecorded, self.latch_trouble = None, ""
        self._alarms.clear()
        self._move(DeviceState.STARTING, "", f"cleared by the operator: {reason}")
        if self._link is not None and not self._tell(Clear(reason)):
            self._link.shutdown(socket.SHUT_RDWR)  # the next worker begins without it

    def retest(self, reason: str) -> None:
        """Run the start-up test again. Raises E-DEV-STATE while the device is not open, E-DEV-WORKER when nobody listens."""
        if self.state is DeviceState.FAILED:
            raise fault("E-DEV-STATE", f"{self.name} has failed; only qrngd clear ends that, and then it is tested")
        if self.state not in (DeviceState.LIVE, DeviceState.SUSPECT):
            raise fault("E-DEV-STATE", f"{self.name} is {self.state}; it is tested as soon as it is open")
        if not self._tell(Retest(reason)):
            raise fault("E-DEV-WORKER", f"the worker of {self.name} does not listen now; it is killed if it goes on so")

    # --- the worker

    async def run(self) -> None:
        """Keep a worker running until cancelled."""
        attempt = 0
        while True:
            started_s = trio.current_time()
            try:
                link, process = await self._start()
            except OSError as error:  # no descriptor, memory or process is left for a moment
                self._gone(f"no worker can be started: {error.strerror}")
            else:
                await self._live(link, process)
            attempt = 0 if trio.current_time() - started_s > SILENCE_LIMIT_S else attempt + 1
            await trio.sleep(reopen_delay_ms(attempt) / MS_PER_S)

    async def _start(self) -> tuple[socket.socket, trio.Process]:
        """A worker and our end of the link to it. Raises OSError."""
        ours, theirs = socket_pair()
        ours.setblocking(False)
        with contextlib.ExitStack() as unless_started, theirs:
            unless_started.callback(ours.close)
            process = await trio.lowlevel.open_process(
                [sys.executable, "-I", "-m", "qrngd.worker.process", str(theirs.fileno()), str(self._memory.fd)],
                stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), self._memory.fd),
            )  # fmt: skip
            unless_started.pop_all()
        return ours, process

    async def _live(self, link: socket.socket, process: trio.Process) -> None:
        """One worker to its end. Nodes hear that it is given up before it is certain to be dead; its slots come back after that."""
        self._link, self.worker_pid = link, process.pid
        self.worker_starts += 1
        latched = (self.code, self.reason) if self.state is DeviceState.FAILED else None
        alarms = tuple(window - self._counted.windows for window in self._alarms)
        self._tell(Setup(self.config, self._memory.count, latched, alarms, self._memory_lock))
        self.give_slots()
        try:
            reason = await self._listen(link)
            self._link = None
            if reason.startswith(ENDED):
                with trio.move_on_after(LAST_BREATH_S):
                    reason = f"{reason}: {_how(await process.wait())}"
            self._gone(reason)
        finally:
            self._link = self.worker_pid = None
            link.close()
            with trio.CancelScope(shield=True):
                with trio.move_on_after(FAREWELL_S):
                    await process.wait()
                process.kill()
                code = await process.wait()
            logger("qrngd").debug("worker ended", device=self.name, exit_code=code)
            self.stock.reclaim()
            self._earlier = msgspec.structs.replace(self.figures, measured=self._counted)

    async def _listen(self, link: socket.socket) -> str:
        while True:
            heard = False
            with trio.move_on_after(self._silence_s):
                await trio.lowlevel.wait_readable(link)
                heard = True
            if not heard:
                return f"the worker said nothing for {self._silence_s:g} s"
            try:
                for _ in range(REPORTS_AT_ONCE):
                    data = link.recv(MESSAGE_MAX_BYTES)
                    if not data:
                        return ENDED
                    self._take_report(decode_report(data))
            except BlockingIOError:
                pass
            except OSError:
                return ENDED
            except (msgspec.DecodeError, KeyError) as error:
                return f"the worker said what no worker says: {type(error).__name__}"

    def _take_report(self, report: Report) -> None:
        if isinstance(report, Made):
            for made in report.units:
                self._take_unit(made)
            self.give_slots()
            self._stirred.ring()
        elif isinstance(report, Figures):
            self._take_figures(report)
        elif isinstance(report, Opened):
            self.descriptor, self.memory_locked = report.device, report.memory_locked
        else:
            self._take_change(report)

    def _take_unit(self, made: MadeUnit) -> None:
        if not self.stock.is_given(made.slot):
            raise KeyError(made.slot)
        if self.state is DeviceState.FAILED:
            raise KeyError(self.state)
        before, self._counted = _sum(made.before, self._earlier.measured), _sum(made.after, self._earlier.measured)
        self.stock.put(made.slot, made.digest, Span(self.descriptor, before, self._counted, made.start_ms, made.end_ms))

    def _take_figures(self, figures: Figures) -> None:
        self.figures = total_figures(figures, self._earlier)
        self._counted = self.figures.measured
        at_ms = int(trio.current_time() * MS_PER_S)  # the wall clock may be set back, and the rate would stand still
        if not self._rates or at_ms - self._rates[-1][0] >= MS_PER_S:
            self._rates.append((at_ms, self.figures.raw_bytes))

    def _take_change(self, change: Changed) -> None:
        if change.after is DeviceState.FAILED:
            self.stock.clear()
            self._unrecorded = (change.reason, change.at_ms)
            self._record_latch()
        elif self.state is DeviceState.FAILED:
            raise KeyError(change.after)  # only the operator's word leads out of it, and `clear` has that
        elif (change.after, change.code, change.reason) == (self.state, self.code, self.reason):
            return  # the worker says after us that the operator has cleared it
        if change.after is DeviceState.SUSPECT:
            self._alarms.append(self._counted.windows)
        self._move(change.after, change.code, change.reason)
        self.give_slots()

    def _record_latch(self) -> None:
        """Put a failure on disk. What cannot be written holds as long as this process lives, and is tried again."""
        if self._unrecorded is None:
            return
        try:
            self._latches.latch(self.name, *self._unrecorded)
            self._unrecorded, self.latch_trouble = None, ""
        except QuStreamError as error:
            self.latch_trouble = f"{error.code}: {error.detail}"
            if self.state is not DeviceState.FAILED:  # once
                logger("qrngd").error("latch not written", device=self.name, code=error.code, detail=error.detail)

    def _gone(self, reason: str) -> None:
        """There is no worker, or it is given up."""
        if self.state is DeviceState.FAILED or (self.state, self.reason) == (DeviceState.ABSENT, reason):
            return  # the reason of a latched failure stays; a retry that failed as the last one did is no news
        self._move(DeviceState.ABSENT, "E-DEV-WORKER", reason)

    def _tell(self, order: Order) -> bool:
        """False: a worker that has hung for long has left no room, or it is gone."""
        if self._link is None:
            return False
        try:
            self._link.send(encode_message(order))
        except OSError:
            return False
        return True

    def _move(self, after: DeviceState, code: str, reason: str) -> None:
        now_ms, change = self._clock_ms(), StateChanged(self.state, after, code, reason)
        if self.state is DeviceState.LIVE:
            self._live_ms += max(0, now_ms - self.since_ms)
        if self.state is not after:
            self.since_ms = now_ms
        self.state, self.code, self.reason = after, code, reason
        self.history.append(StateChange(now_ms, change.before, change.after, code, reason))
        self._on_change(self, change)


def _how(exit_code: int) -> str:
    """How a process ended, in words."""
    if exit_code < 0:
        return f"killed by signal {-exit_code} ({signal.strsignal(-exit_code) or 'unknown'})"
    return f"exit status {exit_code}; the journal has its last words" if exit_code else "by itself"


def total_figures(now: Figures, earlier: Figures) -> Figures:
    """`now` with what was counted before it began. Raises KeyError for counts that no device reaches."""
    return Figures(
        measured=_sum(now.measured, earlier.measured),
        raw_bytes=_count(now.raw_bytes, earlier.raw_bytes),
        opened=_count(now.opened, earlier.opened),
        read_errors=_count(now.read_errors, earlier.read_errors),
        dropped_bytes=_count(now.dropped_bytes, earlier.dropped_bytes),
        estimate_millibits=now.estimate_millibits,
        flags=now.flags,
    )


def _count(a: int, b: int) -> int:
    """The sum, which an attestation and a status can hold."""
    if not 0 <= a + b < COUNTS_MAX:
        raise KeyError(a + b)
    return a + b


def _sum(a: Measurement, b: Measurement) -> Measurement:
    numbers = {each.name: _count(getattr(a, each.name), getattr(b, each.name)) for each in fields(Measurement) if each.name != "alarms"}
    alarms = (_count(a.alarms[0], b.alarms[0]), _count(a.alarms[1], b.alarms[1]), _count(a.alarms[2], b.alarms[2]))
    return replace(a, **numbers, alarms=alarms)
