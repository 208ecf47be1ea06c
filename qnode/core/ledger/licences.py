"""Licences and the nodes that run under them: activate, retire, update_node (`proto/spec/ledger.md`, §3)."""

from __future__ import annotations

from msgspec.structs import replace

from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.money import Place, from_pool, pay, shift
from qnode.core.ledger.state import State
from qustream.model.receipt import LedgerEvent
from qustream.model.state import Ban, Licence, LicenceStatus, NodeEntry, Parameters, Pool, Table, Validator
from qustream.wire.transactions import Activate, Retire, UpdateNode

__all__ = ["RULES", "is_banned", "owned", "pay_operator", "unbond"]


def owned(state: State, licence: bytes, context: Context, status: LicenceStatus | None = None) -> Licence | str:
    """A licence of the sender's, in this status if one is named; or why not."""
    entry = state.get(Table.LICENCE, licence, Licence)
    if entry is None:
        return "E-LEDGER-UNKNOWN"
    if entry.owner != context.sender:
        return "E-LEDGER-OWNER"
    if status is not None and entry.status is not status:
        return "E-LEDGER-STATUS"
    return entry


def is_banned(state: State, name: bytes) -> bool:
    """Whether an account or a node may not come back, for an offence under some licence."""
    return state.get(Table.BANNED, name, Ban) is not None


def unbond(state: State, name: bytes, licence: Licence, parameters: Parameters, now_ms: int) -> None:
    """All of a licence's stake is on its way back. What was on its way already waits with it."""
    shift(state, Place.STAKED, Place.UNBONDING, licence.staked)
    free = replace(
        licence, staked=0, locked_until_ms=0, top_up_by_ms=0, unbonding=licence.unbonding + licence.staked,
        free_ms=now_ms + parameters.unbonding_ms, unstaked_ms=now_ms,
    )  # fmt: skip
    state.put(Table.LICENCE, name, free)


def pay_operator(state: State, name: bytes, payee: bytes) -> tuple[LedgerEvent, ...]:
    """What the operator of a validator has earned; nothing if there is none."""
    validator = state.get(Table.VALIDATOR, name, Validator)
    if validator is None or not validator.earned:
        return ()
    state.put(Table.VALIDATOR, name, replace(validator, earned=0))
    from_pool(state, Pool.REWARDS, validator.earned)
    pay(state, payee, validator.earned, source=Place.POOLS)
    return (happened("operator-paid", name, payee, validator.earned),)


def _activate(state: State, action: Activate, context: Context) -> Outcome:
    licence = owned(state, action.licence, context, LicenceStatus.IDLE)
    if isinstance(licence, str):
        return licence
    node = action.node.id
    if is_banned(state, context.sender) or is_banned(state, node):
        return "E-LEDGER-STATUS"
    if state.get(Table.NODE, node, NodeEntry) is not None:
        return "E-LEDGER-KNOWN"
    state.put(Table.NODE, node, NodeEntry(action.licence, action.node, action.addresses))
    active = replace(
        licence, status=LicenceStatus.ACTIVE, node=node, payee=action.payee, since_epoch=context.epoch + 1, price=0
    )  # fmt: skip
    state.put(Table.LICENCE, action.licence, active)
    return (happened("licence-activated", action.licence, node),)


def _retire(state: State, action: Retire, context: Context) -> Outcome:
    licence = owned(state, action.licence, context, LicenceStatus.ACTIVE)
    if isinstance(licence, str):
        return licence
    if licence.staked:
        return "E-LEDGER-STATUS"
    assert licence.node is not None, "an active licence has a node"
    state.delete(Table.NODE, licence.node)
    # Where its earnings were to go is known no longer after this.
    events = pay_operator(state, action.licence, licence.payee)
    state.put(Table.LICENCE, action.licence, replace(licence, status=LicenceStatus.IDLE, node=None, payee=licence.owner, since_epoch=0))
    return (happened("licence-retired", action.licence, licence.node), *events)


def _update_node(state: State, action: UpdateNode, context: Context) -> Outcome:
    licence = owned(state, action.licence, context, LicenceStatus.ACTIVE)
    if isinstance(licence, str):
        return licence
    assert licence.node is not None, "an active licence has a node"
    entry = state.must(Table.NODE, licence.node, NodeEntry)
    state.put(Table.NODE, licence.node, replace(entry, addresses=action.addresses))
    return (happened("node-updated", action.licence, licence.node),)


RULES = {Activate: Rule(_activate, signatures=1), Retire: Rule(_retire), UpdateNode: Rule(_update_node)}
