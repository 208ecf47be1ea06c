"""All kinds of actions together: `proto/spec/ledger.md`, §3."""

from __future__ import annotations

import typing

import msgspec
from support.ledger_world import PARAMETERS, QST

from qnode.core.ledger.actions import RULES, fee_least, gas, outflow
from qustream.wire.transactions import (
    AnyAction,
    BuyGrant,
    BuyLicence,
    Claim,
    Delegate,
    ListLicence,
    RegisterValidator,
    RollOver,
    Stake,
    TopUp,
    Transfer,
)

L, H = bytes(16), bytes(32)


def test_every_kind_has_one_rule_and_a_number_of_its_own():
    kinds = typing.get_args(AnyAction)
    assert set(RULES) == set(kinds)
    tags = [msgspec.inspect.type_info(kind).tag for kind in kinds]
    assert tags == list(range(1, len(kinds) + 1))


def test_what_can_go_out():
    cases = [
        (Transfer(bytes(20), 7), 7), (Stake(L), 200_000 * QST), (TopUp(L, 8), 8), (Delegate(L, 9), 9), (BuyLicence(L, 10), 10),
        (BuyGrant(H, H, 1, 1, 1, None, 11), 11), (RollOver(H, H, 1, 1, 12), 12), (ListLicence(L, 13), 0), (Claim(L), 0),
    ]  # fmt: skip
    assert [outflow(action, PARAMETERS) for action, _ in cases] == [units for _, units in cases]
    spending = {type(action) for action, units in cases if units}
    default = RULES[Claim].outflow
    assert {kind for kind, rule in RULES.items() if rule.outflow is not default} == spending


def test_what_a_transaction_costs_at_least():
    register = RegisterValidator(L, None, b"", H, 1, 0, b"", b"")  # type: ignore[arg-type]  # what is in it costs nothing
    assert (gas(Transfer(bytes(20), 1)), gas(register)) == (1, 3)
    assert fee_least(Transfer(bytes(20), 1), 3_500, PARAMETERS) == 3_500 * 1_000 + 1_000_000
    assert fee_least(register, 10_000, PARAMETERS) == 10_000 * 1_000 + 3_000_000
