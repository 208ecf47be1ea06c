"""Delegations and their way back: shares of what is bonded, shares of batches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.ledger_world import DAY_MS, HOUR_MS, QST, LedgerWorld

from qnode.core.ledger import delegation
from qnode.core.ledger.money import Place, to_pool
from qustream.model.state import Delegation, Pool, Table, UnbondBatch, UnbondEntry, Validator
from qustream.wire.transactions import Claim, Delegate, ExitValidator, Undelegate


def held(world: LedgerWorld, person: int, licence: int = 0) -> int:
    """Somebody's shares."""
    found = world.state().get(Table.DELEGATION, world.licences[licence] + world.account(person), Delegation)
    return found.shares if found is not None else 0


def validator(world: LedgerWorld, number: int = 0) -> Validator:
    return world.state().must(Table.VALIDATOR, world.licences[number], Validator)


def slashed(world: LedgerWorld, part_bp: int) -> tuple[int, int]:
    """As evidence does it."""
    state = world.state()
    found = delegation.slash(state, world.licences[0], part_bp, world.progress.time_ms)
    to_pool(state, Pool.ESCROW, found[0], source=Place.STAKED)
    to_pool(state, Pool.ESCROW, found[1], source=Place.UNBONDING)
    world.reader.apply(state.changes())
    return found


def test_there_and_back() -> None:
    world = LedgerWorld()
    before, licence = world.liquid(world.account(0)), world.licences[0]
    there = world.checked(world.people[0], Delegate(licence, 500 * QST))
    world.block(there)
    assert (held(world, 0), validator(world).bonded, validator(world).shares) == (500 * QST,) * 3
    back = world.checked(world.people[0], Undelegate(licence, 500 * QST))
    world.block(back)
    # What it has earned meanwhile is still to be claimed.
    assert (held(world, 0), validator(world).bonded, validator(world).shares) == (0, 0, 0)
    early = world.checked(world.people[0], Claim(licence))
    world.block(early)
    world.audit()
    world.block(after_ms=28 * DAY_MS)
    last = world.checked(world.people[0], Claim(licence))
    assert [receipt.code for receipt in world.block(last).receipts] == ["", ""]
    world.audit()
    assert not world.reader.nouns(Table.UNBOND)
    assert not world.reader.nouns(Table.UNBOND_BATCH)
    fees = sum(each.body.fee for each in (there, back, early, last))
    assert before - fees <= world.liquid(world.account(0)) <= before


def test_what_is_refused() -> None:
    world = LedgerWorld(wealth=100 * QST)
    person, licence = world.people[0], world.licences[0]
    assert world.code(person, Delegate(licence, 10 * QST - 1)) == "E-LEDGER-PRICE"
    assert world.code(person, Delegate(world.licences[4], 10 * QST)) == "E-LEDGER-UNKNOWN"
    assert world.code(person, Undelegate(world.licences[4], 1)) == "E-LEDGER-UNKNOWN"
    assert world.code(person, Delegate(licence, 100 * QST)) == "E-LEDGER-FUNDS"
    assert world.code(person, Undelegate(licence, 1)) == "E-LEDGER-FUNDS"
    assert world.code(person, Delegate(licence, 10 * QST)) == ""
    assert world.code(person, Undelegate(licence, 10 * QST + 1)) == "E-LEDGER-FUNDS"
    assert world.code(world.people[1], Undelegate(licence, 1)) == "E-LEDGER-FUNDS"
    world.audit()


def test_nobody_joins_who_leaves_and_everybody_can_go() -> None:
    world = LedgerWorld()
    person, licence = world.people[0], world.licences[0]
    assert world.code(person, Delegate(licence, 10 * QST)) == ""
    assert world.code(world.owners[0], ExitValidator(licence)) == ""
    assert world.code(world.people[1], Delegate(licence, 10 * QST)) == "E-LEDGER-STATUS"
    for _ in range(4):
        world.block(after_ms=HOUR_MS)
    assert world.code(person, Undelegate(licence, 10 * QST)) == ""
    world.audit()


