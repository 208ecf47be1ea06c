"""Nouns over a reader, and taking changes back: `proto/spec/ledger.md`, §2."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ledger_world import MemoryReader

from qnode.core.ledger.state import KINDS, State
from qustream.model.state import Account, Grants, PoolEntry, Table, UnbondBatch, UnbondEntry
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


def calls_of_claims(claimants: int) -> int:
    """How many built-in functions are called while so many go through sixteen days of their own each, and take them out."""
    state, calls = State(MemoryReader()), 0
    names = [bytes([number]) * 36 + day.to_bytes(4, "big") for number in range(claimants) for day in range(16)]
    for name in names:
        state.put(Table.UNBOND, name, UnbondEntry(1))

    def count(_frame: object, event: str, _what: object) -> None:
        nonlocal calls
        calls += event == "c_call"

    sys.setprofile(count)
    try:
        for number in range(claimants):
            for name, _ in state.scan(Table.UNBOND, bytes([number]) * 36, 64):
                state.delete(Table.UNBOND, name)
    finally:
        sys.setprofile(None)
    return calls


def test_a_block_of_claims_costs_each_what_is_its_own() -> None:
    assert calls_of_claims(40) < 3 * calls_of_claims(20)


WRITTEN = st.tuples(st.sampled_from([Table.UNBOND, Table.UNBOND_BATCH, Table.OWNED]), st.binary(min_size=38, max_size=40))


@given(st.lists(WRITTEN, max_size=30), st.data())
def test_what_was_set_is_found_under_every_prefix(written: list[tuple[Table, bytes]], data: st.DataObject) -> None:
    state = State(MemoryReader())
    nouns = {Table.UNBOND: UnbondEntry(1), Table.UNBOND_BATCH: UnbondBatch(1, 1, 1), Table.OWNED: Grants()}
    for table, name in written:
        state.put(table, name, nouns[table])
    for table, name in written:
        prefix = name[: data.draw(st.integers(0, len(name)))]
        wanted = sorted({other for kind, other in written if kind is table and other.startswith(prefix)})
        assert [found for found, _ in state.scan(table, prefix, 100)] == wanted
