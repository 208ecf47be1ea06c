"""What may stand in a block: `proto/spec/ledger.md`, §3; rule V5 of consensus."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.ledger_world import QST, LedgerWorld, key, opened, signed

from qnode.core.ledger.admission import EXPIRES_AHEAD_MAX, Admission
from qustream.errors import QuStreamError
from qustream.model.ids import account_id
from qustream.wire.transactions import BuyGrant, BuyLicence, Delegate, RollOver, Stake, Transfer

MOST = (1 << 63) - 1
WEALTH = 1_000 * QST
FREE = {"fee_byte": 0, "fee_gas": 0}


@pytest.fixture
def world() -> LedgerWorld:
    return LedgerWorld(people=2, wealth=WEALTH)


def asked(world: LedgerWorld, *unexecuted) -> Admission:
    return Admission(world.state(), [each.body for each in unexecuted], world.parameters)


def pay(amount: int = 1) -> Transfer:
    return Transfer(bytes(20), amount)


def test_what_is_in_order_is_admitted(world):
    admission = asked(world)
    for _ in range(3):
        assert admission.add(world.checked(world.people[0], pay()), 1) is None
    assert admission.next_nonce(world.account(0)) == 3
    assert admission.next_nonce(world.account(1)) == 0


def test_nonces_have_neither_gaps_nor_repetitions(world):
    admission, sender = asked(world), world.people[0]
    for nonce, code in (
        (1, "E-LEDGER-NONCE"),
        (MOST, "E-LEDGER-NONCE"),
        (0, None),
        (0, "E-LEDGER-NONCE"),
        (2, "E-LEDGER-NONCE"),
        (1, None),
    ):
        assert admission.add(world.checked(sender, pay(), nonce=nonce), 1) == code


def test_what_was_executed_is_not_admitted_again(world):
    done = world.checked(world.people[0], pay())
    assert world.block(done).receipts[0].code == ""
    assert asked(world).add(done, 2) == "E-LEDGER-NONCE"
    assert asked(world).add(world.checked(world.people[0], pay()), 2) is None


def test_nonces_go_on_from_what_is_not_executed(world):
    first, second = world.checked(world.people[0], pay()), world.checked(world.people[0], pay())
    assert asked(world, first).add(first, 2) == "E-LEDGER-NONCE"
    assert asked(world, first).add(second, 2) is None
    assert asked(world, first, second).add(second, 2) == "E-LEDGER-NONCE"


def test_the_key_comes_along_until_the_executed_state_has_it(world):
    sender = world.people[0]
    assert asked(world).add(world.checked(sender, pay(), bare=True), 1) == "E-LEDGER-KEY"
    first = world.checked(sender, pay(), nonce=0)
    # A block that is not executed may yet be of another branch.
    assert asked(world, first).add(world.checked(sender, pay(), nonce=1, bare=True), 2) == "E-LEDGER-KEY"
    world.block(first)
    assert asked(world).add(world.checked(sender, pay(), bare=True), 2) is None


def test_an_account_nobody_has_heard_of_can_pay_nothing():
    world = LedgerWorld(people=1, **FREE)
    assert asked(world).add(world.checked(key("stranger"), pay()), 1) == "E-LEDGER-FUNDS"


@pytest.mark.parametrize(
    ("expires", "code"),
    [(99, "E-LEDGER-EXPIRED"), (0, "E-LEDGER-EXPIRED"), (100, None), (100 + EXPIRES_AHEAD_MAX, None),
     (101 + EXPIRES_AHEAD_MAX, "E-LEDGER-EXPIRED"), (MOST, "E-LEDGER-EXPIRED")],
)  # fmt: skip
def test_expiry(world, expires, code):
    assert asked(world).add(world.checked(world.people[0], pay(), expires=expires), 100) == code


def test_the_fee_is_by_bytes_and_signatures(world):
    least = world.checked(world.people[0], pay(), nonce=0)
    assert asked(world).add(least, 1) is None
    below = replace(least.body, fee=least.body.fee - 1)
    assert asked(world).add(replace_body(least, below), 1) == "E-LEDGER-FEE"
    # The key is the larger half of the first one: without it the same costs less.
    bare = world.checked(world.people[0], pay(), nonce=0, bare=True)
    assert least.size - bare.size > 1_900


def replace_body(checked, body):
    return type(checked)(checked.id, checked.size, body, checked.key)


def test_fee_and_outflow_are_at_most_what_is_there(world):
    sender = world.people[0]
    fee = world.checked(sender, pay(), nonce=0).body.fee + 10_000
    for amount, code in ((WEALTH - fee, None), (WEALTH - fee + 1, "E-LEDGER-FUNDS"), (MOST, "E-LEDGER-FUNDS")):
        assert asked(world).add(world.checked(sender, pay(amount), nonce=0, fee=fee), 1) == code


@pytest.mark.parametrize(
    "action",
    [
        pay(MOST), Stake(bytes(16)), Delegate(bytes(16), MOST), BuyLicence(bytes(16), MOST),
        BuyGrant(bytes(32), bytes(32), 1, 1, 1, None, MOST), RollOver(bytes(32), bytes(32), 1, 1, MOST),
    ],
    ids=lambda action: type(action).__name__,
)  # fmt: skip
def test_sums_beyond_any_number_are_refused_and_nothing_else_happens(world, action):
    admission = asked(world)
    assert admission.add(world.checked(world.people[0], action, nonce=0, fee=MOST), 1) == "E-LEDGER-FUNDS"
    assert admission.add(world.checked(world.people[0], action, nonce=0), 1) == "E-LEDGER-FUNDS"
    assert admission.add(world.checked(world.people[0], pay(), nonce=0), 1) is None


def test_all_that_somebody_has_there_is_added_up():
    world = LedgerWorld(people=2, wealth=WEALTH, **FREE)
    sender = world.people[0]
    halves = [world.checked(sender, pay(WEALTH // 2)) for _ in range(3)]
    assert [asked(world).add(halves[0], 1), asked(world, halves[0]).add(halves[1], 2)] == [None, None]
    admission = asked(world, halves[0])
    assert [admission.add(halves[1], 2), admission.add(halves[2], 2)] == [None, "E-LEDGER-FUNDS"]


def test_what_is_on_its_way_to_somebody_does_not_count():
    world = LedgerWorld(people=2, wealth=WEALTH, **FREE)
    admission = asked(world, world.checked(world.people[0], Transfer(world.account(1), WEALTH)))
    assert admission.add(world.checked(world.people[1], pay(WEALTH + 1)), 2) == "E-LEDGER-FUNDS"
    assert admission.add(world.checked(world.people[1], pay(WEALTH), nonce=0), 2) is None


def test_what_is_refused_leaves_the_sums_as_they_were():
    world = LedgerWorld(people=1, wealth=WEALTH, **FREE)
    admission = asked(world)
    for _ in range(3):
        assert admission.add(world.checked(world.people[0], pay(WEALTH + 1), nonce=0), 1) == "E-LEDGER-FUNDS"
    assert admission.add(world.checked(world.people[0], pay(WEALTH), nonce=0), 1) is None


def test_real_bytes_are_asked_about_as_they_are(world):
    body = world.body(world.people[0], pay())
    checked = opened(signed(world.people[0], body))
    assert checked.body == body
    assert asked(world).add(checked, 1) is None
    raw = signed(world.people[0], body)
    assert account_id(world.people[0].id) == body.sender
    for bad in (raw[:-1], raw + b"\x00", b"", bytes(65_537)):
        with pytest.raises(QuStreamError) as caught:
            opened(bad)
        assert caught.value.code.startswith("E-WIRE-")
