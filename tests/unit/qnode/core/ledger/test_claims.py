"""Taking what is one's own: `proto/spec/ledger.md`, §3."""

from __future__ import annotations

import pytest
from support.ledger_world import DAY_MS, QST, LedgerWorld

from qustream.model.ids import account_id
from qustream.model.state import Delegation, Pool, Table, UnbondBatch, UnbondEntry, Validator
from qustream.wire.transactions import Claim, Delegate, Stake, Transfer, Undelegate, Unstake

STAKE = 200_000 * QST
NO_FEE = {"fee_byte": 0, "fee_gas": 0}


@pytest.fixture
def world() -> LedgerWorld:
    """Licence 0 votes, 1 runs a node, 2 is idle. The least fee is nothing, so that what is claimed can be told from it."""
    return LedgerWorld(validators=1, nodes=1, idle=1, people=4, **NO_FEE)


def taken(world: LedgerWorld, who, licence: bytes) -> list[tuple[str, int]]:
    before = world.liquid(account_id(who.id))
    receipt = world.block(world.checked(who, Claim(licence))).receipts[0]
    assert receipt.code == ""
    events = [(event.name, event.amount) for event in receipt.events]
    assert world.liquid(account_id(who.id)) == before + sum(amount for _, amount in events)
    world.audit()
    return events


def test_nothing_to_take(world):
    assert world.code(world.people[0], Claim(world.licences[0])) == "E-LEDGER-NOTHING"
    assert world.code(world.owners[0], Claim(world.licences[2])) == "E-LEDGER-NOTHING"
    assert world.code(world.people[0], Claim(bytes(16))) == "E-LEDGER-UNKNOWN"


def test_the_operator_takes_fees_and_what_comes_later_with_the_next_claim(world):
    world.block(world.checked(world.people[0], Transfer(world.account(1), 1), fee=1_000))
    assert taken(world, world.owners[0], world.licences[0]) == [("operator-paid", 1_000)]
    assert world.code(world.owners[0], Claim(world.licences[0])) == "E-LEDGER-NOTHING"
    assert world.code(world.people[0], Claim(world.licences[0])) == "E-LEDGER-NOTHING"


def test_what_the_operator_earned_goes_to_the_payee(world):
    world.change(Table.LICENCE, world.licences[0], payee=world.account(3))
    before = world.liquid(world.account(3))
    world.block(world.checked(world.people[0], Transfer(world.account(1), 1), fee=1_000))
    assert world.code(world.owners[0], Claim(world.licences[0])) == ""
    assert world.liquid(world.account(3)) == before + 1_000


def test_equal_delegations_take_equal_rewards(world):
    for person in world.people[:3]:
        assert world.code(person, Delegate(world.licences[0], 100_000 * QST)) == ""
    world.block(world.checked(world.people[3], Transfer(world.account(0), 1), fee=1_000_003))
    own = 1_000_003 * 200_000 // 500_000
    commission = (1_000_003 - own) // 10
    each = (1_000_003 - own - commission) // 3
    for person in world.people[:3]:
        assert taken(world, person, world.licences[0]) == [("delegator-paid", each)]
    assert taken(world, world.owners[0], world.licences[0]) == [("operator-paid", own + commission)]


def test_own_stake_comes_back_when_its_time_is_over(world):
    world.block(world.checked(world.owners[1], Stake(world.licences[1])))
    world.block(after_ms=30 * DAY_MS)
    assert world.code(world.owners[1], Unstake(world.licences[1])) == ""
    world.block(after_ms=28 * DAY_MS - 1_001)
    assert world.code(world.owners[1], Claim(world.licences[1])) == "E-LEDGER-NOTHING"
    world.block(after_ms=1)
    assert world.code(world.people[0], Claim(world.licences[1])) == "E-LEDGER-NOTHING"
    world.change(Table.LICENCE, world.licences[1], incidents=1)
    assert world.code(world.owners[1], Claim(world.licences[1])) == "E-LEDGER-NOTHING"
    world.change(Table.LICENCE, world.licences[1], incidents=0)
    assert taken(world, world.owners[1], world.licences[1]) == [("unbonded", STAKE)]
    assert (world.licence(1).unbonding, world.licence(1).free_ms) == (0, 0)


def test_what_was_delegated_comes_back_when_its_time_is_over(world):
    amount = 50 * QST
    for person in world.people[:2]:
        world.code(person, Delegate(world.licences[0], amount))
        world.code(person, Undelegate(world.licences[0], amount))
    free_ms = next(iter(world.reader.nouns(Table.UNBOND_BATCH).values())).free_ms
    world.block(after_ms=free_ms - world.progress.time_ms - 1_001)
    assert world.code(world.people[0], Claim(world.licences[0])) == "E-LEDGER-NOTHING"
    for person in world.people[:2]:
        assert taken(world, person, world.licences[0]) == [("unbonded", amount)]
        assert world.code(person, Claim(world.licences[0])) == "E-LEDGER-NOTHING"
    for table in (Table.UNBOND, Table.UNBOND_BATCH, Table.DELEGATION):
        assert world.reader.nouns(table) == {}


def test_sixty_four_days_come_back_at_once_and_the_rest_later(world):
    state, name = world.state(), world.licences[0]
    for day in range(70):
        batch = name + day.to_bytes(4, "big")
        state.put(Table.UNBOND_BATCH, batch, UnbondBatch(1, 1, 5))
        state.put(Table.UNBOND, world.account(0) + batch, UnbondEntry(1))
    world.reader.apply(state.changes())
    world.change(Table.TOTALS, b"", unbonding=70)
    world.change(Table.POOL, bytes([Pool.RESERVE]), amount=world.reader.nouns(Table.POOL)[bytes([Pool.RESERVE])].amount - 70)
    world.change(Table.TOTALS, b"", pools=world.reader.nouns(Table.TOTALS)[b""].pools - 70)
    assert taken(world, world.people[0], name) == [("unbonded", 64)]
    assert taken(world, world.people[0], name) == [("unbonded", 6)]


def test_rewards_and_money_come_in_one_claim_and_nothing_is_left(world):
    person = world.people[0]
    world.code(person, Delegate(world.licences[0], 200_000 * QST))
    world.block(world.checked(world.people[3], Transfer(world.account(1), 1), fee=1_000))
    world.code(person, Undelegate(world.licences[0], 200_000 * QST))
    world.block(after_ms=29 * DAY_MS)
    # 450 by the index, which is a floor: the unit stays in the pool.
    assert taken(world, person, world.licences[0]) == [("delegator-paid", 449), ("unbonded", 200_000 * QST)]
    assert world.state().get(Table.DELEGATION, world.licences[0] + world.account(0), Delegation) is None
    assert world.state().must(Table.VALIDATOR, world.licences[0], Validator).shares == 0
