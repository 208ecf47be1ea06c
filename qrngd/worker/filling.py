"""Conditioned bytes into slots, unit after unit; a full one is hashed and goes back to the daemon with what stands behind it.

The samples behind a unit are exactly the stretch from its first byte to its last. Bytes of before and after a new opening of the
device never stand in one unit.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable

import numpy as np

from qrngd.pipeline import Conditioned, Measurement
from qrngd.slots import SlotMemory
from qrngd.worker.messages import MadeUnit
from qustream.model.entropy import MATERIAL_BYTES, UNIT_BYTES

__all__ = ["SlotFiller"]


class SlotFiller:
    """Fills the slots it was given in the order it got them; the last one is kept in reserve for what probes bring."""

    def __init__(self, memory: SlotMemory, now_ms: int) -> None:
        self.dropped_bytes = 0
        self._memory = memory
        self._slots: deque[int] = deque()
        self._used = 0  # bytes of the first slot
        self._before = self._measured = Measurement()  # at the first slot's first byte; after the last byte handed out
        self._start_ms = self._measured_ms = now_ms

    def give(self, slots: Iterable[int]) -> None:
        """More room."""
        self._slots.extend(slots)

    @property
    def room_bytes(self) -> int:
        """What may be filled at full speed: all but the reserve."""
        return max(0, (len(self._slots) - 1) * UNIT_BYTES - self._used)

    def restart(self, measured: Measurement, now_ms: int) -> None:
        """The device was opened or is tested anew: what is filled in part is thrown away, and counting starts here."""
        self.drop()
        self._measured, self._measured_ms = measured, now_ms

    def drop(self) -> None:
        """Throw away what is filled in part."""
        if self._used:
            self.dropped_bytes += self._used
            self._memory.wipe(self._slots[0])
            self._used = 0

    def put(self, conditioned: Conditioned, now_ms: int) -> list[MadeUnit]:
        """Take over the bytes of `conditioned` (wiped afterwards); the units that are full now. What there is no room for is dropped."""
        made: list[MadeUnit] = []
        data = conditioned.data
        at = 0
        while at < len(data) and self._slots:
            if not self._used:
                self._before, self._start_ms = self._measured, self._measured_ms
            unit = self._memory.unit(self._slots[0])
            step = min(len(data) - at, UNIT_BYTES - self._used)
            unit[self._used : self._used + step] = data[at : at + step]
            self._used += step
            at += step
            if self._used == UNIT_BYTES:
                made.append(self._finished(unit, conditioned.measured, now_ms))
        self.dropped_bytes += len(data) - at
        np.frombuffer(data, dtype=np.uint8).fill(0)
        self._measured, self._measured_ms = conditioned.measured, now_ms
        return made

    def _finished(self, unit: memoryview, after: Measurement, now_ms: int) -> MadeUnit:
        self._used = 0
        digest = hashlib.sha256(unit[:MATERIAL_BYTES]).digest()
        start_ms = min(self._start_ms, now_ms)  # the clock may have been set back meanwhile
        return MadeUnit(self._slots.popleft(), digest, self._before, after, start_ms, now_ms)
