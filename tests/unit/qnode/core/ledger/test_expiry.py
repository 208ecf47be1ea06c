"""Table 21: `proto/spec/ledger.md`, §6."""

from __future__ import annotations

from support.ledger_world import MemoryReader

from qnode.core.ledger.expiry import due, forget, remind
from qnode.core.ledger.state import State
from qustream.model.state import Table

MOST = (1 << 63) - 1


def test_what_is_due_comes_once_the_oldest_first():
    state = State(MemoryReader())
    for at_ms, name in ((300, b"c"), (5, b"a"), (MOST, b"d"), (256, b"b")):
        remind(state, at_ms, Table.LICENCE, name)
    assert list(due(state, 4, 10)) == []
    assert list(due(state, 299, 10)) == [(5, Table.LICENCE, b"a"), (256, Table.LICENCE, b"b")]
    assert list(due(state, 300, 10)) == [(300, Table.LICENCE, b"c")]
    assert list(due(state, 300, 10)) == []
    assert list(due(state, MOST, 10)) == [(MOST, Table.LICENCE, b"d")]


def test_no_more_than_asked_for():
    state = State(MemoryReader())
    for number in range(10):
        remind(state, number, Table.GRANT, bytes([number]))
    assert [name for _, _, name in due(state, 100, 4)] == [b"\x00", b"\x01", b"\x02", b"\x03"]
    assert [name for _, _, name in due(state, 100, 4)] == [b"\x04", b"\x05", b"\x06", b"\x07"]
    assert [name for _, _, name in due(state, 100, 4)] == [b"\x08", b"\x09"]


def test_what_is_forgotten_does_not_come():
    state = State(MemoryReader())
    remind(state, 5, Table.LICENCE, b"a")
    remind(state, 5, Table.INCIDENT, b"a")
    forget(state, 5, Table.LICENCE, b"a")
    forget(state, 6, Table.LICENCE, b"a")
    assert list(due(state, 5, 10)) == [(5, Table.INCIDENT, b"a")]