def test_a_slash_takes_the_same_part_of_everybody_and_of_what_left_before() -> None:
    world = LedgerWorld()
    licence = world.licences[0]
    for person in range(3):
        assert world.code(world.people[person], Delegate(licence, 1_000 * QST)) == ""
    assert world.code(world.people[1], Undelegate(licence, 1_000 * QST)) == ""
    world.block(after_ms=5 * DAY_MS)
    assert world.code(world.people[2], Undelegate(licence, 500 * QST)) == ""
    assert slashed(world, 1_000) == (150 * QST, 150 * QST)
    world.audit()
    # Who comes now gets more shares for his money, and loses nothing of it.
    assert world.code(world.people[3], Delegate(licence, 900 * QST)) == ""
    assert held(world, 3) == 1_000 * QST
    for person in (0, 2, 3):
        assert world.code(world.people[person], Undelegate(licence, held(world, person))) == ""
    world.block(after_ms=29 * DAY_MS)
    back = []
    for person in range(4):
        checked = world.checked(world.people[person], Claim(licence))
        events = world.block(checked).receipts[0].events
        back.append(sum(event.amount for event in events if event.name == "unbonded"))
    assert back == [900 * QST, 900 * QST, 900 * QST, 900 * QST]
    assert not world.reader.nouns(Table.UNBOND_BATCH)
    world.audit()


def test_what_is_free_is_not_slashed_whether_or_not_it_was_claimed() -> None:
    world = LedgerWorld()
    licence = world.licences[0]
    assert world.code(world.people[0], Delegate(licence, 100 * QST)) == ""
    assert world.code(world.people[0], Undelegate(licence, 60 * QST)) == ""
    world.block(after_ms=28 * DAY_MS - 1_001)
    assert slashed(world, 1_000)[1] == 6 * QST
    world.block(after_ms=1_000)
    assert slashed(world, 1_000)[1] == 54 * QST // 10
    world.block(after_ms=1)
    assert slashed(world, 1_000)[1] == 0


def test_slashed_to_nothing() -> None:
    world = LedgerWorld()
    licence, (one, other) = world.licences[0], world.people[:2]
    assert world.code(one, Delegate(licence, 100 * QST)) == ""
    assert world.code(other, Delegate(licence, 100 * QST)) == ""
    assert world.code(one, Undelegate(licence, 40 * QST)) == ""
    slashed(world, 10_000)
    # The dead shares would take of what comes in: nobody can join them, on either side.
    assert world.code(world.people[2], Delegate(licence, 100 * QST)) == "E-LEDGER-STATUS"
    assert world.code(one, Undelegate(licence, 60 * QST)) == ""
    assert world.code(other, Undelegate(licence, 100 * QST)) == ""
    assert (validator(world).bonded, validator(world).shares) == (0, 0)
    assert world.code(world.people[2], Delegate(licence, 100 * QST)) == ""
    assert world.code(world.people[2], Undelegate(licence, 10 * QST)) == "E-LEDGER-STATUS"
    world.block(after_ms=DAY_MS)
    assert world.code(world.people[2], Undelegate(licence, 10 * QST)) == ""
    world.block(after_ms=29 * DAY_MS)
    world.code(one, Claim(licence))
    assert not [name for name in world.reader.nouns(Table.UNBOND) if name.startswith(world.account(0))]
    world.audit()


