"""From raw bytes to conditioned bytes: health, conditioning and the ledger of one device, in one synchronous object.

    pipeline = Pipeline(descriptor, draw=ssl.RAND_bytes, reseed=lambda seed: ssl.RAND_add(seed, 0.0))
    pipeline.opened(device.open())
    while True:
        for event in pipeline.feed(device.read(1 << 20)):
            Conditioned        `data` is the caller's: cut units out of it; `measured` says what stands behind it
            WindowDiscarded    a window that failed: its samples are gone, nothing was credited
            StateChanged       the device's state, a code and a reason, for the feed, the log, the metrics
    on an error of the device:  pipeline.lost(error.code, error.detail)

Contract:
- `feed` takes any number of bytes in any cut; the cut changes no verdict and no state. Bytes of a window that is not yet complete
  wait inside (less than one window, at most 128 KiB). Buffers of 1 MiB and more go through without being copied.
- Events come in the order of the stream. `Conditioned` is made of windows that passed while the device was live, of no others.
- The start-up test is the first full window after every `opened`, every failed window and every `retest`; it is never used for
  output.
- The caller must stop reading and close the device when the state is `failed` (`feed` then raises E-DEV-LATCHED) and may open it
  again only when it is `starting` (also after `clear`) or `absent`.
- Synchronous, no clock, no I/O but the two callables. One thread at a time; a worker thread is the right place.
- Memory handed out is never touched again; memory kept inside is overwritten by `wipe`, and at every `lost`.

The two callables are the SP 800-90A DRBG beside the device (the RBG3(XOR) shape of SP 800-90C): `draw(n)` returns n bytes,
`reseed(seed)` mixes 48 bytes in. For every 2^18 bits of output 48 conditioned bytes leave the stream as a seed; then up to 32,768
DRBG bytes are drawn and XORed onto as many conditioned ones. Whoever knows the DRBG faces the device, and whoever controls the
device faces the DRBG.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qrngd.conditioning.cbcmac import BLOCK_BYTES, CONDITIONING_NAME, LaneConditioner, blocks_for
from qrngd.conditioning.ledger import EntropyLedger
from qrngd.health.continuous import BATCH_WINDOWS, ContinuousTests
from qrngd.health.cutoffs import Cutoffs, cutoffs_for
from qrngd.health.estimate import estimate
from qrngd.health.samples import Layout
from qrngd.health.state import DeviceMachine, DeviceState, StateChanged
from qrngd.health.verdict import Grade, HealthTest, WindowVerdict
from qustream.errors import QuStreamError, fault
from qustream.model.entropy import Conditioning, DeviceDescriptor, HealthReport

__all__ = [
    "RESEED_INTERVAL_BYTES",
    "SEED_BYTES",
    "Conditioned",
    "Event",
    "Measurement",
    "Pipeline",
    "WindowDiscarded",
]

# The seed length of AES-256 CTR_DRBG (SP 800-90A table 3): 384 bits.
SEED_BYTES = 48
# 2^18 bits: a reseed costs about 4 µs. At 2^17, the shortest interval the design asks for, the rate targets were missed once units are
# hashed (9.4 against 10.0 Gbit/s a CPU second); still longer ones gain nothing more.
RESEED_INTERVAL_BYTES = 1 << 15


@dataclass(frozen=True, slots=True)
class Measurement:
    """Counters since the daemon started, or between two moments (`since`). Windows are verdict windows (`Layout.window_samples`).

    `windows` = passed + discarded (failed) + start-up (passed, but consumed by the test). `alarms`: windows in which each test
    spoke, in the order repetition count, adaptive proportion, lag predictor. `seed_bytes` left the stream as DRBG seeds;
    `conditioned_bytes` were handed out; `credited_bits` is 128 a lane of the windows behind both.
    """

    samples: int = 0
    windows: int = 0
    windows_passed: int = 0
    windows_discarded: int = 0
    windows_startup: int = 0
    alarms: tuple[int, int, int] = (0, 0, 0)
    conditioned_bytes: int = 0
    seed_bytes: int = 0
    credited_bits: int = 0

    def since(self, earlier: Measurement) -> Measurement:
        """What happened between `earlier` and this measurement."""
        alarms = tuple(now - then for now, then in zip(self.alarms, earlier.alarms, strict=True))
        return Measurement(
            samples=self.samples - earlier.samples,
            windows=self.windows - earlier.windows,
            windows_passed=self.windows_passed - earlier.windows_passed,
            windows_discarded=self.windows_discarded - earlier.windows_discarded,
            windows_startup=self.windows_startup - earlier.windows_startup,
            alarms=(alarms[0], alarms[1], alarms[2]),
            conditioned_bytes=self.conditioned_bytes - earlier.conditioned_bytes,
            seed_bytes=self.seed_bytes - earlier.seed_bytes,
            credited_bits=self.credited_bits - earlier.credited_bits,
        )


@dataclass(frozen=True, slots=True)
class Conditioned:
    """Full-entropy bytes from windows `first_window` … `last_window`, all passed. `measured`: everything up to the last of them.

    `data` is writable and the receiver's alone: wipe it with `data[:] = bytes(len(data))` when it has been used.
    """

    data: memoryview
    first_window: int
    last_window: int
    measured: Measurement

    def __repr__(self) -> str:
        return f"Conditioned({len(self.data)} bytes, windows {self.first_window}-{self.last_window})"


@dataclass(frozen=True, slots=True)
class WindowDiscarded:
    """A window that failed; nothing of it is credited or handed out."""

    verdict: WindowVerdict


Event: TypeAlias = Conditioned | WindowDiscarded | StateChanged


class Pipeline:
    """One device's way from raw to conditioned. See the module's contract."""

    def __init__(
        self,
        descriptor: DeviceDescriptor,
        *,
        draw: Callable[[int], bytes],
        reseed: Callable[[bytes], None],
        assessed_min_entropy_millibits: int | None = None,
        latched: tuple[str, str] | None = None,
        alarms: Iterable[int] = (),
    ) -> None:
        """`assessed_min_entropy_millibits`: a laboratory's figure a sample; the smaller of it and the claim counts. `latched`: code
        and reason of a failure recorded by an earlier run; the device then stands in `failed` until `clear`. `alarms`: see `DeviceMachine`.

        Raises E-CONFIG when the sample width or the min-entropy cannot be worked with.
        """
        claimed = descriptor.min_entropy_millibits
        entropy = claimed if assessed_min_entropy_millibits is None else min(claimed, assessed_min_entropy_millibits)
        self.descriptor = descriptor
        self.min_entropy_millibits = entropy
        self.cutoffs: Cutoffs = cutoffs_for(entropy, descriptor.sample_bits)
        self.layout: Layout = Layout(descriptor.sample_bits)
        blocks = blocks_for(entropy, self.layout.stored_bits)
        self._conditioner = LaneConditioner(blocks=blocks, window_bytes=self.layout.window_bytes, windows_max=BATCH_WINDOWS)
        lane_samples = 8 * self._conditioner.lane_bytes // self.layout.stored_bits
        self._ledger = EntropyLedger(samples_per_lane=lane_samples, min_entropy_millibits=entropy)
        self._tests = ContinuousTests(self.cutoffs)
        self._machine = DeviceMachine(latched, alarms)
        self._draw, self._reseed = draw, reseed
        self._waiting = np.empty(self.layout.window_bytes, dtype=np.uint8)
        self._waiting_bytes = 0
        self._trouble: QuStreamError | None = None  # of the stream, to be told at the next call
        self._measured = Measurement()
        self._estimating = False
        self.min_entropy_estimate_millibits: int | None = None  # the last one since the device was opened; it decides nothing

    # --- what others want to know

    @property
    def state(self) -> DeviceState:
        return self._machine.state

    @property
    def reason(self) -> str:
        """Why the device is in this state, for people."""
        return self._machine.reason

    @property
    def code(self) -> str:
        """The error code of this state, '' when nothing is wrong."""
        return self._machine.code

    @property
    def measured(self) -> Measurement:
        """Counters up to the last complete window."""
        return self._measured

    def estimate_next(self) -> None:
        """Estimate the min-entropy of the next window that is used, for `min_entropy_estimate_millibits`. Costs as much as ten
        windows of testing, so ask once a second and not for each."""
        self._estimating = True

    def health_report(self, between: Measurement) -> HealthReport:
        """The attestation's health part for what was measured `between` two moments."""
        return HealthReport(
            samples=between.samples,
            windows=between.windows,
            windows_failed=between.windows_discarded,
            rct_cutoff=self.cutoffs.repetition[0],
            apt_cutoff=self.cutoffs.proportion[0],
            apt_window=self.cutoffs.window_samples,
            alpha_exponents=self.cutoffs.alpha_exponents,
        )

    def conditioning_report(self) -> Conditioning:
        """The attestation's conditioning part."""
        return Conditioning(
            name=CONDITIONING_NAME,
            raw_bytes=self._conditioner.lane_bytes,
            out_bytes=BLOCK_BYTES,
            min_entropy_millibits_per_bit=max(1, self.min_entropy_millibits // self.layout.stored_bits),
        )

    # --- what happens to the device

    def opened(self, descriptor: DeviceDescriptor) -> list[Event]:
        """The device is open; the start-up test begins. Width and claim come from the configuration and cannot have changed."""
        assert descriptor.sample_bits == self.descriptor.sample_bits, "the sample width is fixed"
        assert descriptor.min_entropy_millibits == self.descriptor.min_entropy_millibits, "the claimed entropy is fixed"
        assert not self._waiting_bytes, "a loss throws the unfinished window away"
        self.descriptor = descriptor
        self._tests.restart(self._measured.windows)
        self.min_entropy_estimate_millibits = None
        return self._changed(self._machine.opened(descriptor.source or descriptor.model))

    def lost(self, code: str, reason: str) -> list[Event]:
        """The device could not be opened or read any more. An unfinished window is thrown away."""
        self.wipe()
        return self._changed(self._machine.lost(code, reason))

    def clear(self, reason: str) -> list[Event]:
        """The operator has examined the device that had failed, and says so: it may be opened again, and is tested from the
        beginning. Nothing happens to a device that has not failed."""
        return self._changed(self._machine.clear(reason))

    def retest(self, reason: str) -> list[Event]:
        """Test the open device anew, on demand (SP 800-90B §4.3): an unfinished window is thrown away, and the next whole one is
        the start-up test. Nothing happens to a device that is closed, or whose start-up test still runs."""
        events = self._changed(self._machine.retest(reason))
        if events:
            self._drop_unfinished()
        return events

    def _drop_unfinished(self) -> None:
        """Throw the unfinished window away, but for a byte that is half a sample: the stream goes on with its other half."""
        half = self._waiting_bytes % max(1, self.layout.stored_bits // 8)
        kept = self._waiting[self._waiting_bytes - half : self._waiting_bytes].copy()
        self.wipe()
        self._wait(kept, half)
        self._tests.restart(self._measured.windows)

    def wipe(self) -> None:
        """Overwrite every raw or conditioned byte kept inside; an unfinished window is thrown away."""
        self._waiting.fill(0)
        self._waiting_bytes = 0
        self._trouble = None
        self._conditioner.wipe()

    # --- the stream

    def feed(self, raw: memoryview | bytes | bytearray) -> list[Event]:
        """Take raw bytes, return what follows from them. Raises E-DEV-LATCHED when the device has failed for good, E-DEV-READ
        when samples are wider than configured (call `lost` then, as for any other error of the device); where events came
        before that, they are returned, and the next call raises."""
        if self._latched():
            raise fault("E-DEV-LATCHED", self.reason)
        if self._trouble is not None:
            raise self._trouble
        assert self.state not in (DeviceState.STARTING, DeviceState.ABSENT), "feed before opened"
        events: list[Event] = []
        try:
            self._judge_all(np.frombuffer(raw, dtype=np.uint8), events)
        except QuStreamError as error:
            if not events:
                raise
            self._trouble = error
        return events

    def _judge_all(self, stream: NDArray[np.uint8], events: list[Event]) -> None:
        """Judge every window that `stream` completes, in batches, and put the rest aside."""
        window_bytes = self.layout.window_bytes
        if self._waiting_bytes:
            stream = self._wait(stream, window_bytes - self._waiting_bytes)
            if self._waiting_bytes == window_bytes:
                self._waiting_bytes = 0
                events += self._batch(self._waiting)
        whole = stream.size - stream.size % window_bytes
        for start in range(0, whole, BATCH_WINDOWS * window_bytes):
            if self._latched():
                return
            events += self._batch(stream[start : min(whole, start + BATCH_WINDOWS * window_bytes)])
        if not self._latched():
            self._wait(stream[whole:], window_bytes)

    def _latched(self) -> bool:
        return self._machine.state is DeviceState.FAILED

    def _wait(self, stream: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
        """Put up to `most` bytes aside until their window is whole; return the rest."""
        taken = stream[:most]
        self._waiting[self._waiting_bytes : self._waiting_bytes + taken.size] = taken
        self._waiting_bytes += taken.size
        return stream[taken.size :]

    def _batch(self, raw: NDArray[np.uint8]) -> list[Event]:
        """Judge up to `BATCH_WINDOWS` whole windows, then walk through them; a stretch of good ones is conditioned at once."""
        verdicts = self._tests.judge(raw)
        window_bytes = self.layout.window_bytes
        events: list[Event] = []
        start = 0  # first window of the stretch that may still be used
        for number, verdict in enumerate(verdicts):
            passed = verdict.grade is Grade.PASSED
            if passed and self.state is DeviceState.LIVE:
                continue
            events += self._condition(raw[start * window_bytes : number * window_bytes], verdicts[start:number])
            start = number + 1
            self._count(verdict, startup=passed)
            if not passed:
                events.append(WindowDiscarded(verdict))
            events += self._changed(self._machine.judged(verdict))
            if self._latched():
                self.wipe()
                return events
        return events + self._condition(raw[start * window_bytes :], verdicts[start:])

    def _count(self, verdict: WindowVerdict, *, startup: bool) -> None:
        """A window that is not used: it failed, or the start-up test consumed it."""
        measured = self._measured
        spoke = {finding.test for finding in verdict.findings}
        alarms = [count + (test in spoke) for test, count in zip(HealthTest, measured.alarms, strict=True)]
        self._measured = replace(
            measured,
            samples=measured.samples + self.layout.window_samples,
            windows=measured.windows + 1,
            windows_discarded=measured.windows_discarded + (not startup),
            windows_startup=measured.windows_startup + startup,
            alarms=(alarms[0], alarms[1], alarms[2]),
        )

    def _condition(self, raw: NDArray[np.uint8], verdicts: list[WindowVerdict]) -> list[Event]:
        """Condition a stretch of windows that passed."""
        if not verdicts:
            return []
        if self._estimating:
            self._estimating = False
            samples = self.layout.samples(raw[: self.layout.window_bytes])
            self.min_entropy_estimate_millibits = estimate(samples, self.layout.sample_bits)
        macs = self._conditioner.condition(raw)
        self._ledger.credit(macs.size // BLOCK_BYTES)
        data, seed_bytes = self._xor(macs)
        self._ledger.take(seed_bytes + data.size)
        measured = self._measured
        self._measured = replace(
            measured,
            samples=measured.samples + len(verdicts) * self.layout.window_samples,
            windows=measured.windows + len(verdicts),
            windows_passed=measured.windows_passed + len(verdicts),
            conditioned_bytes=measured.conditioned_bytes + data.size,
            seed_bytes=measured.seed_bytes + seed_bytes,
            credited_bits=self._ledger.credited_bits,
        )
        return [Conditioned(data.data, verdicts[0].window, verdicts[-1].window, self._measured)]

    def _xor(self, macs: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
        """Return (MACs XOR DRBG bytes, bytes that went away as seeds). The seeds are the last bytes; each is used before the
        32,768 DRBG bytes it serves, so every stretch begins with one."""
        seeds = -(-macs.size // (SEED_BYTES + RESEED_INTERVAL_BYTES))
        size = macs.size - seeds * SEED_BYTES
        spent = macs[size:].tobytes()
        data = np.empty(size, dtype=np.uint8)
        pads = data.data
        for number in range(seeds):
            self._reseed(spent[number * SEED_BYTES : (number + 1) * SEED_BYTES])
            start = number * RESEED_INTERVAL_BYTES
            end = min(size, start + RESEED_INTERVAL_BYTES)
            pads[start:end] = self._draw(end - start)
        np.bitwise_xor(data, macs[:size], out=data)  # one pass, not one for each pad
        return data, seeds * SEED_BYTES

    @staticmethod
    def _changed(change: StateChanged | None) -> list[Event]:
        return [] if change is None else [change]
