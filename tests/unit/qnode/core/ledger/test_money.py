"""Moving money: `proto/spec/ledger.md`, §1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ledger_world import LedgerWorld, MemoryReader

from qnode.core.ledger.money import Place, account, burn, from_pool, pay, pool, shift, split, take, to_pool
from qnode.core.ledger.state import State
from qustream.model.state import Account, Pool, PoolEntry, Table, Totals

SOMEBODY, OTHER = bytes(20), bytes([1]) * 20


@pytest.fixture
def state() -> State:
    made = State(MemoryReader())
    made.put(Table.TOTALS, b"", Totals(1000, 0, 400, 300, 200, 100))
    made.put(Table.ACCOUNT, SOMEBODY, Account(7, 400))
    made.put(Table.POOL, bytes([Pool.RESERVE]), PoolEntry(100))
    return made


def totals(state: State) -> tuple[int, ...]:
    found = state.must(Table.TOTALS, b"", Totals)
    assert found.minted - found.burned == found.liquid + found.staked + found.unbonding + found.pools
    return found.burned, found.liquid, found.staked, found.unbonding, found.pools


def test_taking_and_paying(state):
    assert take(state, SOMEBODY, 150, target=Place.STAKED)
    assert totals(state) == (0, 250, 450, 200, 100)
    pay(state, OTHER, 50, source=Place.UNBONDING)
    assert totals(state) == (0, 300, 450, 150, 100)
    assert (account(state, SOMEBODY), account(state, OTHER)) == (Account(7, 250), Account(0, 50))


def test_nobody_gives_more_than_he_has(state):
    assert not take(state, SOMEBODY, 401, target=Place.POOLS)
    assert not take(state, OTHER, 1, target=Place.POOLS)
    assert take(state, OTHER, 0, target=Place.POOLS)
    assert totals(state) == (0, 400, 300, 200, 100)
    assert state.get(Table.ACCOUNT, OTHER, Account) is None


def test_paying_nothing_makes_no_account(state):
    pay(state, OTHER, 0, source=Place.POOLS)
    assert state.get(Table.ACCOUNT, OTHER, Account) is None


def test_pools(state):
    from_pool(state, Pool.RESERVE, 30)
    to_pool(state, Pool.NODES, 30, source=Place.POOLS)
    to_pool(state, Pool.ESCROW, 20, source=Place.STAKED)
    assert [pool(state, which) for which in Pool] == [30, 0, 70, 0, 20]
    assert totals(state) == (0, 400, 280, 200, 120)
    with pytest.raises(AssertionError, match="RESERVE holds 70, not 71"):
        from_pool(state, Pool.RESERVE, 71)


def test_burning(state):
    burn(state, 300, source=Place.STAKED)
    assert totals(state) == (300, 400, 0, 200, 100)
    with pytest.raises(AssertionError):
        burn(state, 1, source=Place.STAKED)


def test_no_place_goes_below_nothing(state):
    with pytest.raises(AssertionError, match="unbonding holds less than 201"):
        shift(state, Place.UNBONDING, Place.LIQUID, 201)
    with pytest.raises(AssertionError):
        shift(state, Place.UNBONDING, Place.LIQUID, -1)
    shift(state, Place.LIQUID, Place.LIQUID, 10**18)
    assert totals(state) == (0, 400, 300, 200, 100)


@given(st.integers(0, 10**18), st.lists(st.integers(0, 2_500), max_size=4))
def test_a_split_loses_nothing_and_treats_equals_alike(amount, parts):
    shares, dust = split(amount, tuple(parts), 10_000)
    assert sum(shares) + dust == amount
    assert all(amount * part // 10_000 == share for part, share in zip(parts, shares, strict=True))
    assert dust >= 0
    for part, share in zip(parts, shares, strict=True):
        assert share == shares[parts.index(part)]
    ordered = sorted(zip(parts, shares, strict=True))
    assert [share for _, share in ordered] == sorted(shares)


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10_000))
def test_more_in_is_never_less_out(one, other, part):
    low, high = sorted((one, other))
    assert split(low, (part,), 10_000)[0] <= split(high, (part,), 10_000)[0]


def test_parts_above_the_whole_are_our_own_mistake():
    with pytest.raises(AssertionError):
        split(10, (6_000, 5_000), 10_000)


def test_the_world_adds_up_from_the_beginning():
    LedgerWorld().audit()
