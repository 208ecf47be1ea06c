"""Money on somebody else's validator, and its way back (`proto/spec/ledger.md`, §3).

A delegation is shares of what is bonded to a validator, so that a slash takes the same part of everybody's without touching his entry. What
is taken back waits in a batch a validator and day, shares again, for the same reason: what happened before can still be slashed.
"""

from __future__ import annotations

from msgspec.structs import replace

from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.money import Place, shift, take
from qnode.core.ledger.rewards import BASIS, settle
from qnode.core.ledger.state import State
from qustream.model.state import Delegation, Parameters, Table, UnbondBatch, UnbondEntry, Validator
from qustream.wire.transactions import Delegate, Undelegate

__all__ = ["DAY_MS", "RULES", "WITHDRAW_MAX", "slash", "withdraw"]

DAY_MS = 86_400_000  # a batch a day: whoever takes back together waits at most a day for the others
_DAY_BYTES = 4  # days since 1970, as keys have them
# Days of one delegator with one validator that one claim looks at, oldest first: who takes back every day claims once in two months.
WITHDRAW_MAX = 64
# What a number in the state holds.
SHARES_MAX = 0x7FFFFFFFFFFFFFFF


def _delegate(state: State, action: Delegate, context: Context) -> Outcome:
    validator = state.get(Table.VALIDATOR, action.licence, Validator)
    if validator is None:
        return "E-LEDGER-UNKNOWN"
    # Nothing on somebody who leaves, nor where what is bonded was slashed to nothing: the old shares would take of it.
    if validator.leaves_ms or (validator.shares and not validator.bonded):
        return "E-LEDGER-STATUS"
    if action.amount < context.parameters.delegation_min:
        return "E-LEDGER-PRICE"
    shares = action.amount * validator.shares // validator.bonded if validator.shares else action.amount
    if not shares or validator.shares + shares > SHARES_MAX:
        return "E-LEDGER-PRICE"
    if not take(state, context.sender, action.amount, target=Place.STAKED):
        return "E-LEDGER-FUNDS"
    held = settle(state, action.licence, context.sender)
    state.put(Table.DELEGATION, action.licence + context.sender, replace(held, shares=held.shares + shares))
    grown = replace(validator, bonded=validator.bonded + action.amount, shares=validator.shares + shares)
    state.put(Table.VALIDATOR, action.licence, grown)
    return (happened("delegated", action.licence, context.sender, action.amount),)


def _undelegate(state: State, action: Undelegate, context: Context) -> Outcome:
    validator = state.get(Table.VALIDATOR, action.licence, Validator)
    if validator is None:
        return "E-LEDGER-UNKNOWN"
    held = settle(state, action.licence, context.sender)
    if held.shares < action.shares:
        return "E-LEDGER-FUNDS"
    units = action.shares * validator.bonded // validator.shares
    if validator.bonded and not units:
        return "E-LEDGER-PRICE"
    _put_or_drop(state, action.licence + context.sender, replace(held, shares=held.shares - action.shares))
    shrunk = replace(validator, bonded=validator.bonded - units, shares=validator.shares - action.shares)
    state.put(Table.VALIDATOR, action.licence, shrunk)
    # Of what was slashed to nothing the shares are taken off, and nothing comes back.
    if units and not _unbond(state, action.licence, units, context):
        return "E-LEDGER-STATUS"
    return (happened("undelegated", action.licence, context.sender, units),)


def _put_or_drop(state: State, name: bytes, delegation: Delegation) -> None:
    if delegation.shares or delegation.earned:
        state.put(Table.DELEGATION, name, delegation)
    else:
        state.delete(Table.DELEGATION, name)


def _day(time_ms: int) -> bytes:
    return (time_ms // DAY_MS).to_bytes(_DAY_BYTES, "big")


def _unbond(state: State, licence: bytes, units: int, context: Context) -> bool:
    """Put units in today's batch; not if that was slashed to nothing today: what comes now would be divided with what is gone."""
    day, free_ms = _day(context.time_ms), context.time_ms + context.parameters.unbonding_ms
    batch = state.get(Table.UNBOND_BATCH, licence + day, UnbondBatch) or UnbondBatch(0, 0, 0)
    if batch.shares and not batch.units:
        return False
    shares = units * batch.shares // batch.units if batch.shares else units
    if batch.shares + shares > SHARES_MAX:
        return False
    state.put(Table.UNBOND_BATCH, licence + day, UnbondBatch(batch.units + units, batch.shares + shares, free_ms))
    name = context.sender + licence + day
    entry = state.get(Table.UNBOND, name, UnbondEntry) or UnbondEntry(0)
    state.put(Table.UNBOND, name, UnbondEntry(entry.shares + shares))
    shift(state, Place.STAKED, Place.UNBONDING, units)
    return True


def withdraw(state: State, account: bytes, licence: bytes, now_ms: int) -> int:
    """Take out somebody's parts of a validator's batches whose time is over: units, which are in no entry then and still count as
    unbonding. The last takes what floors have left."""
    units = 0
    for name, noun in list(state.scan(Table.UNBOND, account + licence, WITHDRAW_MAX)):
        assert isinstance(noun, UnbondEntry)
        batch_name = name[len(account) :]
        batch = state.must(Table.UNBOND_BATCH, batch_name, UnbondBatch)
        if batch.free_ms > now_ms:
            continue
        part = noun.shares * batch.units // batch.shares
        units += part
        state.delete(Table.UNBOND, name)
        if noun.shares == batch.shares:
            state.delete(Table.UNBOND_BATCH, batch_name)
        else:
            state.put(Table.UNBOND_BATCH, batch_name, UnbondBatch(batch.units - part, batch.shares - noun.shares, batch.free_ms))
    return units


def slash(state: State, licence: bytes, part_bp: int, now_ms: int, set_ms: int = 0) -> tuple[int, int]:
    """Take a part of what is delegated to a validator, and of what was until lately: units that were staked, units that were unbonding.
    They are in no entry then, and where they were in the totals. `set_ms`: at the earliest then the set was made in which it offended:
    a batch that was complete before was no part of its weight."""
    validator = state.get(Table.VALIDATOR, licence, Validator)
    bonded = 0
    if validator is not None:
        bonded = validator.bonded * part_bp // BASIS
        state.put(Table.VALIDATOR, licence, replace(validator, bonded=validator.bonded - bonded))
    unbonding_ms = state.must(Table.PARAMETERS, b"", Parameters).unbonding_ms
    # Batches of earlier days are free, whether or not everybody has taken his part.
    days = unbonding_ms // DAY_MS + 2
    before = max(0, now_ms // DAY_MS - days)
    unbonding = 0
    for name, noun in list(state.scan(Table.UNBOND_BATCH, licence, days + 1, after=licence + before.to_bytes(_DAY_BYTES, "big"))):
        assert isinstance(noun, UnbondBatch)
        if noun.free_ms > now_ms and noun.free_ms - unbonding_ms > set_ms:
            part = noun.units * part_bp // BASIS
            unbonding += part
            state.put(Table.UNBOND_BATCH, name, replace(noun, units=noun.units - part))
    return bonded, unbonding


def _amount(action: Delegate, _parameters: Parameters) -> int:
    return action.amount


RULES = {Delegate: Rule(_delegate, outflow=_amount), Undelegate: Rule(_undelegate)}
