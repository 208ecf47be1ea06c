"""Fees to those who earn them: the proposer, and those who put money on it, by an index (`proto/spec/ledger.md`, §3).

Everything is in the pool *rewards* until it is claimed: the sum of floors is never more than what went in.
"""

from __future__ import annotations

from msgspec.structs import replace

from qnode.core.ledger.money import Place, to_pool
from qnode.core.ledger.state import State
from qustream.model.state import Delegation, Licence, LicenceStatus, Pool, Table, Validator

__all__ = ["BASIS", "collect", "due", "fees", "settle"]

BASIS = 10_000
# The index is in 2^-64 units: a millionth of a unit is told apart for everybody even if all the money there is were delegated.
_POINT = 64
_INDEX_BYTES = 16
_INDEX_MASK = (1 << 8 * _INDEX_BYTES) - 1


def fees(state: State, licence: bytes, units: int) -> None:
    """What a block's transactions paid, to its proposer and who delegated to it; the fees were taken from the entries of who paid and
    still count as liquid. A proposer that was removed since it got its seat earns nothing: its part is the reserve's."""
    held, validator = state.must(Table.LICENCE, licence, Licence), state.get(Table.VALIDATOR, licence, Validator)
    if validator is None or held.status is not LicenceStatus.ACTIVE or not held.staked + validator.bonded:
        to_pool(state, Pool.RESERVE, units, source=Place.LIQUID)
        return
    if not units:
        return
    to_pool(state, Pool.REWARDS, units, source=Place.LIQUID)
    own = units * held.staked // (held.staked + validator.bonded)
    commission = (units - own) * validator.commission_bp // BASIS
    theirs = units - own - commission
    earned = validator.earned + own + commission
    if theirs:
        step, rest = divmod((theirs << _POINT) + _number(validator.rest), validator.shares)
        index = _number(validator.index) + step & _INDEX_MASK
        validator = replace(validator, index=_bytes(index), rest=_bytes(rest))
    state.put(Table.VALIDATOR, licence, replace(validator, earned=earned))


def _number(field: bytes) -> int:
    return int.from_bytes(field, "big")


def _bytes(number: int) -> bytes:
    return number.to_bytes(_INDEX_BYTES, "big")


def due(validator: Validator, delegation: Delegation) -> int:
    """All that a delegation has earned and not claimed."""
    grown = _number(validator.index) - _number(delegation.index) & _INDEX_MASK
    return delegation.earned + (delegation.shares * grown >> _POINT)


def settle(state: State, licence: bytes, account: bytes) -> Delegation:
    """Somebody's delegation with all it has earned so far written down; to be done before its shares change. One that is not there has no
    shares, and is not made."""
    validator = state.must(Table.VALIDATOR, licence, Validator)
    delegation = state.get(Table.DELEGATION, licence + account, Delegation)
    if delegation is None:
        return Delegation(0, validator.index, 0)
    settled = Delegation(delegation.shares, validator.index, due(validator, delegation))
    state.put(Table.DELEGATION, licence + account, settled)
    return settled


def collect(state: State, licence: bytes, account: bytes) -> int:
    """Take what a delegator has earned off his entry, and the entry off the state if it holds no shares; the money is still in the pool
    *rewards*. 0 if there is none."""
    if state.get(Table.DELEGATION, licence + account, Delegation) is None:
        return 0
    settled = settle(state, licence, account)
    if settled.shares:
        state.put(Table.DELEGATION, licence + account, replace(settled, earned=0))
    else:
        state.delete(Table.DELEGATION, licence + account)
    return settled.earned
