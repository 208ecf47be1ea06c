"""All kinds of actions, and what each costs and takes (`proto/spec/ledger.md`, §3)."""

from __future__ import annotations

from qnode.core.ledger import (
    claims,
    delegation,
    evidence,
    grants,
    licences,
    market,
    staking,
    suspensions,
    transfer,
    users,
    validators,
)
from qnode.core.ledger.context import Rule
from qustream.model.state import Parameters
from qustream.wire.transactions import Action

__all__ = ["RULES", "fee_least", "gas", "outflow"]

_MODULES = (
    transfer, licences, market, staking, validators, delegation, claims, suspensions, evidence, users, grants,
)  # fmt: skip
RULES: dict[type[Action], Rule] = {
    kind: rule for module in _MODULES for kind, rule in module.RULES.items()
}  # fmt: skip


def gas(action: Action) -> int:
    """What executing it costs beside its bytes: one for the action and one for each signature in it."""
    return 1 + RULES[type(action)].signatures


def outflow(action: Action, parameters: Parameters) -> int:
    """At most what the action takes from what its sender has liquid, the fee not counted."""
    return RULES[type(action)].outflow(action, parameters)


def fee_least(action: Action, size: int, parameters: Parameters) -> int:
    """The lowest fee of a transaction of `size` bytes with this action."""
    return parameters.fee_byte * size + parameters.fee_gas * gas(action)
