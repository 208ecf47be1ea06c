"""The stake of a licence: `proto/spec/ledger.md`, §3."""

from __future__ import annotations

import pytest
from support.ledger_world import DAY_MS, HOUR_MS, QST, LedgerWorld

from qnode.core.ledger import rotations
from qnode.core.ledger.expiry import remind
from qnode.core.ledger.money import Place, burn
from qustream.model.state import Table, Validator
from qustream.wire.transactions import ExitValidator, Stake, TopUp, Transfer, Unstake

STAKE = 200_000 * QST


@pytest.fixture
def world() -> LedgerWorld:
    """Licence 0 votes, 1 runs a node, 2 is idle."""
    return LedgerWorld(validators=1, nodes=1, idle=1, people=1)


def staked(world: LedgerWorld) -> LedgerWorld:
    assert world.code(world.owners[1], Stake(world.licences[1])) == ""
    return world


def test_a_stake_is_all_or_nothing(world):
    done = world.block(world.checked(world.owners[1], Stake(world.licences[1])))
    assert [(event.name, event.amount) for event in done.receipts[0].events] == [("staked", STAKE)]
    licence = world.licence(1)
    assert (licence.staked, licence.locked_until_ms) == (STAKE, world.progress.time_ms + 30 * DAY_MS)
    world.audit()
    assert world.code(world.owners[1], Stake(world.licences[1])) == "E-LEDGER-STATUS"
    assert world.code(world.owners[1], Stake(world.licences[2])) == "E-LEDGER-OWNER"
    assert world.code(world.owners[2], Stake(world.licences[2])) == "E-LEDGER-STATUS"


def test_who_lacks_a_unit_does_not_stake():
    world = LedgerWorld(validators=1, nodes=2, idle=0, wealth=STAKE, fee_byte=0, fee_gas=0)
    assert world.code(world.owners[1], Transfer(bytes(20), 1)) == ""
    assert world.code(world.owners[1], Stake(world.licences[1])) == "E-LEDGER-FUNDS"
    assert world.code(world.owners[2], Stake(world.licences[2])) == ""
    world.audit()


def test_a_stake_is_locked_then_unbonds(world):
    staked(world)
    assert world.code(world.owners[1], Unstake(world.licences[1])) == "E-LEDGER-LOCKED"
    world.block(after_ms=30 * DAY_MS - 2_001)
    assert world.code(world.owners[1], Unstake(world.licences[1])) == "E-LEDGER-LOCKED"
    world.block(after_ms=1)
    assert world.code(world.people[0], Unstake(world.licences[1])) == "E-LEDGER-OWNER"
    assert world.code(world.owners[1], Unstake(world.licences[1])) == ""
    licence, now = world.licence(1), world.progress.time_ms
    assert (licence.staked, licence.unbonding, licence.free_ms, licence.unstaked_ms) == (0, STAKE, now + 28 * DAY_MS, now)
    world.audit()
    assert world.code(world.owners[1], Unstake(world.licences[1])) == "E-LEDGER-STATUS"


def test_whose_stake_unbonds_can_stake_again_and_both_come_back_at_the_later_time(world):
    staked(world).block(after_ms=30 * DAY_MS)
    world.code(world.owners[1], Unstake(world.licences[1]))
    staked(world).change(Table.LICENCE, world.licences[1], locked_until_ms=0)
    world.block(after_ms=DAY_MS)
    assert world.code(world.owners[1], Unstake(world.licences[1])) == ""
    licence = world.licence(1)
    assert (licence.staked, licence.unbonding, licence.free_ms) == (0, 2 * STAKE, world.progress.time_ms + 28 * DAY_MS)
    world.audit()


def test_not_while_an_incident_is_open(world):
    staked(world).block(after_ms=30 * DAY_MS)
    world.change(Table.LICENCE, world.licences[1], incidents=1)
    assert world.code(world.owners[1], Unstake(world.licences[1])) == "E-LEDGER-STATUS"


def test_a_validator_leaves_first():
    world = LedgerWorld(validators=2)
    world.block(after_ms=31 * DAY_MS)
    assert world.code(world.owners[0], Unstake(world.licences[0])) == "E-LEDGER-STATUS"
    assert world.code(world.owners[0], ExitValidator(world.licences[0])) == ""
    assert world.code(world.owners[0], Unstake(world.licences[0])) == "E-LEDGER-STATUS"
    leaves_ms = world.state().must(Table.VALIDATOR, world.licences[0], Validator).leaves_ms
    world.block(after_ms=leaves_ms - world.progress.time_ms)
    # By the clock its duty is over; in the rotation that begins now, and the one after it, it has a seat all the same.
    assert [seats_of(world, world.progress.rotation + more) for more in (1, 2)] == [True, False]
    assert world.code(world.owners[0], Unstake(world.licences[0])) == "E-LEDGER-STATUS"
    world.block(after_ms=HOUR_MS)
    assert world.code(world.owners[0], Unstake(world.licences[0])) == ""
    world.audit()


