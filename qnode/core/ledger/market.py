"""Licences for sale: list, unlist, buy (`proto/spec/ledger.md`, §3)."""

from __future__ import annotations

from msgspec.structs import replace

from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.licences import is_banned, owned, pay_operator
from qnode.core.ledger.money import Place, pay, split, take, to_pool
from qnode.core.ledger.state import State
from qustream.model.state import Grants, Licence, LicenceStatus, Pool, Table
from qustream.wire.transactions import BuyLicence, ListLicence, UnlistLicence

__all__ = ["RULES"]


def _list(state: State, action: ListLicence, context: Context) -> Outcome:
    licence = owned(state, action.licence, context, LicenceStatus.IDLE)
    if isinstance(licence, str):
        return licence
    if licence.staked or licence.unbonding or licence.incidents:
        return "E-LEDGER-STATUS"
    if licence.unstaked_ms and context.time_ms < licence.unstaked_ms + context.parameters.market_rest_ms:
        return "E-LEDGER-LOCKED"
    state.put(Table.LICENCE, action.licence, replace(licence, price=action.price))
    return (happened("licence-listed", action.licence, context.sender, action.price),)


def _unlist(state: State, action: UnlistLicence, context: Context) -> Outcome:
    licence = owned(state, action.licence, context)
    if isinstance(licence, str):
        return licence
    if not licence.price:
        return "E-LEDGER-STATUS"
    state.put(Table.LICENCE, action.licence, replace(licence, price=0))
    return (happened("licence-unlisted", action.licence, context.sender),)


def _buy(state: State, action: BuyLicence, context: Context) -> Outcome:
    licence = state.get(Table.LICENCE, action.licence, Licence)
    if licence is None:
        return "E-LEDGER-UNKNOWN"
    # An incident may have become known since it was listed: the offence stays with who committed it.
    if not licence.price or licence.status is not LicenceStatus.IDLE or licence.incidents:
        return "E-LEDGER-STATUS"
    if licence.owner == context.sender:
        return "E-LEDGER-OWNER"
    if is_banned(state, context.sender):
        return "E-LEDGER-STATUS"
    if action.price != licence.price:
        return "E-LEDGER-PRICE"
    if not take(state, context.sender, action.price, target=Place.POOLS):
        return "E-LEDGER-FUNDS"
    (fee,), rest = split(action.price, (context.parameters.market_fee_bp,), 10_000)
    to_pool(state, Pool.RESERVE, fee, source=Place.POOLS)
    pay(state, licence.owner, rest, source=Place.POOLS)
    # What it has earned so far is not the buyer's: a licence that was removed comes here without having been retired.
    events = pay_operator(state, action.licence, licence.payee)
    state.put(Table.LICENCE, action.licence, replace(licence, owner=context.sender, payee=context.sender, price=0))
    state.delete(Table.OWNED, licence.owner + action.licence)
    state.put(Table.OWNED, context.sender + action.licence, Grants())
    bought = happened("licence-bought", action.licence, context.sender, action.price)
    return bought, happened("licence-sold", action.licence, licence.owner, rest), *events


RULES = {
    ListLicence: Rule(_list),
    UnlistLicence: Rule(_unlist),
    BuyLicence: Rule(_buy, outflow=lambda action, _parameters: action.price),
}
