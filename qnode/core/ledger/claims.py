"""Taking what is one's own: rewards, and money whose unbonding is over (`proto/spec/ledger.md`, §3)."""

from __future__ import annotations

from msgspec.structs import replace

from qnode.core.ledger import delegation, rewards
from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.licences import pay_operator
from qnode.core.ledger.money import Place, from_pool, pay
from qnode.core.ledger.state import State
from qustream.model.receipt import LedgerEvent
from qustream.model.state import Licence, Pool, Table
from qustream.wire.transactions import Claim

__all__ = ["RULES"]


def _claim(state: State, action: Claim, context: Context) -> Outcome:
    licence = state.get(Table.LICENCE, action.licence, Licence)
    if licence is None:
        return "E-LEDGER-UNKNOWN"
    events = _as_delegator(state, action.licence, context)
    if licence.owner == context.sender:
        events += pay_operator(state, action.licence, licence.payee) + _own_stake(state, action.licence, licence, context)
    return events or "E-LEDGER-NOTHING"


def _as_delegator(state: State, name: bytes, context: Context) -> tuple[LedgerEvent, ...]:
    sender, events = context.sender, []
    earned = rewards.collect(state, name, sender)
    if earned:
        from_pool(state, Pool.REWARDS, earned)
        pay(state, sender, earned, source=Place.POOLS)
        events.append(happened("delegator-paid", name, sender, earned))
    back = delegation.withdraw(state, sender, name, context.time_ms)
    if back:
        pay(state, sender, back, source=Place.UNBONDING)
        events.append(happened("unbonded", name, sender, back))
    return tuple(events)


def _own_stake(state: State, name: bytes, licence: Licence, context: Context) -> tuple[LedgerEvent, ...]:
    """Not while an incident is open: what is decided of it may still be taken from here."""
    if not licence.unbonding or licence.incidents or context.time_ms < licence.free_ms:
        return ()
    state.put(Table.LICENCE, name, replace(licence, unbonding=0, free_ms=0))
    pay(state, licence.owner, licence.unbonding, source=Place.UNBONDING)
    return (happened("unbonded", name, licence.owner, licence.unbonding),)


RULES = {Claim: Rule(_claim)}
