"""The slot file: what is written is there for the next process, what is not a slot file is refused."""

import pytest

from qnode.store.slots import EMPTY, SlotFile
from qustream.errors import QuStreamError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "slots"


def test_slots_are_empty_then_what_was_written(path):
    slots = SlotFile.create(path, 8)
    assert slots.used() == set()
    slots.write({3: b"k" * 32, 7: b"m" * 32})
    slots.write({7: EMPTY})
    slots.close()
    again = SlotFile.open(path)
    assert (again.count, again.used(), again.read(3), again.read(7)) == (8, {3}, b"k" * 32, EMPTY)
    assert again.generation == slots.generation
    again.close()


def test_the_file_is_private_of_a_fixed_size_and_its_slots_lie_whole_in_sectors(path):
    slots = SlotFile.create(path, 100)
    slots.write({99: b"k" * 32})
    slots.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == 64 + 100 * 32
    assert path.read_bytes().index(b"k" * 32) % 32 == 0


def test_growing_keeps_what_is_there(path):
    slots = SlotFile.create(path, 2)
    slots.write({1: b"k" * 32})
    slots.grow(5)
    slots.grow(3)
    assert (slots.count, slots.used(), slots.read(4)) == (5, {1}, EMPTY)
    slots.close()


def test_a_slot_beyond_the_file_is_empty(path):
    slots = SlotFile.create(path, 2)
    assert slots.read(2) == slots.read(10**6) == EMPTY
    slots.close()


def test_two_files_never_share_a_generation(path):
    first, second = SlotFile.create(path, 1), SlotFile.create(path, 1)
    assert first.generation != second.generation
    first.close()
    second.close()


@pytest.mark.parametrize("data", [b"", b"qnode-slots-v1\n", b"\0" * 4096])
def test_what_is_no_slot_file_is_refused(path, data):
    path.write_bytes(data)
    with pytest.raises(QuStreamError) as caught:
        SlotFile.open(path)
    assert caught.value.code == "E-DATA-CORRUPT"


def test_a_missing_file_is_not_made(path):
    with pytest.raises(FileNotFoundError):
        SlotFile.open(path)
    assert not path.exists()
