"""A QRNG device for machines that have none: /dev/urandom, and faults on request (`proto/spec/entropy-feed.md`, "Devices").

It says in its descriptor, and so in every attestation, that it is emulated. Faults act at fixed places of the stream, counted in bytes
over the device's whole life, and draw from their own seeds: how the stream is read changes nothing, and the same script hits the
same bytes every time. The bytes themselves are the operating system's and never repeat. What a fault acts on is a *cell*: a sample, or
eight samples of one bit, which stand in one byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from qrngd.devices.descriptor_file import DescriptorFile
from qrngd.devices.device import Device, DeviceFlags, monotonic_ms
from qrngd.devices.faults import Fault, parse_faults
from qustream.errors import fault
from qustream.model.base import LABEL_MAX_CHARS
from qustream.model.entropy import DeviceDescriptor

__all__ = ["EMULATOR_MIN_ENTROPY_MILLIBITS", "Emulator"]

# /dev/urandom is as good as 8 bits a byte. It is treated as 7: an emulator rehearses for a hardware device whose claim is lower
# than its width, with the lanes of one (32 bytes for 16), and at 7 a perfect stream alarms 256 times less often than at 8.
EMULATOR_MIN_ENTROPY_MILLIBITS = 7000
SOURCE = "/dev/urandom"
# The most one read gives: what the daemon asks for at once.
READ_MAX_BYTES = 4 << 20
# Chances are drawn for blocks of this many cells, each from (seed, block number), so that any part can be drawn alone.
_BLOCK_CELLS = 1 << 12
_SLOW_NAP_MS = 5  # the rhythm of a slow device; short enough for smooth displays
_Cells: TypeAlias = NDArray[np.unsignedinteger]
# Faults that happen once, at their place.
_ONCE = ("vanish", "swapped", "dead")


class Emulator(Device):
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
        clock_ms: Callable[[], int] = monotonic_ms,
    ) -> None:
        """`min_entropy_millibits` a sample: 7/8 of the width if not given. Raises E-CONFIG for a bad script or width."""
        if not 1 <= sample_bits <= 16:
            raise fault("E-CONFIG", f"an emulated device has samples of 1 to 16 bits, not {sample_bits}")
        self._cell_bytes = 1 if sample_bits <= 8 else 2
        self._cell_mask = 0xFF if sample_bits == 1 else (1 << sample_bits) - 1
        self._faults = parse_faults(script)
        for each in self._faults:
            if each.numbers.get("value", 0) > self._cell_mask:
                raise fault("E-CONFIG", f"fault {each.kind!r}: value {each.numbers['value']} is more than {self._cell_mask}")
        self._named = bool(serial)
        default = EMULATOR_MIN_ENTROPY_MILLIBITS * sample_bits // 8
        self._descriptor = DeviceDescriptor(
            kind="emulator",
            model="urandom",
            serial=(serial or "+".join(each.kind for each in self._faults))[:LABEL_MAX_CHARS],
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
        self._over: set[int] = set()  # by their number in the script: the faults that happen once and have happened
        self._failing_opens = 0
        self._swaps = 0
        self._silent_opens: dict[int, int] = {}  # by their number: the opens a dead device still needs
        self._half: bytes = b""  # the rest of a cell that a read has cut
        self._slow_since_ms: dict[int, int] = {}
        self._tails: dict[int, _Cells] = {}  # for each correlated fault the last cells it may repeat

    def open(self) -> DeviceDescriptor:
        assert self._file is None, "the device is open already"
        if self._failing_opens:
            self._failing_opens -= 1
            raise fault("E-DEV-ABSENT", "the emulated device is away, as its script says")
        if self._swaps and self._named:
            raise fault("E-DEV-IDENTITY", f"serial {self._serial!r} answers where {self._descriptor.serial!r} is configured")
        self._file = DescriptorFile(SOURCE, lock=False)
        self._place += len(self._half)  # a device that is opened begins with a whole sample
        self._half = b""
        self._silent_opens = {number: left - 1 for number, left in self._silent_opens.items()}
        return msgspec.structs.replace(self._descriptor, serial=self._serial)

    @property
    def _serial(self) -> str:
        """Of the device that stands there now; another one after each swap."""
        serial = self._descriptor.serial
        return f"{self._swaps + 1}/{serial}"[:LABEL_MAX_CHARS] if self._swaps else serial

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
        # What a cut left of a cell, then whole cells, then the first part of one that this read cuts.
        begun = min(size, len(self._half))
        buffer[:begun], self._half = self._half[:begun], self._half[begun:]
        cut = (size - begun) % self._cell_bytes
        self._place += begun
        self._fill(buffer[begun : size - cut])
        if cut:
            cell = bytearray(self._cell_bytes)
            self._fill(memoryview(cell))
            buffer[size - cut : size], self._half = cell[:cut], bytes(cell[cut:])
            self._place -= len(self._half)
        self._reads += 1
        return size

    def _fill(self, buffer: memoryview) -> None:
        """The next cells of the stream, spoiled; `buffer` holds whole ones, and `_place` is where one begins."""
        if not len(buffer):
            return
        self._sound(buffer)
        raw = np.frombuffer(buffer, dtype=np.uint8)
        cells: _Cells = raw if self._cell_bytes == 1 else raw.view("<u2")
        if self._cell_mask.bit_length() < 8 * self._cell_bytes:
            cells &= np.asarray(self._cell_mask, dtype=cells.dtype)
        for number, each in enumerate(self._faults):
            if each.kind in _SPOILERS:
                self._spoil(number, each, cells)
        self._place += len(buffer)

    def _sound(self, buffer: memoryview) -> None:
        """The bytes of a device without faults."""
        assert self._file is not None, "the device is closed"
        filled = 0
        while filled < len(buffer):
            got = self._file.readinto(buffer[filled:])
            if not got:
                self.close()
                raise fault("E-DEV-READ", f"{SOURCE} gives nothing")
            filled += got

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
            if each.kind in _ONCE and number not in self._over:
                if self._place >= each.start:
                    self._happen(number, each)
                size = min(size, max(0, each.start - self._place))
            elif self._silent_opens.get(number, 0) > 0:
                size = 0
            elif each.kind == "torn" and each.start <= self._place < each.end:
                draw = np.random.default_rng([each.numbers["seed"], self._reads])
                size = min(size, int(draw.integers(1, each.numbers["most"] + 1)))
            elif each.kind == "slow" and self._place < each.end:
                size = min(size, self._slow(number, each))
        return size

    def _happen(self, number: int, each: Fault) -> None:
        """What happens once. Raises E-DEV-ABSENT when it takes the device away."""
        self._over.add(number)
        if each.kind == "dead":
            self._silent_opens[number] = each.numbers["opens"]
            return
        self._failing_opens = each.numbers["opens"]
        self._swaps += each.kind == "swapped"
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

    def _spoil(self, number: int, each: Fault, cells: _Cells) -> None:
        """Let fault `each` act on the cells just read, which stand at `_place` …; it begins and ends between two cells."""
        first = self._place // cells.itemsize
        low, high = max(0, -(-each.start // cells.itemsize) - first), min(cells.size, -(-each.end // cells.itemsize) - first)
        lag = each.numbers.get("lag", 0)
        tail = self._tails.get(number, cells[:0])
        if low < high:
            before = np.concatenate((tail, cells[:low]))[-lag:] if lag else tail
            _SPOILERS[each.kind](each, cells[low:high], before, first + low)
        if lag:
            self._tails[number] = np.concatenate((tail, cells[-lag:]))[-lag:]


def _chance(each: Fault, first: int, count: int) -> NDArray[np.bool_]:
    """For each of `count` cells from number `first` on, whether the fault hits it."""
    block = first // _BLOCK_CELLS
    blocks = range(block, (first + count - 1) // _BLOCK_CELLS + 1)
    seed, permille = each.numbers["seed"], each.numbers["permille"]
    draws = [np.random.default_rng([seed, number]).integers(0, 1000, _BLOCK_CELLS, dtype=np.uint16) < permille for number in blocks]
    start = first - block * _BLOCK_CELLS
    return np.concatenate(draws)[start : start + count]


def _stick(each: Fault, cells: _Cells, _before: _Cells, _first: int) -> None:
    cells[:] = each.numbers["value"]


def _bias(each: Fault, cells: _Cells, _before: _Cells, first: int) -> None:
    cells[_chance(each, first, cells.size)] = each.numbers["value"]


def _correlate(each: Fault, cells: _Cells, before: _Cells, first: int) -> None:
    """A cell that is hit repeats the one `lag` before it, which may itself be a repetition."""
    lag = each.numbers["lag"]
    joined = np.concatenate((before, cells))
    hit = np.concatenate((np.zeros(before.size, dtype=np.bool_), _chance(each, first, cells.size)))
    hit[:lag] = False  # nothing stands that far back
    # Column c of this table holds the cells at distance `lag` of each other; each takes the latest one not hit above it.
    rows = -(-joined.size // lag)
    origin = np.where(hit, 0, np.arange(joined.size))
    table = np.concatenate((origin, np.zeros(rows * lag - joined.size, dtype=origin.dtype))).reshape(rows, lag)
    latest = np.maximum.accumulate(table, axis=0).reshape(-1)[: joined.size]
    cells[:] = joined[latest][before.size :]


_SPOILERS: dict[str, Callable[[Fault, _Cells, _Cells, int], None]] = {
    "stuck": _stick,
    "biased": _bias,
    "correlated": _correlate,
}