def test_shares_never_pass_what_a_number_holds() -> None:
    world = LedgerWorld()
    state = world.state()
    state.put(Table.VALIDATOR, world.licences[0], replace(validator(world), bonded=1, shares=(1 << 63) // 10**10))
    world.reader.apply(state.changes())
    assert world.code(world.people[0], Delegate(world.licences[0], 11 * QST)) == "E-LEDGER-PRICE"


def test_shares_too_few_for_a_unit_are_refused_and_not_lost() -> None:
    world = LedgerWorld()
    licence = world.licences[0]
    assert world.code(world.people[0], Delegate(licence, 100 * QST)) == ""
    slashed(world, 9_999)
    assert world.code(world.people[0], Undelegate(licence, 9_999)) == "E-LEDGER-PRICE"
    assert world.code(world.people[0], Undelegate(licence, 10_000)) == ""
    world.audit()


def test_a_claim_takes_a_bounded_number_of_days() -> None:
    world = LedgerWorld()
    licence = world.licences[0]
    assert world.code(world.people[0], Delegate(licence, 1_000 * QST)) == ""
    for _ in range(delegation.WITHDRAW_MAX + 6):
        world.block(world.checked(world.people[0], Undelegate(licence, QST)), after_ms=DAY_MS)
    world.block(after_ms=29 * DAY_MS)
    for left in (6, 0):
        assert world.code(world.people[0], Claim(licence)) == ""
        assert len(world.reader.nouns(Table.UNBOND)) == left
    world.audit()


STEPS = st.one_of(
    st.tuples(st.just("in"), st.integers(0, 3), st.integers(10 * QST, 5_000 * QST)),
    st.tuples(st.just("out"), st.integers(0, 3), st.integers(1, 1_000)),
    st.tuples(st.just("slash"), st.just(0), st.sampled_from([1, 1_000, 3_333])),
    st.tuples(st.just("wait"), st.just(0), st.integers(1, 20)),
    st.tuples(st.just("claim"), st.integers(0, 3), st.just(0)),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_whatever_they_do_nothing_is_made_and_the_shares_fit(steps: list[tuple[str, int, int]]) -> None:
    world = LedgerWorld(validators=1, people=4)
    licence = world.licences[0]
    for kind, person, figure in steps:
        match kind:
            case "in":
                world.code(world.people[person], Delegate(licence, figure))
            case "out":
                world.code(world.people[person], Undelegate(licence, max(1, held(world, person) * figure // 1_000)))
            case "slash":
                slashed(world, figure)
            case "wait":
                world.block(after_ms=figure * DAY_MS)
            case _:
                world.code(world.people[person], Claim(licence))
        world.audit()
        assert validator(world).shares == sum(held(world, each) for each in range(4))
        batches: dict[bytes, int] = {}
        for name, entry in world.reader.nouns(Table.UNBOND).items():
            assert isinstance(entry, UnbondEntry)
            batches[name[20:]] = batches.get(name[20:], 0) + entry.shares
        found = world.reader.nouns(Table.UNBOND_BATCH)
        assert batches == {name: batch.shares for name, batch in found.items() if isinstance(batch, UnbondBatch)}


@settings(max_examples=25, deadline=None)
@given(st.integers(10 * QST, 10**6 * QST // 2), st.integers(1, 999), st.integers(1, 9_999))
def test_leaving_before_the_slash_or_staying_is_the_same(amount: int, part: int, part_bp: int) -> None:
    """Within the units that floors cost: three, and what one share is worth."""
    world = LedgerWorld(validators=1, people=3)
    licence = world.licences[0]
    for person in range(3):
        world.code(world.people[person], Delegate(licence, amount))
    world.code(world.people[0], Undelegate(licence, amount))
    world.code(world.people[1], Undelegate(licence, max(1, amount * part // 1_000)))
    slashed(world, part_bp)
    worth = []
    for person in range(3):
        shares = held(world, person)
        if shares:
            world.code(world.people[person], Undelegate(licence, shares))
    world.block(after_ms=30 * DAY_MS)
    for person in range(3):
        events = world.block(world.checked(world.people[person], Claim(licence))).receipts[0].events
        worth.append(sum(event.amount for event in events if event.name == "unbonded"))
    assert max(worth) - min(worth) <= 4
    assert max(worth) <= amount - amount * part_bp // 10_000 + 2
    world.audit()


@pytest.mark.parametrize("days", [0, 1, 27])
def test_batches_of_other_validators_are_not_touched(days: int) -> None:
    world = LedgerWorld()
    for number in (0, 1):
        assert world.code(world.people[number], Delegate(world.licences[number], 100 * QST)) == ""
        assert world.code(world.people[number], Undelegate(world.licences[number], 100 * QST)) == ""
    world.block(after_ms=max(1, days * DAY_MS))
    assert slashed(world, 1_000) == (0, 10 * QST)
    world.audit()
