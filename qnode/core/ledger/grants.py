"""Requests bought for a user (`proto/spec/ledger.md`, §3). When a grant goes is `timed`'s."""

from __future__ import annotations

from qnode.core.ledger import epochs
from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.expiry import remind
from qnode.core.ledger.money import Place, split, take, to_pool
from qnode.core.ledger.rewards import BASIS
from qnode.core.ledger.state import State
from qustream.model.network import Grant
from qustream.model.receipt import LedgerEvent
from qustream.model.state import GrantOf, Licence, LicenceStatus, Parameters, Pool, Table, UserEntry
from qustream.rules.pricing import grant_price as price
from qustream.rules.pricing import roll_over_price
from qustream.wire.chain import grant_id, rolled_id
from qustream.wire.transactions import BuyGrant, RollOver

__all__ = ["ENDED_AFTER_EPOCHS", "KEPT_EPOCHS", "RULES", "price", "roll_over_price"]

# A grant is served in its epoch and the next; then it has ended.
ENDED_AFTER_EPOCHS = 2
# And is kept so much longer, and its lifetime: for keys that were made at the end, and for rolling over.
KEPT_EPOCHS = 2
# What a number in the state holds. A price above it is more than there is money.
PRICE_MAX = 0x7FFFFFFFFFFFFFFF


def _buy(state: State, action: BuyGrant, context: Context) -> Outcome:
    user = state.get(Table.USER, action.user, UserEntry)
    if user is None:
        return "E-LEDGER-UNKNOWN"
    if user.alias is not None:
        return "E-LEDGER-STATUS"
    if action.pinned is not None and not _is_active(state, action.pinned):
        return "E-LEDGER-STATUS"
    if not 0 < action.lifetime_max_ms <= context.parameters.lifetime_max_ms:
        return "E-LEDGER-PRICE"
    name = grant_id(context.transaction)
    grant = Grant(
        name, action.user, action.root, action.count, action.stripes, context.epoch, action.lifetime_max_ms, action.pinned
    )  # fmt: skip
    return _sell(state, grant, price(context.parameters, action.count, action.lifetime_max_ms), action.price_max, context)


def _roll_over(state: State, action: RollOver, context: Context) -> Outcome:
    old = state.get(Table.GRANT, action.grant, Grant)
    if old is None:
        return "E-LEDGER-UNKNOWN"
    # Anybody else could take it away from the user for next to nothing: one request, under a root that nobody has the leaves of.
    if state.must(Table.GRANT_OF, old.owner + old.epoch.to_bytes(8, "big") + old.grant, GrantOf).buyer != context.sender:
        return "E-LEDGER-OWNER"
    if context.epoch < old.epoch + ENDED_AFTER_EPOCHS:
        return "E-LEDGER-LOCKED"
    name = rolled_id(action.grant)
    if state.get(Table.GRANT, name, Grant) is not None:
        return "E-LEDGER-KNOWN"
    if action.count > old.count:
        return "E-LEDGER-PRICE"
    # Nobody is kept from what he paid for because the node he had pinned is gone.
    pinned = old.pinned if old.pinned is not None and _is_active(state, old.pinned) else None
    grant = Grant(name, old.owner, action.root, action.count, action.stripes, context.epoch, old.lifetime_max_ms, pinned)
    return _sell(state, grant, roll_over_price(context.parameters, action.count, old.lifetime_max_ms), action.price_max, context)


def _is_active(state: State, licence: bytes) -> bool:
    found = state.get(Table.LICENCE, licence, Licence)
    return found is not None and found.status is LicenceStatus.ACTIVE


def _sell(state: State, grant: Grant, cost: int, cost_max: int, context: Context) -> Outcome:
    if cost > min(cost_max, PRICE_MAX):
        return "E-LEDGER-PRICE"
    if not take(state, context.sender, cost, target=Place.POOLS):
        return "E-LEDGER-FUNDS"
    parameters = context.parameters
    (nodes, operations), rest = split(cost, (parameters.nodes_bp, parameters.operations_bp), BASIS)
    to_pool(state, Pool.NODES, nodes, source=Place.POOLS)
    to_pool(state, Pool.OPERATIONS, operations, source=Place.POOLS)
    to_pool(state, Pool.RESERVE, rest, source=Place.POOLS)
    state.put(Table.GRANT, grant.grant, grant)
    state.put(Table.GRANT_OF, grant.owner + grant.epoch.to_bytes(8, "big") + grant.grant, GrantOf(context.sender))
    ends_ms = epochs.begins_ms(state, grant.epoch + ENDED_AFTER_EPOCHS + KEPT_EPOCHS) + grant.lifetime_max_ms
    remind(state, ends_ms, Table.GRANT, grant.grant)
    return _sold(grant, cost)


def _sold(grant: Grant, cost: int) -> tuple[LedgerEvent, ...]:
    return (happened("grant-sold", grant.grant, grant.owner, cost),)


def _price_max(action: BuyGrant | RollOver, _parameters: Parameters) -> int:
    return action.price_max


RULES = {BuyGrant: Rule(_buy, outflow=_price_max), RollOver: Rule(_roll_over, outflow=_price_max)}
