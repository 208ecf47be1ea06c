"""Repetitions among many leaves, in bounded memory."""

from __future__ import annotations

import hashlib

import pytest
from support.leaf_logs import unit

from qustream.entropy import leaf_data_of_hash
from qustream.errors import QuStreamError
from qustream.leaflog.leaves import LeafPlace, LeafTable


def leaf(name: str, sequence: int = 0, node: int = 0) -> bytes:
    return leaf_data_of_hash(*unit(name, sequence, node))


def test_nothing_repeats_in_nothing():
    with LeafTable() as table:
        assert table.repeated_material() is None
        assert table.repeated_number() is None


def test_both_places_of_a_material_are_named_in_the_order_they_came():
    with LeafTable() as table:
        table.add(0, 5, [leaf("a", 1), leaf("b", 2)])
        table.add(1, 3, [leaf("c", 1, node=4), leaf("b", (1 << 63) - 1, node=4)])
        digest = hashlib.sha256(b"b").digest()
        assert table.repeated_material() == (
            LeafPlace(0, 5, 1, bytes(32), 2, digest),
            LeafPlace(1, 3, 1, (4).to_bytes(32, "big"), (1 << 63) - 1, digest),
        )
        assert table.repeated_number() is None


def test_a_number_is_a_nodes_and_a_logs():
    with LeafTable() as table:
        table.add(0, 1, [leaf("a", 1), leaf("b", 1, node=1)])
        table.add(1, 1, [leaf("c", 1)])
        assert table.repeated_number() is None
        table.add(0, 2, [leaf("d", 1)])
        found = table.repeated_number()
        assert found is not None
        assert [(place.batch, place.index) for place in found] == [(1, 0), (2, 0)]
        assert table.repeated_material() is None


def test_the_one_repetition_among_many_is_found_with_hardly_any_memory():
    with LeafTable() as table:
        table._database.execute("PRAGMA cache_size = -256")
        for batch in range(200):
            table.add(0, batch, [leaf(f"{batch} {index}", batch * 256 + index) for index in range(256)])
        assert table.repeated_material() is None
        table.add(0, 200, [leaf("17 200", 99_999)])
        first, second = table.repeated_material() or (None, None)
        assert first is not None
        assert second is not None
        assert ((first.batch, first.index), (second.batch, second.index)) == ((17, 200), (200, 0))


def test_a_full_disk_is_said_as_such():
    with LeafTable() as table:
        table._database.execute("PRAGMA max_page_count = 4")
        with pytest.raises(QuStreamError) as caught:
            table.add(0, 1, [leaf(f"{index}", index) for index in range(4096)])
        assert caught.value.code == "E-DISK-FULL"
