"""Giving money to an account (`proto/spec/ledger.md`, §3)."""

from __future__ import annotations

from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.money import account
from qnode.core.ledger.state import State
from qustream.model.state import Account, Table
from qustream.wire.transactions import Transfer

__all__ = ["RULES"]


def _transfer(state: State, action: Transfer, context: Context) -> Outcome:
    """From liquid to liquid: the totals stay as they are."""
    sender, to, amount = context.sender, action.to, action.amount
    if to == sender:
        return "E-LEDGER-STATUS"
    source, target = account(state, sender), account(state, to)
    if source.liquid < amount:
        return "E-LEDGER-FUNDS"
    state.put(Table.ACCOUNT, sender, Account(source.nonce, source.liquid - amount))
    state.put(Table.ACCOUNT, to, Account(target.nonce, target.liquid + amount))
    return (happened("transferred", sender, to, amount),)


RULES = {Transfer: Rule(_transfer, outflow=lambda action, _parameters: action.amount)}
