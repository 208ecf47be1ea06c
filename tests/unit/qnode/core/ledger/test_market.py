"""Licences for sale: `proto/spec/ledger.md`, §3."""

from __future__ import annotations

import pytest
from support.ledger_world import DAY_MS, QST, LedgerWorld

from qnode.core.ledger.money import Place, burn, pool
from qustream.model.ids import account_id
from qustream.model.state import Grants, LicenceStatus, Pool, Table
from qustream.wire.transactions import Activate, BuyLicence, ListLicence, UnlistLicence

PRICE = 100_000 * QST + 99


@pytest.fixture
def world() -> LedgerWorld:
    """Licence 0 votes, 1 runs a node, 2 and 3 are idle."""
    return LedgerWorld(validators=1, nodes=1, idle=2, people=2)


def test_a_sale_moves_the_licence_and_all_of_the_price(world):
    assert world.code(world.owners[2], ListLicence(world.licences[2], PRICE)) == ""
    seller, buyer = account_id(world.owners[2].id), world.account(0)
    before = world.liquid(seller), world.liquid(buyer), pool(world.state(), Pool.RESERVE)
    receipt = world.block(world.checked(world.people[0], BuyLicence(world.licences[2], PRICE))).receipts[0]
    fee = PRICE * 100 // 10_000
    assert [(event.name, event.amount) for event in receipt.events] == [("licence-bought", PRICE), ("licence-sold", PRICE - fee)]
    assert world.liquid(seller) == before[0] + PRICE - fee
    assert world.liquid(buyer) == before[1] - PRICE - receipt.fee
    assert pool(world.state(), Pool.RESERVE) == before[2] + fee
    licence = world.licence(2)
    assert (licence.owner, licence.payee, licence.price, licence.status) == (buyer, buyer, 0, LicenceStatus.IDLE)
    assert world.state().get(Table.OWNED, seller + world.licences[2], Grants) is None
    assert world.state().get(Table.OWNED, buyer + world.licences[2], Grants) is not None
    world.audit()
    assert world.code(world.owners[2], ListLicence(world.licences[2], PRICE)) == "E-LEDGER-OWNER"
    assert world.code(world.people[0], ListLicence(world.licences[2], PRICE)) == ""


def test_the_price_is_exact_and_the_buyer_somebody_else(world):
    world.code(world.owners[2], ListLicence(world.licences[2], PRICE))
    for price in (PRICE - 1, PRICE + 1):
        assert world.code(world.people[0], BuyLicence(world.licences[2], price)) == "E-LEDGER-PRICE"
    assert world.code(world.owners[2], BuyLicence(world.licences[2], PRICE)) == "E-LEDGER-OWNER"
    assert world.code(world.people[0], BuyLicence(bytes(16), PRICE)) == "E-LEDGER-UNKNOWN"
    assert world.code(world.people[0], BuyLicence(world.licences[3], PRICE)) == "E-LEDGER-STATUS"


def test_who_cannot_pay_does_not_buy(world):
    price = (1 << 63) - 1
    world.code(world.owners[2], ListLicence(world.licences[2], price))
    assert world.code(world.people[0], BuyLicence(world.licences[2], price)) == "E-LEDGER-FUNDS"
    assert world.licence(2).owner == account_id(world.owners[2].id)
    world.audit()


def test_two_buyers_in_one_block(world):
    world.code(world.owners[2], ListLicence(world.licences[2], PRICE))
    offers = [world.checked(person, BuyLicence(world.licences[2], PRICE)) for person in world.people]
    assert [receipt.code for receipt in world.block(*offers).receipts] == ["", "E-LEDGER-STATUS", ""]
    assert world.licence(2).owner == world.account(0)
    world.audit()


def test_what_runs_a_node_is_not_for_sale(world):
    for number in (0, 1):
        assert world.code(world.owners[number], ListLicence(world.licences[number], PRICE)) == "E-LEDGER-STATUS"


@pytest.mark.parametrize("fields", [{"unbonding": 1}, {"incidents": 1}])
def test_what_may_still_be_slashed_is_not_for_sale(world, fields):
    world.change(Table.LICENCE, world.licences[2], **fields)
    assert world.code(world.owners[2], ListLicence(world.licences[2], PRICE)) == "E-LEDGER-STATUS"


def test_what_was_staked_rests_first(world):
    now = world.progress.time_ms
    world.change(Table.LICENCE, world.licences[2], unstaked_ms=now)
    world.block(after_ms=21 * DAY_MS - 1_001)
    assert world.code(world.owners[2], ListLicence(world.licences[2], PRICE)) == "E-LEDGER-LOCKED"
    world.block(after_ms=1)
    assert world.code(world.owners[2], ListLicence(world.licences[2], PRICE)) == ""


def test_an_offence_found_after_listing_stops_the_sale(world):
    world.code(world.owners[2], ListLicence(world.licences[2], PRICE))
    world.change(Table.LICENCE, world.licences[2], incidents=1)
    assert world.code(world.people[0], BuyLicence(world.licences[2], PRICE)) == "E-LEDGER-STATUS"


def test_taken_off_the_market(world):
    assert world.code(world.owners[2], UnlistLicence(world.licences[2])) == "E-LEDGER-STATUS"
    world.code(world.owners[2], ListLicence(world.licences[2], PRICE))
    assert world.code(world.people[0], UnlistLicence(world.licences[2])) == "E-LEDGER-OWNER"
    assert world.code(world.owners[2], UnlistLicence(world.licences[2])) == ""
    assert world.code(world.people[0], BuyLicence(world.licences[2], PRICE)) == "E-LEDGER-STATUS"


def test_activating_takes_it_off_the_market(world):
    world.code(world.owners[2], ListLicence(world.licences[2], PRICE))
    node = world.people[0].public
    assert world.code(world.owners[2], Activate(world.licences[2], node, bytes(20), (), bytes(3373))) == ""
    assert world.code(world.people[0], BuyLicence(world.licences[2], PRICE)) == "E-LEDGER-STATUS"


def test_what_its_operator_earned_is_not_sold(world):
    """A licence that was removed is idle again without having been retired."""
    name, payee = world.licences[0], bytes(range(20))
    world.change(Table.LICENCE, name, status=LicenceStatus.IDLE, node=None, payee=payee, staked=0)
    state = world.state()
    burn(state, world.parameters.stake, source=Place.STAKED)
    world.reader.apply(state.changes())
    world.code(world.owners[0], ListLicence(name, PRICE))
    # The first block's fee went to the reserve: the licence is not active. So this is all it has.
    world.change(Table.VALIDATOR, name, earned=70)
    world.shift_pool(Pool.RESERVE, Pool.REWARDS, 70)
    receipt = world.block(world.checked(world.people[0], BuyLicence(name, PRICE))).receipts[0]
    assert [event.name for event in receipt.events] == ["licence-bought", "licence-sold", "operator-paid"]
    assert world.liquid(payee) == 70
    world.audit()
