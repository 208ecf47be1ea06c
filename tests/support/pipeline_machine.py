"""Random histories of one device: every fault the emulator can do, crafted streams, losses, operators; checked against `Model`.

    tests/unit/qrngd/test_pipeline_faults.py     short, in the suite
    explore(minutes=10, seed=…)                  long; also: PYTHONPATH=tests:proto:. python -m support.pipeline_machine --minutes 10

What is certain, whatever the faults: every verdict, every state and every byte handed out are the model's. What a fault must lead to is
checked beside that, by the place of the fault alone: a window must not be used if

- it holds the C-th of equal samples of a stuck stretch, C being the repetition test's intermittent cutoff: certain;
- a stuck stretch fills it: certain;
- a biased stretch of bytes (claim 7 bits, 150 ‰) fills it: missed less than once in 2^29;
- a correlated stretch of bytes (250 ‰, lag at most 128) fills it: missed less than once in 2^60;
- of other widths, when 600 ‰ (biased) or 900 ‰ (correlated) fill it: missed less than once in 2^60;
- of bits, when 900 ‰ (biased, or correlated with a lag of at most 16 cells) fill it: missed less than once in 2^45.

A gross fault that fills less than a window may pass, and its whole window is judged by the counts that it reaches.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from numpy.typing import NDArray
from support.pipeline_model import OPEN, KnownDrbg, Model, macs_of

from qrngd.devices.emulator import EMULATOR_MIN_ENTROPY_MILLIBITS, Emulator
from qrngd.devices.faults import Fault, parse_faults
from qrngd.health.cutoffs import cutoffs_for
from qrngd.health.state import DeviceState, StateChanged
from qrngd.pipeline import Conditioned, Event, Pipeline, WindowDiscarded
from qustream.errors import QuStreamError, fault
from qustream.model.entropy import DeviceDescriptor

__all__ = ["PipelineMachine", "explore", "is_gross"]

WIDTHS = (1, 2, 4, 8, 8, 8, 12, 16)
# A slow device's clock moves so much from one read to the next.
TICK_MS = 40
# Below this, a run is put where it crosses from the window that waits into the next.
EDGE = 0.5
# Reads without a byte after which a device counts as dead; a slow one gives some at every tick.
SILENT_MAX = 3


def is_gross(fault: Fault, sample_bits: int) -> bool:
    """Whether a window that this fault fills is certain to fail (see above)."""
    permille = fault.numbers.get("permille", 0)
    lags = 16 if sample_bits == 1 else 128  # a cell of eight bits is eight lags
    return (
        fault.kind == "stuck"
        or (fault.kind == "biased" and permille >= {1: 900, 8: 150}.get(sample_bits, 600))
        or (fault.kind == "correlated" and permille >= (250 if sample_bits == 8 else 900) and fault.numbers["lag"] <= lags)
    )


def gross_stretches(faults: tuple[Fault, ...], sample_bits: int) -> list[Fault]:
    """The gross faults that no other fault meddles with."""
    spoilers = [fault for fault in faults if fault.kind in ("stuck", "biased", "correlated")]
    return [
        fault
        for fault in spoilers
        if is_gross(fault, sample_bits)
        and all(other is fault or other.end <= fault.start or fault.end <= other.start for other in spoilers)
    ]


@st.composite
def scripts(draw: st.DrawFn, sample_bits: int, window_bytes: int) -> str:
    """One to four faults within the first windows of the stream."""
    most = {1: 255}.get(sample_bits, (1 << sample_bits) - 1)
    texts = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["stuck", "biased", "correlated", "slow", "torn", "vanish", "swapped", "dead"]))
        keys = {"bytes": draw(st.integers(0, 8 * window_bytes))}
        if kind in ("vanish", "swapped"):
            keys["opens"] = draw(st.integers(0, 2))
        elif kind == "dead":
            keys["opens"] = draw(st.integers(1, 2))
        else:
            keys["length"] = draw(st.integers(1, 300) | st.integers(window_bytes, 4 * window_bytes))
        if kind in ("stuck", "biased"):
            keys["value"] = draw(st.integers(0, most))
        if kind in ("biased", "correlated"):
            keys |= {"permille": draw(st.integers(1, 1000)), "seed": draw(st.integers(0, 999))}
        if kind == "correlated":
            keys["lag"] = draw(st.integers(1, 130))
        if kind == "torn":
            keys["most"] = draw(st.integers(2000, 60_000))
        if kind == "slow":
            keys["rate"] = draw(st.integers(100_000, 10_000_000))
        texts.append(f"{kind}@" + ",".join(f"{key}={number}" for key, number in keys.items()))
    return "+".join(texts)


class SeededEmulator(Emulator):
    """The emulator, but for where its sound bytes come from: the same history gives the same bytes, and can be told again."""

    def __init__(self, seed: int, script: str, sample_bits: int, clock_ms: Callable[[], int]) -> None:
        super().__init__(script, sample_bits=sample_bits, clock_ms=clock_ms)
        self._rng = np.random.default_rng(seed)

    def _sound(self, buffer: memoryview) -> None:
        buffer[:] = self._rng.bytes(len(buffer))


class PipelineMachine(RuleBasedStateMachine):
    """See above. A device is either the emulator with a script or bytes made up here."""

    @initialize(sample_bits=st.sampled_from(WIDTHS), latched=st.booleans(), seed=st.integers(0, 99), data=st.data())
    def begin(self, sample_bits: int, latched: bool, seed: int, data: st.DataObject) -> None:
        claim = EMULATOR_MIN_ENTROPY_MILLIBITS * sample_bits // 8
        self.drbg = KnownDrbg()
        self.descriptor = DeviceDescriptor("emulator", "urandom", "", sample_bits, claim, 0, True, True, "/dev/urandom")
        reason = ("E-DEV-LATCHED", "recorded by an earlier run") if latched else None
        self.pipeline = Pipeline(self.descriptor, draw=self.drbg.draw, reseed=self.drbg.reseed, latched=reason)
        self.model = Model(cutoffs_for(claim, sample_bits))
        if latched:
            self.model.state = DeviceState.FAILED
        self.layout = self.model.layout
        self.now_ms = 0
        script = data.draw(scripts(sample_bits, self.layout.window_bytes))
        self.faults = parse_faults(script)
        self.emulator = SeededEmulator(seed, script, sample_bits, lambda: self.now_ms)
        self.emulating = False
        self.cell_bytes = max(1, self.layout.stored_bits // 8)
        self.fed = 0  # bytes since the device was opened or tested anew; so many windows had been judged before:
        self.first_window = self.used_windows = 0
        self.sick: list[tuple[int, int]] = []  # stretches of these bytes that a gross fault fills, [start, end)
        self.stuck: list[tuple[int, int]] = []  # stretches of equal samples
        self.half = b""  # of made up samples, what is still to come of the last
        self.untested = {0}  # windows that only a start-up test may have seen

    # --- opening, losing, the operator

    @precondition(lambda self: self.model.state in (DeviceState.STARTING, DeviceState.ABSENT))
    @rule(emulated=st.booleans())
    def open(self, emulated: bool) -> None:
        descriptor, self.emulating = self.descriptor, emulated
        if emulated:
            try:
                descriptor = self.emulator.open()
            except QuStreamError as error:
                self._lost(error)
                return
        events = self.pipeline.opened(descriptor)
        self.model.opened()
        self._anew()
        self.half = b""
        self._check(events)

    def _anew(self, half: int = 0) -> None:
        self.fed, self.first_window = half, self.model.windows
        self.sick, self.stuck = [], []
        self.untested.add(self.model.windows)

    def _lost(self, error: QuStreamError) -> None:
        again = (self.model.state, self.pipeline.code, self.pipeline.reason) == (DeviceState.ABSENT, error.code, error.detail)
        events = self.pipeline.lost(error.code, error.detail)
        self.model.lost()
        if again:
            self.model.states.clear()  # the same failure is not told twice
        self._check(events)

    @precondition(lambda self: self.model.state in (*OPEN, DeviceState.FAILED))
    @rule()
    def lose(self) -> None:
        self.emulator.close()
        self._lost(fault("E-DEV-READ", "torn cable"))

    @rule()
    def clear(self) -> None:
        if self.model.state is DeviceState.FAILED:
            self.emulator.close()
        events = self.pipeline.clear("examined")
        self.model.clear()
        self._check(events)

    @precondition(lambda self: self.model.state in OPEN)
    @rule()
    def retest(self) -> None:
        events = self.pipeline.retest("asked for")
        self.model.retest()
        if events:
            self._anew(len(self.model.waiting))
        self._check(events)

    @rule()
    def estimate(self) -> None:
        self.pipeline.estimate_next()

    # --- the stream

    @precondition(lambda self: self.model.state in OPEN and self.emulating)
    @rule(windows=st.floats(0.001, 3), reads=st.integers(1, 4))
    def read(self, windows: float, reads: int) -> None:
        """What the emulator gives; where it gives nothing for long, it is lost."""
        buffer = memoryview(bytearray(int(windows * self.layout.window_bytes) + 1))
        silent = 0
        while reads and self.model.state is not DeviceState.FAILED:
            self.now_ms += TICK_MS
            offset = self.fed - self.emulator._place
            try:
                size = self.emulator.readinto(buffer)
            except QuStreamError as error:
                self._lost(error)
                return
            if not size:
                silent += 1
                if silent > SILENT_MAX:
                    self.emulator.close()
                    self._lost(fault("E-DEV-READ", "silent"))
                    return
                continue
            reads -= 1
            self._look_up(offset)
            self._feed(bytes(buffer[:size]))

    def _look_up(self, offset: int) -> None:
        """Where the script's gross faults stand; `offset`: from its places to the bytes counted here."""
        self.sick, self.stuck = [], []
        for each in gross_stretches(self.faults, self.layout.sample_bits):
            low, high = (-(-place // self.cell_bytes) * self.cell_bytes + offset for place in (each.start, each.end))
            self.sick.append((max(0, low), high))
            if each.kind == "stuck" and self.layout.sample_bits > 1:
                self.stuck.append((max(0, low), high))

    def _good(self, windows: float, seed: int) -> NDArray[np.unsignedinteger]:
        """Samples (bytes, where samples are bits) that complete the one which a cut has left, and `windows` more."""
        bits = self.layout.sample_bits
        size = int(windows * self.layout.window_bytes) // self.cell_bytes + 1
        most = 256 if bits == 1 else 1 << bits
        cells: NDArray[np.unsignedinteger] = np.random.default_rng(seed).integers(0, most, size, dtype=np.uint16)
        return cells.astype(np.uint8) if self.cell_bytes == 1 else cells.astype("<u2")

    def _feed_cells(self, cells: NDArray[np.unsignedinteger], cut: int) -> None:
        """In two parts, the second of which may begin in the middle of a sample; a part of the last one may be left for later."""
        raw = self.half + cells.tobytes()
        self.half = raw[len(raw) - cut % self.cell_bytes :] if cut % self.cell_bytes else b""
        raw = raw[: len(raw) - len(self.half)]
        self._feed(raw[: len(raw) * cut // 100])
        if self.model.state is not DeviceState.FAILED:
            self._feed(raw[len(raw) * cut // 100 :])

    @property
    def _next(self) -> int:
        """Where the next whole sample will stand, in the bytes counted here."""
        return self.fed + len(self.half)

    made_up = precondition(lambda self: self.model.state in OPEN and not self.emulating)
    windows = st.floats(0.001, 2.5) | st.just(1.0)
    seeds, cuts = st.integers(0, 99), st.integers(0, 100)

    @made_up
    @rule(windows=windows, seed=seeds, cut=cuts)
    def sound(self, windows: float, seed: int, cut: int) -> None:
        self._feed_cells(self._good(windows, seed), cut)

    @made_up
    @rule(seed=seeds)
    def much(self, seed: int) -> None:
        """More than a batch."""
        self._feed_cells(self._good(17.2, seed), 100)

    @made_up
    @rule(windows=windows, seed=seeds, cut=cuts, what=st.tuples(st.integers(0, 1), st.integers(0, 1)), place=st.floats(0, 1))
    def run_of_equals(self, windows: float, seed: int, cut: int, what: tuple[int, int], place: float) -> None:
        """As many equal samples as a cutoff has, or one fewer, which ends somewhere and may cross from one window to the next."""
        cells, (level, less) = self._good(windows, seed), what
        length = self.model.cutoffs.repetition[level] - less
        bits = np.unpackbits(cells.astype(np.uint8)) if self.layout.sample_bits == 1 else cells
        room = max(0, bits.size - length)
        to_edge = (self.layout.window_bytes - len(self.model.waiting) - len(self.half)) * 8 // self.layout.stored_bits
        start = min(room, max(0, to_edge - int(2 * place * length))) if place < EDGE else int(place * room)
        bits[start : start + length] = 1
        for neighbour in (start - 1, start + length):
            if 0 <= neighbour < bits.size:
                bits[neighbour] = 0
        if not less and start + length <= bits.size and self.layout.sample_bits > 1:
            self.stuck.append((self._next + start * self.cell_bytes, self._next + (start + length) * self.cell_bytes))
        self._feed_cells(np.packbits(bits) if self.layout.sample_bits == 1 else bits, cut)

    @made_up
    @rule(windows=windows, seed=seeds, cut=cuts, period=st.integers(1, 128))
    def periodic(self, windows: float, seed: int, cut: int, period: int) -> None:
        """Good samples, over and over; of bits, so many bytes that the lag predictor reaches."""
        cells = self._good(windows, seed)
        period = -(-period // 8) if self.layout.sample_bits == 1 else period
        self.sick.append((self._next, self._next + cells.nbytes))
        self._feed_cells(np.resize(cells[:period], cells.size), cut)

    @precondition(lambda self: self.model.state in OPEN and not self.emulating and self.layout.sample_bits not in (1, 8, 16))
    @rule(seed=seeds)
    def too_wide(self, seed: int) -> None:
        """A sample with a bit above its width, in the window that it completes."""
        raw = bytearray((self.half + self._good(1, seed).tobytes())[: self.layout.window_bytes - len(self.model.waiting)])
        raw[-1] |= 0x80
        with pytest.raises(QuStreamError, match="E-DEV-READ") as caught:
            self.pipeline.feed(raw)
        self._lost(caught.value)

    @precondition(lambda self: self.model.state is DeviceState.FAILED)
    @rule()
    def nothing_goes_through_a_device_that_has_failed(self) -> None:
        for raw in (bytes(self.layout.window_bytes), b""):
            with pytest.raises(QuStreamError, match="E-DEV-LATCHED"):
                self.pipeline.feed(raw)

    def _feed(self, raw: bytes) -> None:
        self.model.feed(raw)
        self.fed += len(raw)
        self._check(self.pipeline.feed(raw))

    # --- what must hold

    def _check(self, events: list[Event]) -> None:
        """The events are those of the model; what is handed out is the model's windows and the known draws, and nothing else."""
        assert [event.after for event in events if isinstance(event, StateChanged)] == self.model.states
        discarded = [(event.verdict.window, event.verdict.grade) for event in events if isinstance(event, WindowDiscarded)]
        assert discarded == self.model.failed
        self.untested |= {number + 1 for number, _ in discarded}
        passed = iter(self.model.passed)
        for event in events:
            if isinstance(event, Conditioned):
                expected = b""
                for number in range(event.first_window, event.last_window + 1):
                    known, window = next(passed)
                    assert known == number
                    assert number not in self.untested
                    assert not self._is_sick(number)
                    expected += macs_of(window, self.pipeline.conditioning_report().raw_bytes)
                    self.used_windows += 1
                assert self.drbg.unmask(event.data) == expected
        assert next(passed, None) is None
        assert self.drbg.is_used_up
        self.model.states.clear()
        self.model.failed.clear()
        self.model.passed.clear()

    def _is_sick(self, number: int) -> bool:
        """Whether a gross fault fills the window, or a stuck sample reaches the cutoff in it."""
        start = (number - self.first_window) * self.layout.window_bytes
        end = start + self.layout.window_bytes
        return any(low <= start and end <= high for low, high in self.sick) or any(start <= at < end for at in self._alarms())

    def _alarms(self) -> list[int]:
        """Where stuck stretches reach the repetition test's cutoff. (Of bits, a stuck byte is no run.)"""
        reach = self.model.cutoffs.repetition[0] * self.cell_bytes
        return [low + reach - 1 for low, high in self.stuck if high - low >= reach]

    @invariant()
    def nothing_is_taken_that_was_not_credited(self) -> None:
        measured = self.pipeline.measured
        lanes = self.layout.window_bytes // self.pipeline.conditioning_report().raw_bytes
        assert measured.credited_bits == 128 * lanes * self.used_windows
        assert 8 * (measured.conditioned_bytes + measured.seed_bytes) <= measured.credited_bits
        assert measured.windows == measured.windows_passed + measured.windows_discarded + measured.windows_startup == self.model.windows

    @invariant()
    def the_state_is_the_models(self) -> None:
        assert self.pipeline.state is self.model.state
        assert bool(self.pipeline.code) == (self.model.state in (DeviceState.SUSPECT, DeviceState.FAILED, DeviceState.ABSENT))

    def teardown(self) -> None:
        self.emulator.close()


def explore(*, minutes: float, first_seed: int = 0, steps: int = 60) -> int:
    """Histories for so long, one seed after the other; returns how many seeds. The first that fails is raised, with its steps."""
    ends_s = time.monotonic() + 60 * minutes
    plan = settings(
        max_examples=5, stateful_step_count=steps, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink), print_blob=True,
    )  # fmt: skip
    for number in count(first_seed):
        if time.monotonic() >= ends_s:
            return number - first_seed
        machine = type(f"PipelineMachine{number}", (PipelineMachine,), {})
        run_state_machine_as_test(seeded(number)(machine), settings=plan)
    raise AssertionError("unreachable")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{explore(minutes=arguments.minutes, first_seed=arguments.seed)} seeds, nothing found")
