"""What a pipeline must do, said a second time and slowly: an oracle for tests that let faults loose on `qrngd.pipeline`.

The model sees the same bytes in the same cuts. It judges each window by a plain reading of SP 800-90B §4.4 (no screens, no batches),
walks through the states, and computes what must come out: the CBC-MACs of the windows that passed while the device was live,
XOR what the DRBG is known to have drawn. If every byte handed out is equal to that, nothing of another window is in it.
"""

from __future__ import annotations

import hashlib
from collections import deque

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from qrngd.conditioning.cbcmac import conditioning_key
from qrngd.health.cutoffs import Cutoffs
from qrngd.health.samples import ROWS, Layout
from qrngd.health.state import INTERMITTENT_LIMIT, INTERMITTENT_SPAN_WINDOWS, DeviceState
from qrngd.health.verdict import Grade
from qrngd.pipeline import RESEED_INTERVAL_BYTES, SEED_BYTES

__all__ = ["KnownDrbg", "Model", "macs_of"]

OPEN = (DeviceState.TESTING, DeviceState.LIVE, DeviceState.SUSPECT)


class KnownDrbg:
    """A DRBG whose every seed and every draw is kept, in order, until `unmask` has used it."""

    def __init__(self) -> None:
        self._state = b""
        self._seeds: deque[bytes] = deque()
        self._draws: deque[bytes] = deque()

    def reseed(self, seed: bytes) -> None:
        self._seeds.append(seed)
        self._state = hashlib.sha256(self._state + seed).digest()

    def draw(self, size: int) -> bytes:
        assert self._state, "drawn before the device seeded it"
        self._state = hashlib.sha256(self._state).digest()
        self._draws.append(hashlib.shake_256(self._state).digest(size))
        return self._draws[-1]

    def unmask(self, data: memoryview) -> bytes:
        """The MACs behind `data`: the DRBG taken off, the seeds put back at the end."""
        count = -(-len(data) // RESEED_INTERVAL_BYTES)
        pads = b"".join(self._draws.popleft() for _ in range(count))
        seeds = [self._seeds.popleft() for _ in range(count)]
        assert {len(seed) for seed in seeds} == {SEED_BYTES}
        plain = np.frombuffer(data, dtype=np.uint8) ^ np.frombuffer(pads, dtype=np.uint8)
        return plain.tobytes() + b"".join(seeds)

    @property
    def is_used_up(self) -> bool:
        return not self._seeds and not self._draws


def macs_of(window: bytes, lane_bytes: int) -> bytes:
    """One CBC-MAC a lane, in the plain order of the definition: chain value XOR block, encrypt, next block."""
    lanes = len(window) // lane_bytes
    blocks = np.frombuffer(window[: lanes * lane_bytes], dtype=np.uint8).reshape(lanes, -1, 16)
    encryptor = Cipher(algorithms.AES256(conditioning_key()), modes.ECB()).encryptor()
    chain = np.zeros((lanes, 16), dtype=np.uint8)
    for number in range(blocks.shape[1]):
        chain = np.frombuffer(encryptor.update((chain ^ blocks[:, number]).tobytes()), dtype=np.uint8).reshape(lanes, 16)
    single = Cipher(algorithms.AES256(conditioning_key()), modes.CBC(bytes(16))).encryptor()
    assert single.update(window[:lane_bytes])[-16:] == chain[0].tobytes(), "the model's own arithmetic"
    return chain.tobytes()


class Model:
    """The state of one device, and the windows it may use."""

    def __init__(self, cutoffs: Cutoffs) -> None:
        self.cutoffs, self.layout = cutoffs, Layout(cutoffs.sample_bits)
        self.state = DeviceState.STARTING
        self.windows = 0
        self.passed: list[tuple[int, bytes]] = []  # number and bytes of windows to be used, until somebody takes them
        self.failed: list[tuple[int, Grade]] = []
        self.states: list[DeviceState] = []  # changes, in order
        self._alarms: list[int] = []
        self._restart()

    def _restart(self) -> None:
        self.waiting = b""
        self._last: int | None = None
        self._run = 0

    def _to(self, state: DeviceState) -> None:
        self.states.append(state)
        self.state = state

    def opened(self) -> None:
        self._restart()
        self._to(DeviceState.TESTING)

    def lost(self) -> None:
        self._restart()
        if self.state is not DeviceState.FAILED:
            self._to(DeviceState.ABSENT)

    def clear(self) -> None:
        if self.state is DeviceState.FAILED:
            self._alarms.clear()
            self._to(DeviceState.STARTING)

    def retest(self) -> None:
        if self.state in (DeviceState.LIVE, DeviceState.SUSPECT):
            half = len(self.waiting) % max(1, self.layout.stored_bits // 8)
            kept = self.waiting[len(self.waiting) - half :]
            self._restart()
            self.waiting = kept
            self._to(DeviceState.TESTING)

    def feed(self, raw: bytes) -> None:
        self.waiting += raw
        size = self.layout.window_bytes
        while len(self.waiting) >= size and self.state is not DeviceState.FAILED:
            window, self.waiting = self.waiting[:size], self.waiting[size:]
            self._judge(window)
        if self.state is DeviceState.FAILED:
            self.waiting = b""

    def _judge(self, window: bytes) -> None:
        number = self.windows
        self.windows += 1
        grade = self._grade(self.layout.samples(np.frombuffer(window, dtype=np.uint8)).astype(np.int64))
        if grade is Grade.PASSED:
            if self.state is DeviceState.LIVE:
                self.passed.append((number, window))
            else:
                self._to(DeviceState.LIVE)
            return
        self.failed.append((number, grade))
        if grade is Grade.INTERMITTENT:
            self._alarms.append(number)
            recent = [alarm for alarm in self._alarms if number - alarm < INTERMITTENT_SPAN_WINDOWS]
            if len(recent) < INTERMITTENT_LIMIT:
                self._to(DeviceState.SUSPECT)
                return
        self._to(DeviceState.FAILED)

    def _grade(self, samples: NDArray[np.int64]) -> Grade:
        grade = Grade.PASSED
        for cutoffs, worst in ((self.cutoffs.repetition, self._longest_run(samples)), (self.cutoffs.proportion, self._most_hits(samples))):
            for level, cutoff in zip((Grade.INTERMITTENT, Grade.PERMANENT), cutoffs, strict=True):
                grade = max(grade, level if worst >= cutoff else Grade.PASSED)
        self._last = int(samples[-1])
        return grade

    def _longest_run(self, samples: NDArray[np.int64]) -> int:
        """B of §4.4.1 at its largest, and the B that the next window goes on with."""
        ends = [*(np.flatnonzero(samples[1:] != samples[:-1]) + 1).tolist(), samples.size]
        lengths = np.diff([0, *ends])
        if self._last == int(samples[0]):
            lengths[0] += self._run
        self._run = int(lengths[-1])
        return int(lengths.max())

    def _most_hits(self, samples: NDArray[np.int64]) -> int:
        """The largest count of a row, of the adaptive proportion test and of the lag predictor."""
        most, width = 0, self.layout.row_samples
        before = -1 if self._last is None else self._last
        for number in range(ROWS):
            row = samples[number * width : (number + 1) * width]
            lag = number + 1
            start = number * width - lag
            earlier = np.concatenate(([before], samples[: width - 1])) if start < 0 else samples[start : start + width]
            most = max(most, int((row == row[0]).sum()), int((row == earlier).sum()))
        return most
