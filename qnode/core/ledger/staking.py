"""The stake of a licence: stake, unstake, top_up (`proto/spec/ledger.md`, §3)."""

from __future__ import annotations

from msgspec.structs import replace

from qnode.core.ledger import rotations, validators
from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.expiry import forget
from qnode.core.ledger.licences import is_banned, owned, unbond
from qnode.core.ledger.money import Place, take
from qnode.core.ledger.state import State
from qustream.model.state import LicenceStatus, Table
from qustream.wire.transactions import Stake, TopUp, Unstake

__all__ = ["RULES"]


def _stake(state: State, action: Stake, context: Context) -> Outcome:
    licence = owned(state, action.licence, context, LicenceStatus.ACTIVE)
    if isinstance(licence, str):
        return licence
    if licence.staked or is_banned(state, context.sender):
        return "E-LEDGER-STATUS"
    amount = context.parameters.stake
    if not take(state, context.sender, amount, target=Place.STAKED):
        return "E-LEDGER-FUNDS"
    state.put(Table.LICENCE, action.licence, replace(licence, staked=amount, locked_until_ms=context.time_ms + context.parameters.lock_ms))
    return (happened("staked", action.licence, context.sender, amount),)


def _unstake(state: State, action: Unstake, context: Context) -> Outcome:
    licence = owned(state, action.licence, context)
    if isinstance(licence, str):
        return licence
    if not licence.staked or licence.incidents or validators.is_on_duty(state, action.licence, context.time_ms):
        return "E-LEDGER-STATUS"
    # When the chain stood still, duty was over by the clock before the last rotation in which it could offend had begun.
    if rotations.has_seat(state, action.licence, context.rotation):
        return "E-LEDGER-STATUS"
    if context.time_ms < licence.locked_until_ms:
        return "E-LEDGER-LOCKED"
    if licence.top_up_by_ms:
        forget(state, licence.top_up_by_ms, Table.LICENCE, action.licence)
    unbond(state, action.licence, licence, context.parameters, context.time_ms)
    return (happened("unstaked", action.licence, context.sender, licence.staked),)


def _top_up(state: State, action: TopUp, context: Context) -> Outcome:
    licence = owned(state, action.licence, context)
    if isinstance(licence, str):
        return licence
    if not licence.staked or licence.staked == context.parameters.stake:
        return "E-LEDGER-STATUS"
    if action.amount != context.parameters.stake - licence.staked:
        return "E-LEDGER-PRICE"
    if not take(state, context.sender, action.amount, target=Place.STAKED):
        return "E-LEDGER-FUNDS"
    forget(state, licence.top_up_by_ms, Table.LICENCE, action.licence)
    state.put(Table.LICENCE, action.licence, replace(licence, staked=context.parameters.stake, top_up_by_ms=0))
    return (happened("topped-up", action.licence, context.sender, action.amount),)


RULES = {
    Stake: Rule(_stake, outflow=lambda _action, parameters: parameters.stake),
    Unstake: Rule(_unstake),
    TopUp: Rule(_top_up, outflow=lambda action, _parameters: action.amount),
}
