"""Nouns over a reader, and taking changes back: `proto/spec/ledger.md`, §2."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ledger_world import MemoryReader

from qnode.core.ledger.state import KINDS, State
from qustream.model.state import Account, Grants, PoolEntry, Table, UnbondEntry
from qustream.wire.codec import encode

NAMES = st.sampled_from([bytes([first, second]) for first in range(3) for second in range(3)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, st.integers(0, 9)),
        st.tuples(st.just("delete"), NAMES, st.just(0)),
        st.tuples(st.just("mark"), st.just(b""), st.just(0)),
        st.tuples(st.just("undo"), st.just(b""), st.just(0)),
    ),
    max_size=30,
)


def test_every_table_has_its_noun():
    assert set(KINDS) == set(Table)


def test_what_is_put_is_got_and_what_is_not_there_is_none():
    state = State(MemoryReader())
    assert state.get(Table.ACCOUNT, b"a", Account) is None
    state.put(Table.ACCOUNT, b"a", Account(1, 2))
    assert state.get(Table.ACCOUNT, b"a", Account) == Account(1, 2)
    assert state.get(Table.POOL, b"a", PoolEntry) is None
    with pytest.raises(AssertionError, match="POOL has no 61"):
        state.must(Table.POOL, b"a", PoolEntry)


def test_a_noun_stands_in_its_own_table_only():
    with pytest.raises(AssertionError, match="PoolEntry in ACCOUNT"):
        State(MemoryReader()).put(Table.ACCOUNT, b"a", PoolEntry(1))


def test_accounts_are_not_gone_through():
    with pytest.raises(AssertionError, match="ACCOUNT is not gone through"):
        State(MemoryReader()).scan(Table.ACCOUNT, b"", 1)


def test_changes_are_encoded_and_say_what_goes():
    reader = MemoryReader()
    reader.apply({b"\x0da": encode(UnbondEntry(1))})
    state = State(reader)
    state.delete(Table.UNBOND, b"a")
    state.delete(Table.UNBOND, b"never there")
    state.put(Table.UNBOND, b"b", UnbondEntry(2))
    assert state.changes() == {b"\x0da": None, b"\x0db": encode(UnbondEntry(2))}


def model_scan(entries: dict[bytes, int], prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, UnbondEntry]]:
    names = sorted(name for name in entries if name.startswith(prefix) and (not after or name > after))
    return [(name, UnbondEntry(entries[name])) for name in names[:limit]]


@settings(deadline=None)
@given(
    st.dictionaries(NAMES, st.integers(0, 9)), STEPS, st.sampled_from([b"", b"\x01"]), st.one_of(st.just(b""), NAMES), st.integers(1, 10)
)
def test_it_is_a_dictionary_whatever_is_taken_back(stored, steps, prefix, after, limit):
    """Against a plain dictionary and copies of it: `get`, `scan`, `undo`, and what `changes` makes of the stored state."""
    reader = MemoryReader()
    reader.apply({b"\x0d" + name: encode(UnbondEntry(shares)) for name, shares in stored.items()})
    reader.apply({b"\x0c\x01": b"before", b"\x0e": b"behind"})
    state, model, marks = State(reader), dict(stored), []
    for what, name, shares in steps:
        if what == "put":
            state.put(Table.UNBOND, name, UnbondEntry(shares))
            model[name] = shares
        elif what == "delete":
            state.delete(Table.UNBOND, name)
            model.pop(name, None)
        elif what == "mark":
            marks.append((state.mark(), dict(model)))
        elif marks:
            mark, model = marks.pop()
            state.undo(mark)
        assert state.scan(Table.UNBOND, prefix, limit, after=after) == model_scan(model, prefix, after, limit)
    assert all(state.get(Table.UNBOND, name, UnbondEntry) == UnbondEntry(shares) for name, shares in model.items())
    reader.apply(state.changes())
    assert {name: entry.shares for name, entry in reader.nouns(Table.UNBOND).items()} == model


def test_all_taken_back_leaves_nothing():
    state = State(MemoryReader())
    state.put(Table.OWNED, b"a", Grants())
    state.delete(Table.OWNED, b"b")
    state.undo(0)
    assert state.changes() == {}
    assert state.scan(Table.OWNED, b"", 10) == []
