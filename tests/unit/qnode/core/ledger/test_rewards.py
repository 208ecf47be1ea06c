"""Fees and who earns them: nothing is made, nobody gets more than his part."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.ledger_world import HOUR_MS, QST, LedgerWorld

from qnode.core.ledger import rewards, rotations
from qnode.core.ledger.money import pool
from qnode.core.ledger.state import State
from qustream.model.state import Account, Delegation, Licence, LicenceStatus, Pool, Table, Validator
from qustream.wire.transactions import Claim, Delegate, EditValidator, Transfer, Undelegate

STAKE = 200_000 * QST


def paid(world: LedgerWorld, state: State, units: int, number: int = 0) -> None:
    """A block's fees, as they are taken: from an account's entry, and given to the proposer."""
    payer = world.account(0)
    held = state.must(Table.ACCOUNT, payer, Account)
    state.put(Table.ACCOUNT, payer, Account(held.nonce, held.liquid - units))
    rewards.fees(state, world.licences[number], units)


def validator(state: State, world: LedgerWorld, number: int = 0) -> Validator:
    return state.must(Table.VALIDATOR, world.licences[number], Validator)


def bonded(world: LedgerWorld, state: State, amounts: list[int], commission_bp: int = 0) -> list[bytes]:
    """Delegations to the first validator, put there by hand (out of the owners' stakes: the sums are not looked at)."""
    names = [bytes([n]) * 20 for n in range(len(amounts))]
    for name, amount in zip(names, amounts, strict=True):
        state.put(Table.DELEGATION, world.licences[0] + name, Delegation(amount, bytes(16), 0))
    found = replace(validator(state, world), bonded=sum(amounts), shares=sum(amounts), commission_bp=commission_bp)
    state.put(Table.VALIDATOR, world.licences[0], found)
    return names


def test_the_operator_alone_gets_all() -> None:
    world = LedgerWorld()
    state = world.state()
    paid(world, state, 1_000_003)
    assert validator(state, world).earned == 1_000_003
    assert pool(state, Pool.REWARDS) == 1_000_003
    world.reader.apply(state.changes())
    world.audit()


def test_a_tenth_of_commission_and_shares_by_stake() -> None:
    world = LedgerWorld()
    state = world.state()
    (one, other) = bonded(world, state, [STAKE // 2, STAKE // 2], commission_bp=1_000)
    paid(world, state, 1_000_000)
    assert validator(state, world).earned == 500_000 + 50_000
    # The index is a floor, and so is what comes of it: a unit less is what that costs at most.
    assert [rewards.collect(state, world.licences[0], name) for name in (one, other)] == [224_999, 224_999]
    assert [rewards.collect(state, world.licences[0], name) for name in (one, other, b"x" * 20)] == [0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 10**15), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 10**12), st.lists(st.integers(0, 4), max_size=3)), min_size=1, max_size=12),
    st.integers(0, 10_000),
)
def test_no_order_of_blocks_and_claims_gives_anybody_more_than_his_part(
    amounts: list[int], blocks: list[tuple[int, list[int]]], commission_bp: int
) -> None:
    world = LedgerWorld()
    state, licence = world.state(), world.licences[0]
    names = bonded(world, state, amounts, commission_bp)
    got, exact, claims = [0] * len(names), [Fraction(0)] * len(names), [0] * len(names)
    total = 0
    for units, claiming in blocks:
        paid(world, state, units)
        total += units
        own = units * STAKE // (STAKE + sum(amounts))
        theirs = units - own - (units - own) * commission_bp // 10_000
        for number, amount in enumerate(amounts):
            exact[number] += Fraction(theirs * amount, sum(amounts))
        for number in claiming:
            if number < len(names):
                got[number] += rewards.collect(state, licence, names[number])
                claims[number] += 1
    for number, name in enumerate(names):
        got[number] += rewards.collect(state, licence, name)
        # A floor a claim is lost at most, and never a unit won.
        assert exact[number] - claims[number] - 2 < got[number] <= exact[number]
    assert sum(got) + validator(state, world).earned <= total == pool(state, Pool.REWARDS)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 10**15), st.lists(st.integers(0, 10**12), min_size=1, max_size=8))
