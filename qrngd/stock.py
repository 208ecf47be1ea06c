"""Units of one device that wait for a node, and whose turn it is with every slot of the shared memory.

    free ──due──▶ given (the worker fills it) ──put──▶ stock ──take──▶ in flight ──release──▶ free
                     └──reclaim──▶ free                  └──drop──▶ free            (wiped on every way to free)

First in, first out. The worker always has one slot more than the stock lacks; when the stock is full that is the one that probes fill, and
then the oldest unit goes (wiped, never handed out). So what a node gets was measured lately even after hours without demand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from qrngd.pipeline import Measurement
from qrngd.slots import SlotMemory
from qustream.model.entropy import UNIT_BYTES, DeviceDescriptor

__all__ = ["ReadyUnit", "Span", "Stock"]


@dataclass(frozen=True, slots=True)
class Span:
    """What stands behind some bytes: the device, the counters before and after their samples, when those were read (Unix ms)."""

    device: DeviceDescriptor
    before: Measurement
    after: Measurement
    start_ms: int
    end_ms: int

    def joined(self, later: Span) -> Span:
        """From the start of this span to the end of `later`: the same device, not before this one."""
        assert self.device == later.device, "a span is of one device"
        # The clock may have been set back between the two.
        return Span(self.device, self.before, later.after, min(self.start_ms, later.start_ms), max(self.end_ms, later.end_ms))


class ReadyUnit:
    """A whole unit where the worker wrote it. `data`: its `UNIT_BYTES`; `digest`: SHA-256 of its material."""

    __slots__ = ("_stock", "data", "digest", "slot", "span")

    def __init__(self, stock: Stock, slot: int, data: memoryview, digest: bytes, span: Span) -> None:
        self._stock: Stock | None = stock
        self.slot, self.data, self.digest, self.span = slot, data, digest, span

    def release(self) -> None:
        """Wipe it and give the slot back; harmless when repeated, and nothing may read `data` afterwards."""
        stock, self._stock = self._stock, None
        if stock is not None:
            stock.release(self.slot)

    def __repr__(self) -> str:
        return f"<ReadyUnit in slot {self.slot}>"


class Stock:
    """See the module. `capacity_units`: how many units are kept ready."""

    def __init__(self, memory: SlotMemory, capacity_units: int) -> None:
        assert memory.count > capacity_units, "the worker needs a slot beside the stock"
        self.capacity_units = capacity_units
        self.dropped_bytes = 0
        self._memory = memory
        self._free = list(range(memory.count - 1, -1, -1))  # the last one freed is used first: its memory is in use already
        self._given: set[int] = set()
        self._ready: deque[ReadyUnit] = deque()
        self._touched: set[int] = set()  # free slots whose pages are still in memory

    @property
    def units(self) -> int:
        """Whole units in stock."""
        return len(self._ready)

    @property
    def size_bytes(self) -> int:
        return len(self._ready) * UNIT_BYTES

    @property
    def in_flight(self) -> int:
        """Units that were taken and not released yet."""
        return self._memory.count - len(self._free) - len(self._given) - len(self._ready)

    # --- between stock and worker

    def due(self) -> tuple[int, ...]:
        """Slots that are to be given to the worker now; they count as given."""
        if not self._given and self.units > self.capacity_units:
            self._drop(self._ready.popleft())
        lacking = self.capacity_units + 1 - self.units - len(self._given)
        slots = [self._free.pop() for _ in range(min(lacking, len(self._free)))]
        self._touched.difference_update(slots)
        self._given.update(slots)
        return tuple(slots)

    def withdraw(self, slots: Iterable[int]) -> None:
        """The worker was not told of these slots, which were due."""
        for slot in slots:
            self._given.remove(slot)
            self._free.append(slot)
            self._touched.add(slot)

    def is_given(self, slot: int) -> bool:
        """Whether the worker may say that it has filled `slot`."""
        return slot in self._given

    def put(self, slot: int, digest: bytes, span: Span) -> None:
        """The worker has filled a slot that was given to it."""
        self._given.remove(slot)
        self._ready.append(ReadyUnit(self, slot, self._memory.unit(slot), digest, span))

    def reclaim(self) -> None:
        """The worker is gone: what it had not finished is wiped."""
        for slot in self._given:
            self._freed(slot)
        self._given.clear()

    # --- between stock and feed

    def take(self) -> ReadyUnit:
        """The oldest unit; the caller releases it. There must be one."""
        return self._ready.popleft()

    def release(self, slot: int) -> None:
        """A unit that was taken is not needed any more."""
        self._freed(slot)

    def drop_outside(self, first_ms: int, last_ms: int) -> None:
        """Throw away what was read before `first_ms` or after `last_ms`: since then the clock was set back, and no node would take it."""
        for _ in range(len(self._ready)):
            unit = self._ready.popleft()
            if first_ms <= unit.span.end_ms <= last_ms:
                self._ready.append(unit)
            else:
                self._drop(unit)

    def clear(self) -> None:
        """Throw away everything in stock."""
        while self._ready:
            self._drop(self._ready.popleft())

    def shrink(self) -> None:
        """Give the memory of free slots back to the system, if nothing is in flight: after a burst it would only lie there."""
        if self._touched and not self.in_flight:
            for slot in self._touched:
                self._memory.give_back(slot)
            self._touched.clear()

    def _drop(self, unit: ReadyUnit) -> None:
        self.dropped_bytes += UNIT_BYTES
        unit.release()

    def _freed(self, slot: int) -> None:
        self._memory.wipe(slot)
        self._free.append(slot)
        self._touched.add(slot)
