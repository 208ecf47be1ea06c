"""The stock keeps the newest units in order, and no slot is ever lost, doubled or left unwiped."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from qrngd.pipeline import Measurement
from qrngd.slots import SlotMemory
from qrngd.stock import ReadyUnit, Span, Stock
from qustream.model.entropy import UNIT_BYTES, DeviceDescriptor

DEVICE = DeviceDescriptor("emulator", "test", "1", 8, 8000, 0, False, True, "")


def span(number: int) -> Span:
    return Span(DEVICE, Measurement(windows=10 * number), Measurement(windows=10 * number + 10), 1000 * number, 1000 * number + 1000)


WIPED = bytes(UNIT_BYTES)


class World:
    """A stock, and the worker played by the test."""

    def __init__(self, *, slots: int = 12, capacity: int = 3) -> None:
        self.memory = SlotMemory.create(slots)
        self.stock = Stock(self.memory, capacity)
        self.given: list[int] = []
        self.made = 0

    def give(self) -> int:
        slots = self.stock.due()
        self.given += slots
        return len(slots)

    def make(self) -> None:
        """Fill the first slot that was given."""
        slot = self.given.pop(0)
        self.memory.unit(slot)[:8] = self.made.to_bytes(8, "big")
        self.memory.unit(slot)[-1:] = b"!"
        self.stock.put(slot, bytes(32), span(self.made))
        self.made += 1

    def number(self, unit: ReadyUnit) -> int:
        return int.from_bytes(unit.data[:8], "big")


def test_the_worker_gets_one_slot_more_than_the_stock_lacks() -> None:
    world = World()
    assert world.give() == 4
    assert world.give() == 0
    for _ in range(3):
        world.make()
        assert world.give() == 0
    assert len(world.given) == 1  # the reserve: what probes bring
    assert (world.stock.units, world.stock.size_bytes) == (3, 3 * UNIT_BYTES)


def test_first_in_first_out() -> None:
    world = World()
    world.give()
    for _ in range(3):
        world.make()
    taken = []
    for _ in range(3):
        taken.append(world.stock.take())
        assert world.give() == 1
    assert [world.number(unit) for unit in taken] == [0, 1, 2]
    assert world.stock.in_flight == 3
    assert [unit.span.start_ms for unit in taken] == [0, 1000, 2000]


def test_the_oldest_gives_way_to_what_probes_bring() -> None:
    world = World()
    world.give()
    for _ in range(4):
        world.make()
    assert not world.given
    assert world.give() == 1
    assert world.stock.dropped_bytes == UNIT_BYTES
    assert world.number(world.stock.take()) == 1


def test_a_released_unit_is_wiped_once() -> None:
    world = World()
    world.give()
    world.make()
    unit = world.stock.take()
    data = unit.data
    unit.release()
    assert data == bytes(UNIT_BYTES)
    assert world.stock.in_flight == 0
    world.memory.unit(unit.slot)[:] = b"x" * UNIT_BYTES
    unit.release()  # somebody else's by now
    assert world.memory.unit(unit.slot) == b"x" * UNIT_BYTES


def test_what_a_dead_worker_had_comes_back_wiped() -> None:
    world = World()
    world.give()
    world.make()
    for slot in world.given:
        world.memory.unit(slot)[:100] = b"x" * 100
    lost, world.given = world.given, []
    world.stock.reclaim()
    assert not any(world.stock.is_given(slot) for slot in lost)
    assert all(world.memory.unit(slot) == bytes(UNIT_BYTES) for slot in lost)
    assert world.give() == 3


def test_old_units_go() -> None:
    world = World()
    world.give()
    for _ in range(3):
        world.make()
    world.stock.drop_outside(2001, 3000)  # the first ended at 1000, the second at 2000
    assert world.stock.units == 1
    world.stock.clear()
    assert (world.stock.units, world.stock.dropped_bytes) == (0, 3 * UNIT_BYTES)


def test_units_of_a_future_that_the_clock_was_set_back_from_go_and_hide_nothing() -> None:
    world = World()
    world.give()
    for number in (5000, 1, 9):  # then an old one, and one of now
        slot = world.given.pop(0)
        world.stock.put(slot, bytes(32), span(number))
    world.stock.drop_outside(8000, 40_000)
    assert world.stock.units == 1
    assert world.stock.take().span == span(9)


def test_a_span_over_a_clock_that_was_set_back_ends_after_it_begins() -> None:
    joined = span(9).joined(span(1))
    assert (joined.start_ms, joined.end_ms) == (1000, 10_000)


def test_slots_that_the_worker_was_not_told_of_come_back() -> None:
    world = World()
    slots = world.stock.due()
    world.stock.withdraw(slots)
    assert not any(world.stock.is_given(slot) for slot in slots)
    assert set(world.stock.due()) == set(slots)


def test_memory_of_a_burst_is_given_back_when_it_is_over() -> None:
    world = World(slots=40, capacity=20)
    world.give()
    for _ in range(20):
        world.make()
    taken = [world.stock.take() for _ in range(20)]
    held = os.fstat(world.memory.fd).st_blocks
    world.stock.shrink()
    assert os.fstat(world.memory.fd).st_blocks == held  # in use
    for unit in taken:
        unit.release()
    world.stock.shrink()
    assert os.fstat(world.memory.fd).st_blocks == 0


STEPS = st.lists(st.sampled_from(["give", "make", "take", "release", "die", "old", "clear", "shrink"]), max_size=80)


@given(STEPS)
def test_no_history_loses_a_slot_or_shows_a_byte_twice(history: list[str]) -> None:
    world = World(slots=8, capacity=2)
    flying: list[ReadyUnit] = []
    seen: list[int] = []
    for step in history:
        if step == "give":
            world.give()
        elif step == "make" and world.given:
            world.make()
        elif step == "take" and world.stock.units:
            flying.append(unit := world.stock.take())
            seen.append(world.number(unit))
        elif step == "release" and flying:
            flying.pop(0).release()
        elif step == "die":
            world.given.clear()
            world.stock.reclaim()
        elif step == "old":
            world.stock.drop_outside(1000 * world.made, 1000 * world.made)
        elif step == "clear":
            world.stock.clear()
        elif step == "shrink":
            world.stock.shrink()
        assert world.stock.in_flight == len(flying)
        held = set(world.given) | {unit.slot for unit in flying}
        assert len(held) == len(world.given) + len(flying)
        others = set(range(8)) - held
        empty = [slot for slot in others if world.memory.unit(slot) == WIPED]
        assert len(empty) == len(others) - world.stock.units  # whatever nobody has is wiped
    assert seen == sorted(set(seen))