def test_equal_in_equal_out(amount: int, fees: list[int]) -> None:
    world = LedgerWorld()
    state = world.state()
    names = bonded(world, state, [amount, amount, amount])
    for units in fees:
        paid(world, state, units)
    assert len({rewards.collect(state, world.licences[0], name) for name in names}) == 1


def test_what_a_division_leaves_is_not_lost() -> None:
    world = LedgerWorld()
    state = world.state()
    bonded(world, state, [4 * 10**18 + 1])
    theirs = 0
    for number in range(50):
        units = 10**9 + number
        paid(world, state, units)
        theirs += units - units * STAKE // (STAKE + 4 * 10**18 + 1)
    found = validator(state, world)
    assert int.from_bytes(found.index, "big") * found.shares + int.from_bytes(found.rest, "big") == theirs << 64


def test_settling_in_between_changes_nothing_but_a_floor() -> None:
    world = LedgerWorld()
    state = world.state()
    (often, once) = bonded(world, state, [10**12 + 7, 10**12 + 7])
    for _ in range(50):
        paid(world, state, 999_983)
        rewards.settle(state, world.licences[0], often)
    difference = rewards.collect(state, world.licences[0], once) - rewards.collect(state, world.licences[0], often)
    assert 0 <= difference <= 50


def test_the_index_may_pass_its_end() -> None:
    world = LedgerWorld()
    state = world.state()
    high = ((1 << 128) - 5).to_bytes(16, "big")
    (name,) = bonded(world, state, [STAKE])
    state.put(Table.VALIDATOR, world.licences[0], replace(validator(state, world), index=high))
    state.put(Table.DELEGATION, world.licences[0] + name, Delegation(STAKE, high, 0))
    paid(world, state, 2_000_000)
    assert int.from_bytes(validator(state, world).index, "big") < 1 << 100
    assert rewards.collect(state, world.licences[0], name) in (999_999, 1_000_000)


def test_who_was_removed_or_has_nothing_at_stake_earns_nothing() -> None:
    for fields in ({"status": LicenceStatus.REMOVED}, {"status": LicenceStatus.IDLE}, {"staked": 0}):
        world = LedgerWorld()
        state = world.state()
        before = pool(state, Pool.RESERVE)
        state.put(Table.LICENCE, world.licences[0], replace(state.must(Table.LICENCE, world.licences[0], Licence), **fields))
        paid(world, state, 77)
        assert pool(state, Pool.RESERVE) == before + 77
        assert pool(state, Pool.REWARDS) == 0


def test_a_day_of_a_chain_pays_exactly_its_fees() -> None:
    """The same through blocks: what is claimed in the end are the fees, but for floors, which stay in the pool."""
    world = LedgerWorld(validators=3)
    for number, person in enumerate(world.people[:4]):
        assert world.code(person, Delegate(world.licences[number % 2], (1_000 + 333 * number) * QST)) == ""
    fees = pool(world.state(), Pool.REWARDS)
    for number in range(40):
        sender = world.people[number % 6]
        checked = world.checked(sender, Transfer(world.account((number + 1) % 6), 1 + number))
        fees += checked.body.fee
        world.block(checked, after_ms=HOUR_MS // 10)
        world.audit()
        if number == 20:
            edit = world.checked(world.owners[0], EditValidator(world.licences[0], 10_000, bytes(32), 0))
            fees += edit.body.fee
            world.block(edit)
    state = world.state()
    assert pool(state, Pool.REWARDS) == fees
    assert rotations.current(state, world.progress.rotation).views > 0
    for person, licence in ((0, 0), (1, 1), (2, 0), (3, 1)):
        shares = world.state().must(Table.DELEGATION, world.licences[licence] + world.account(person), Delegation).shares
        assert world.code(world.people[person], Undelegate(world.licences[licence], shares)) == ""
        world.code(world.people[person], Claim(world.licences[licence]))
        assert world.state().get(Table.DELEGATION, world.licences[licence] + world.account(person), Delegation) is None
    left = world.state()
    earned = sum(validator(left, world, number).earned for number in range(3))
    # A unit for each settlement at most.
    assert 0 <= pool(left, Pool.REWARDS) - earned <= 12
    world.audit()