def seats_of(world: LedgerWorld, rotation: int) -> bool:
    return any(seat.licence == world.licences[0] for seat in rotations.current(world.state(), rotation).seats)


def test_a_chain_that_stood_still_lets_nobody_out_before_his_last_rotation_is_over():
    """Evidence counts from the end of that rotation, and a licence may be sold three weeks after its stake was taken off: a buyer would
    answer for what the seller has still signed."""
    world = LedgerWorld(validators=2)
    assert world.code(world.owners[0], ExitValidator(world.licences[0])) == ""
    world.block(after_ms=40 * DAY_MS)  # nothing was final for so long; duty and lock are over
    rotation = world.progress.rotation + 1
    assert seats_of(world, rotation)
    assert world.code(world.owners[0], Unstake(world.licences[0])) == "E-LEDGER-STATUS"
    world.block(after_ms=HOUR_MS)
    assert world.code(world.owners[0], Unstake(world.licences[0])) == ""
    assert rotations.began_ms(world.state(), rotation + 1) <= world.licence(0).unstaked_ms
    world.audit()


def slashed(world: LedgerWorld, missing: int) -> int:
    """A stake that is short, as a partial slash would leave it; by when it has to be whole again."""
    by_ms = world.progress.time_ms + 3 * DAY_MS
    world.change(Table.LICENCE, world.licences[0], staked=STAKE - missing, top_up_by_ms=by_ms)
    state = world.state()
    remind(state, by_ms, Table.LICENCE, world.licences[0])
    burn(state, missing, source=Place.STAKED)
    world.reader.apply(state.changes())
    return by_ms


def test_a_short_stake_is_filled_up_exactly(world):
    assert world.code(world.owners[0], TopUp(world.licences[0], 1)) == "E-LEDGER-STATUS"
    by_ms = slashed(world, 5 * QST)
    for amount in (5 * QST - 1, 5 * QST + 1):
        assert world.code(world.owners[0], TopUp(world.licences[0], amount)) == "E-LEDGER-PRICE"
    assert world.code(world.people[0], TopUp(world.licences[0], 5 * QST)) == "E-LEDGER-OWNER"
    assert world.code(world.owners[0], TopUp(world.licences[0], 5 * QST)) == ""
    assert (world.licence(0).staked, world.licence(0).top_up_by_ms) == (STAKE, 0)
    world.audit()
    world.block(after_ms=by_ms - world.progress.time_ms)
    assert world.licence(0).staked == STAKE


def test_a_chain_that_asks_for_more_has_stakes_filled_up(world):
    """As a change of parameters will do it; nothing does today, so it is done behind the ledger's back."""
    world.change(Table.PARAMETERS, b"", stake=STAKE + 50_000 * QST)
    for _ in range(2):
        world.block(after_ms=HOUR_MS)
    assert rotations.set_of(world.state(), world.progress.time_ms) == ()  # a short stake has no seat in what is made now
    assert world.code(world.owners[0], TopUp(world.licences[0], 50_000 * QST - 1)) == "E-LEDGER-PRICE"
    assert world.code(world.owners[0], TopUp(world.licences[0], 50_000 * QST)) == ""
    assert world.licence(0).staked == STAKE + 50_000 * QST
    [seat] = rotations.set_of(world.state(), world.progress.time_ms)
    assert (seat.licence, seat.weight) == (world.licences[0], STAKE + 50_000 * QST)
    world.audit()
    # Less than there is cannot be topped up.
    world.change(Table.PARAMETERS, b"", stake=STAKE)
    assert world.code(world.owners[0], TopUp(world.licences[0], 1)) == "E-LEDGER-PRICE"
    # Who stakes now puts down what is asked now.
    assert world.code(world.owners[1], Stake(world.licences[1])) == ""
    assert world.licence(1).staked == STAKE


def test_a_stake_that_stays_short_is_taken_off_and_the_validator_leaves(world):
    by_ms = slashed(world, 5 * QST)
    world.block(after_ms=by_ms - world.progress.time_ms - 1)
    assert world.licence(0).staked == STAKE - 5 * QST
    done = world.block(after_ms=1)
    assert [(event.name, event.amount) for event in done.receipts[-1].events] == [("unstaked", STAKE - 5 * QST)]
    assert (world.licence(0).staked, world.licence(0).unbonding) == (0, STAKE - 5 * QST)
    assert world.state().must(Table.VALIDATOR, world.licences[0], Validator).leaves_ms > world.progress.time_ms
    world.audit()
