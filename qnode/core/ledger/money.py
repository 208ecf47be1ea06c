"""Moving money: the entry and the total change together, so that the sum of all places stays what it is (`proto/spec/ledger.md`, §1).

Whoever keeps money in an entry of his own (a stake, delegations, a batch) changes the entry himself and calls `shift` for the totals.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec.structs import replace

from qnode.core.ledger.state import State
from qustream.model.state import Account, Pool, PoolEntry, Table, Totals

__all__ = ["Place", "account", "burn", "from_pool", "pay", "pool", "shift", "split", "take", "to_pool"]


class Place(StrEnum):
    """Where money is: the fields of `Totals`."""

    LIQUID = "liquid"
    STAKED = "staked"
    UNBONDING = "unbonding"
    POOLS = "pools"


def shift(state: State, source: Place, target: Place, amount: int) -> None:
    """Change the totals alone."""
    assert amount >= 0
    if source is target or not amount:
        return
    totals = state.must(Table.TOTALS, b"", Totals)
    moved = {source.value: getattr(totals, source) - amount, target.value: getattr(totals, target) + amount}
    assert moved[source.value] >= 0, f"{source} holds less than {amount}"
    state.put(Table.TOTALS, b"", replace(totals, **moved))


def account(state: State, name: bytes) -> Account:
    """What an account has; one that nobody has heard of has nothing."""
    return state.get(Table.ACCOUNT, name, Account) or Account(0, 0)


def pay(state: State, name: bytes, amount: int, *, source: Place) -> None:
    """Money from `source` becomes an account's."""
    if amount:
        held = account(state, name)
        state.put(Table.ACCOUNT, name, Account(held.nonce, held.liquid + amount))
        shift(state, source, Place.LIQUID, amount)


def take(state: State, name: bytes, amount: int, *, target: Place) -> bool:
    """Money of an account goes to `target`; False, and nothing done, if it has less."""
    held = account(state, name)
    if held.liquid < amount:
        return False
    if amount:
        state.put(Table.ACCOUNT, name, Account(held.nonce, held.liquid - amount))
        shift(state, Place.LIQUID, target, amount)
    return True


def pool(state: State, which: Pool) -> int:
    """What a pool holds."""
    entry = state.get(Table.POOL, bytes([which]), PoolEntry)
    return entry.amount if entry is not None else 0


def to_pool(state: State, which: Pool, amount: int, *, source: Place) -> None:
    """Money from `source` goes into a pool. From `Place.POOLS`: another pool has been lowered already."""
    if amount:
        state.put(Table.POOL, bytes([which]), PoolEntry(pool(state, which) + amount))
        shift(state, source, Place.POOLS, amount)


def from_pool(state: State, which: Pool, amount: int) -> None:
    """Lower a pool; the money is in `Place.POOLS` until `pay` or `to_pool` takes it from there."""
    held = pool(state, which)
    assert held >= amount, f"pool {which.name} holds {held}, not {amount}"
    if amount:
        state.put(Table.POOL, bytes([which]), PoolEntry(held - amount))


def burn(state: State, amount: int, *, source: Place) -> None:
    """Money from `source` is no more."""
    totals = state.must(Table.TOTALS, b"", Totals)
    left = getattr(totals, source.value) - amount
    assert left >= 0, f"{source} holds less than {amount}"
    state.put(Table.TOTALS, b"", replace(totals, **{source.value: left, "burned": totals.burned + amount}))


def split(amount: int, parts: tuple[int, ...], whole: int) -> tuple[tuple[int, ...], int]:
    """`amount` in the proportions `parts` of `whole`, floors, and what is left of it. Equal parts get equal amounts."""
    assert sum(parts) <= whole != 0
    shares = tuple(amount * part // whole for part in parts)
    return shares, amount - sum(shares)
