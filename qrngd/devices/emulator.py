"""A QRNG device for machines that have none: /dev/urandom, and faults on request (`proto/spec/entropy-feed.md`, "Devices").

It says in its descriptor, and so in every attestation, that it is emulated. Faults act on bytes at fixed places of the stream,
counted over the device's whole life, and draw from their own seeds: how the stream is read changes nothing, and the same script
hits the same bytes every time. The bytes themselves are the operating system's and never repeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qrngd.devices.descriptor_file import DescriptorFile
from qrngd.devices.device import DeviceFlags
from qrngd.devices.faults import Fault, parse_faults
from qustream.errors import fault
from qustream.model.entropy import DeviceDescriptor

__all__ = ["EMULATOR_MIN_ENTROPY_MILLIBITS", "Emulator"]

# /dev/urandom is as good as 8 bits a byte. It is treated as 7: an emulator rehearses for a hardware device whose claim is lower
# than its width, with the lanes of one (32 bytes for 16), and at 7 a perfect stream alarms 256 times less often than at 8.
EMULATOR_MIN_ENTROPY_MILLIBITS = 7000
SOURCE = "/dev/urandom"
# The most one read gives: what the daemon asks for at once.
READ_MAX_BYTES = 4 << 20
# Chances are drawn for blocks of this many places, each from (seed, block number), so that any part can be drawn alone.
_BLOCK_BYTES = 1 << 12
_SLOW_NAP_MS = 5  # the rhythm of a slow device; short enough for smooth displays
_Bytes: TypeAlias = NDArray[np.uint8]


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Emulator:
    """See `Device`. `clock_ms` serves slow faults only."""

    pollable = False  # /dev/urandom cannot be waited on, and need not be

    def __init__(
        self,
        script: str = "",
        *,
        min_entropy_millibits: int | None = None,
        sample_bits: int = 8,
        nominal_rate_bps: int = 0,
        serial: str = "",
        clock_ms: Callable[[], int] = _monotonic_ms,
    ) -> None:
        """`min_entropy_millibits` a sample: 7/8 of the width if not given. Raises E-CONFIG for a bad script or width."""
        if sample_bits not in (1, 8, 16):
            raise fault("E-CONFIG", f"an emulated device has samples of 1, 8 or 16 bits, not {sample_bits}")
        self._faults = parse_faults(script)
        default = EMULATOR_MIN_ENTROPY_MILLIBITS * sample_bits // 8
        self._descriptor = DeviceDescriptor(
            kind="emulator",
            model="urandom",
            serial=(serial or "+".join(each.kind for each in self._faults))[:64],
            sample_bits=sample_bits,
            min_entropy_millibits=default if min_entropy_millibits is None else min_entropy_millibits,
            nominal_rate_bps=nominal_rate_bps,
            conditioned=True,
            emulated=True,
            source=SOURCE,
        )
        self._clock_ms = clock_ms
        self._file: DescriptorFile | None = None
        self._place = 0  # bytes delivered in the device's life
        self._reads = 0
        self._vanished: set[int] = set()  # faults by their number in the script
        self._failing_opens = 0
        self._slow_since_ms: dict[int, int] = {}
        self._tails: dict[int, _Bytes] = {}  # for each correlated fault the last bytes it may repeat

    def open(self) -> DeviceDescriptor:
        assert self._file is None, "the device is open already"
        if self._failing_opens:
            self._failing_opens -= 1
            raise fault("E-DEV-ABSENT", "the emulated device is away, as its script says")
        self._file = DescriptorFile(SOURCE, lock=False)
        return self._descriptor

    @property
    def flags(self) -> DeviceFlags:
        return ()

    @property
    def retry_after_ms(self) -> int:
        return _SLOW_NAP_MS

    def readinto(self, buffer: memoryview) -> int:
        assert self._file is not None, "the device is closed"
        size = self._allowed(min(len(buffer), READ_MAX_BYTES))
        if size <= 0:
            return 0
        got = self._file.readinto(buffer[:size])
        if not got:
            self.close()
            raise fault("E-DEV-READ", f"{SOURCE} gives nothing")
        raw = np.frombuffer(buffer[:got], dtype=np.uint8)
        for number, each in enumerate(self._faults):
            if each.kind in _SPOILERS:
                self._spoil(number, each, raw)
        self._place += got
        self._reads += 1
        return got

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def fileno(self) -> int:
        assert self._file is not None, "the device is closed"
        return self._file.fileno()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _allowed(self, size: int) -> int:
        """How much of `size` this read may give, by the faults that shape reads. Raises E-DEV-ABSENT when one takes the device."""
        for number, each in enumerate(self._faults):
            if each.kind == "vanish" and number not in self._vanished:
                if self._place >= each.start:
                    self._vanish(number, each)
                size = min(size, each.start - self._place)
            elif each.kind == "torn" and each.start <= self._place < each.end:
                draw = np.random.default_rng([each.numbers["seed"], self._reads])
                size = min(size, int(draw.integers(1, each.numbers["most"] + 1)))
            elif each.kind == "slow" and self._place < each.end:
                size = min(size, self._slow(number, each))
        return size

    def _vanish(self, number: int, each: Fault) -> NoReturn:
        self._vanished.add(number)
        self._failing_opens = each.numbers["opens"]
        self.close()
        raise fault("E-DEV-ABSENT", f"the emulated device vanished at byte {self._place}, as its script says")

    def _slow(self, number: int, each: Fault) -> int:
        """Bytes the rate of `each` leaves now; up to where it begins, if it has not begun."""
        if self._place < each.start:
            return each.start - self._place
        now_ms = self._clock_ms()
        since_ms = self._slow_since_ms.setdefault(number, now_ms)
        due = each.start + (now_ms - since_ms) * each.numbers["rate"] // 1000
        return max(0, min(due, each.end) - self._place)

    def _spoil(self, number: int, each: Fault, raw: _Bytes) -> None:
        """Let fault `each` act on the bytes just read, which stand at `_place` …"""
        low, high = max(0, each.start - self._place), min(raw.size, each.end - self._place)
        lag = each.numbers.get("lag", 0)
        tail = self._tails.get(number, raw[:0])
        if low < high:
            before = np.concatenate((tail, raw[:low]))[-lag:] if lag else tail
            _SPOILERS[each.kind](each, raw[low:high], before, self._place + low)
        if lag:
            self._tails[number] = np.concatenate((tail, raw[-lag:]))[-lag:]


def _chance(each: Fault, place: int, size: int) -> NDArray[np.bool_]:
    """For each of `size` bytes from `place` on, whether the fault hits it."""
    first = place // _BLOCK_BYTES
    blocks = range(first, (place + size - 1) // _BLOCK_BYTES + 1)
    seed, permille = each.numbers["seed"], each.numbers["permille"]
    draws = [np.random.default_rng([seed, block]).integers(0, 1000, _BLOCK_BYTES, dtype=np.uint16) < permille for block in blocks]
    start = place - first * _BLOCK_BYTES
    return np.concatenate(draws)[start : start + size]


def _stick(each: Fault, raw: _Bytes, _before: _Bytes, _place: int) -> None:
    raw[:] = each.numbers["value"]


def _bias(each: Fault, raw: _Bytes, _before: _Bytes, place: int) -> None:
    raw[_chance(each, place, raw.size)] = each.numbers["value"]


def _correlate(each: Fault, raw: _Bytes, before: _Bytes, place: int) -> None:
    """A byte that is hit repeats the one `lag` before it, which may itself be a repetition."""
    lag = each.numbers["lag"]
    joined = np.concatenate((before, raw))
    hit = np.concatenate((np.zeros(before.size, dtype=np.bool_), _chance(each, place, raw.size)))
    hit[:lag] = False  # nothing stands that far back
    # Column c of this table holds the bytes at distance `lag` of each other; each takes the latest one not hit above it.
    rows = -(-joined.size // lag)
    origin = np.where(hit, 0, np.arange(joined.size))
    table = np.concatenate((origin, np.zeros(rows * lag - joined.size, dtype=origin.dtype))).reshape(rows, lag)
    latest = np.maximum.accumulate(table, axis=0).reshape(-1)[: joined.size]
    raw[:] = joined[latest][before.size :]


_SPOILERS: dict[str, Callable[[Fault, _Bytes, _Bytes, int], None]] = {
    "stuck": _stick,
    "biased": _bias,
    "correlated": _correlate,
}
