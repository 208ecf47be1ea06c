"""Giving money to an account: `proto/spec/ledger.md`, §3."""

from __future__ import annotations

import pytest
from support.ledger_world import QST, LedgerWorld

from qustream.wire.transactions import Transfer

MOST = (1 << 63) - 1
STRANGER = bytes(range(20))


@pytest.fixture
def world() -> LedgerWorld:
    return LedgerWorld(wealth=1_000_000 * QST)


def test_what_one_gives_the_other_has(world):
    sender, before = world.people[0], world.liquid(world.account(0))
    checked = world.checked(sender, Transfer(STRANGER, 5 * QST))
    receipt = world.block(checked).receipts[0]
    assert (receipt.code, receipt.fee) == ("", checked.body.fee)
    (event,) = receipt.events
    assert (event.name, event.subject, event.other, event.amount) == ("transferred", world.account(0), STRANGER, 5 * QST)
    assert world.liquid(STRANGER) == 5 * QST
    assert world.liquid(world.account(0)) == before - 5 * QST - receipt.fee
    world.audit()


def test_all_but_the_fee_can_be_given(world):
    sender, held = world.people[0], world.liquid(world.account(0))
    fee = world.body(sender, Transfer(STRANGER, held - 10**7)).fee
    world.block(world.checked(sender, Transfer(STRANGER, held - fee), nonce=0, fee=fee))
    assert world.liquid(world.account(0)) == 0
    assert world.liquid(STRANGER) == held - fee
    world.audit()


@pytest.mark.parametrize("amount", [1_000_000 * QST, MOST])
def test_more_than_one_has_is_refused_and_the_fee_kept(world, amount):
    before = world.liquid(world.account(0))
    receipt = world.block(world.checked(world.people[0], Transfer(STRANGER, amount))).receipts[0]
    assert (receipt.code, receipt.events) == ("E-LEDGER-FUNDS", ())
    assert receipt.fee > 0
    assert world.liquid(world.account(0)) == before - receipt.fee
    assert world.liquid(STRANGER) == 0
    world.audit()


def test_nobody_gives_to_himself(world):
    assert world.code(world.people[0], Transfer(world.account(0), 1)) == "E-LEDGER-STATUS"


def test_what_came_in_this_block_can_be_given_on_in_it(world):
    """Execution is in order; that it may stand there is `admission`'s to refuse."""
    poor = world.people[1]
    has = world.liquid(world.account(1))
    done = world.block(
        world.checked(world.people[0], Transfer(world.account(1), 7 * QST)), world.checked(poor, Transfer(STRANGER, has))
    )  # fmt: skip
    assert [receipt.code for receipt in done.receipts] == ["", "", ""]
    world.audit()
