"""Conditioned bytes become units: in order, hashed, accounted for, and nothing of them stays elsewhere."""

from __future__ import annotations

import hashlib
import random

import pytest

from qrngd.pipeline import Conditioned, Measurement
from qrngd.slots import SlotMemory
from qrngd.worker.filling import SlotFiller
from qrngd.worker.messages import MadeUnit
from qustream.model.entropy import MATERIAL_BYTES, UNIT_BYTES


class World:
    def __init__(self, slots: int = 8) -> None:
        self.memory = SlotMemory.create(slots)
        self.filler = SlotFiller(self.memory, 0)
        self.windows = 0
        self.buffers: list[bytearray] = []

    def put(self, size: int, *, seed: int = 0) -> tuple[bytes, list[MadeUnit]]:
        """One window's worth of bytes a call, a second later each time."""
        data = random.Random(f"{seed}/{self.windows}").randbytes(size)
        self.windows += 1
        self.buffers.append(bytearray(data))
        measured = Measurement(windows=self.windows)
        return data, self.filler.put(Conditioned(memoryview(self.buffers[-1]), 0, 0, measured), 1000 * self.windows)


@pytest.mark.parametrize("sizes", [[UNIT_BYTES], [UNIT_BYTES + 1, UNIT_BYTES], [100_000] * 7, [1, UNIT_BYTES - 1], [3 * UNIT_BYTES]])
def test_units_are_the_bytes_in_order(sizes: list[int]) -> None:
    world = World()
    world.filler.give(range(8))
    whole, made = b"", []
    for size in sizes:
        data, units = world.put(size)
        whole, made = whole + data, made + units
    assert len(made) == len(whole) // UNIT_BYTES
    for number, unit in enumerate(made):
        data = whole[number * UNIT_BYTES : (number + 1) * UNIT_BYTES]
        assert world.memory.unit(unit.slot) == data
        assert unit.digest == hashlib.sha256(data[:MATERIAL_BYTES]).digest()
    assert all(buffer == bytes(len(buffer)) for buffer in world.buffers)
    assert world.filler.dropped_bytes == 0


def test_a_unit_knows_what_stands_behind_it() -> None:
    world = World()
    world.filler.give(range(8))
    made = [unit for _ in range(6) for unit in world.put(100_000)[1]]
    assert [(unit.before.windows, unit.after.windows, unit.start_ms, unit.end_ms) for unit in made] == [
        (0, 3, 0, 3000),
        (2, 6, 2000, 6000),  # the third piece stands behind both
    ]


def test_a_clock_that_is_set_back_makes_no_time_that_ends_before_it_begins() -> None:
    world = World()
    world.filler.give(range(8))
    world.put(1000)
    world.windows = -3600
    assert [(unit.start_ms, unit.end_ms) for unit in world.put(UNIT_BYTES)[1]] == [(-3_599_000, -3_599_000)]


def test_the_last_slot_is_a_reserve() -> None:
    world = World()
    assert world.filler.room_bytes == 0
    world.filler.give([0])
    assert world.filler.room_bytes == 0
    world.filler.give([1, 2])
    assert world.filler.room_bytes == 2 * UNIT_BYTES
    world.put(1000)
    assert world.filler.room_bytes == 2 * UNIT_BYTES - 1000
    world.put(2 * UNIT_BYTES)
    assert world.filler.room_bytes == 0


def test_what_has_no_room_is_dropped_and_wiped() -> None:
    world = World()
    world.put(5000)
    world.filler.give([3])
    _, made = world.put(UNIT_BYTES + 7)
    assert [unit.slot for unit in made] == [3]
    assert world.filler.dropped_bytes == 5007
    assert all(buffer == bytes(len(buffer)) for buffer in world.buffers)


def test_bytes_of_two_openings_never_stand_in_one_unit() -> None:
    world = World()
    world.filler.give(range(4))
    world.put(1000)
    world.filler.restart(Measurement(windows=1), 1500)
    assert world.memory.unit(0) == bytes(UNIT_BYTES)
    data, made = world.put(UNIT_BYTES)
    assert world.memory.unit(made[0].slot) == data
    assert (made[0].before.windows, made[0].start_ms) == (1, 1500)
    assert world.filler.dropped_bytes == 1000
