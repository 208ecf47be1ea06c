"""Two votes that prove an offence, and what it costs (`proto/spec/ledger.md`, §3). What follows when the time for an appeal is over is
`timed`'s."""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from qnode.core.ledger import delegation, rotations, validators
from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.expiry import remind
from qnode.core.ledger.licences import unbond
from qnode.core.ledger.money import Place, to_pool
from qnode.core.ledger.rewards import BASIS
from qnode.core.ledger.state import State
from qustream.model.receipt import LedgerEvent
from qustream.model.state import Ban, Incident, IncidentKind, Licence, LicenceStatus, Pool, Table, VoteKeyEntry
from qustream.rules.evidence import contradicts
from qustream.wire.chain import incident_id
from qustream.wire.consensus import NO_DIGEST, Kind, Statement
from qustream.wire.transactions import DoubleSign

__all__ = ["REMOVALS_MAX", "RULES", "is_evidence"]

# The mission's: the third removal is for ever.
REMOVALS_MAX = 3
# What the noun holds: of a chain whose rotations are seconds, three weeks are more than that.
INCIDENTS_MAX = 0xFFFF
_OUT = (LicenceStatus.REMOVED, LicenceStatus.BANNED)


def is_evidence(chain: str, first: Statement, second: Statement) -> bool:
    """Whether two statements of one key prove an offence on this chain: one rotation, one view, a pair of `consensus.md` §7."""
    for statement in (first, second):
        if statement.chain != chain or (statement.kind is Kind.SKIP) != (statement.digest == NO_DIGEST):
            return False
    if (first.rotation, first.view) != (second.rotation, second.view):
        return False
    return contradicts(first.kind, first.digest, second.kind, second.digest)


def _double_sign(state: State, action: DoubleSign, context: Context) -> Outcome:
    vote_key = hashlib.sha256(action.vote_key).digest()
    holder = state.get(Table.VOTE_KEY, vote_key, VoteKeyEntry)
    if holder is None:
        return "E-LEDGER-UNKNOWN"
    if not is_evidence(context.chain, action.first, action.second) or not _counts(state, vote_key, action.first.rotation, context):
        return "E-LEDGER-EVIDENCE"
    incident = incident_id(IncidentKind.DOUBLE_SIGN, holder.licence, action.first.rotation)
    if state.get(Table.INCIDENT, incident, Incident) is not None:
        return "E-LEDGER-KNOWN"
    if state.must(Table.LICENCE, holder.licence, Licence).incidents == INCIDENTS_MAX:
        return "E-LEDGER-STATUS"
    escrow = _slash(state, holder.licence, action.first.rotation, context)
    appeal_until_ms = context.time_ms + context.parameters.appeal_ms
    said = Incident(
        IncidentKind.DOUBLE_SIGN, holder.licence, action.first.rotation, action.first.view, context.time_ms, escrow, context.sender,
        appeal_until_ms, True,
    )  # fmt: skip
    state.put(Table.INCIDENT, incident, said)
    remind(state, appeal_until_ms, Table.INCIDENT, incident)
    return happened("validator-slashed", holder.licence, incident, escrow), *_remove(state, holder, incident, context)


def _counts(state: State, vote_key: bytes, rotation: int, context: Context) -> bool:
    """Whether the key had a seat in that rotation, and it did not end too long ago: what could be slashed must not be free yet."""
    entry = rotations.find(state, rotation)
    if entry is None or all(seat.vote_key != vote_key for seat in entry.seats):
        return False
    over_ms = rotations.began_ms(state, rotation + 1)
    return over_ms is None or context.time_ms <= over_ms + context.parameters.evidence_ms


def _slash(state: State, name: bytes, rotation: int, context: Context) -> int:
    """A part of all that stood behind the vote goes into escrow: own stake, delegations, and what is on its way back. Who delegated
    answers once for a removal: else a key that is out already could sign for every rotation it ever had a seat in, and burn it all."""
    part_bp, licence = context.parameters.double_sign_bp, state.must(Table.LICENCE, name, Licence)
    staked = unbonding = 0
    if _stood(state, licence, rotation):
        staked = licence.staked * part_bp // BASIS
    # What waits for the end of an earlier incident is not free either.
    elif licence.free_ms > context.time_ms or licence.incidents:
        unbonding = licence.unbonding * part_bp // BASIS
    state.put(Table.LICENCE, name, replace(licence, staked=licence.staked - staked, unbonding=licence.unbonding - unbonding))
    bonded = batches = 0
    if licence.status not in _OUT:
        # A set is made at the end of the rotation before the last; that rotation's edge is above its time by at most one length.
        set_ms = rotations.began_ms(state, rotation - 1) or 0
        bonded, batches = delegation.slash(state, name, part_bp, context.time_ms, set_ms)
    to_pool(state, Pool.ESCROW, staked + bonded, source=Place.STAKED)
    to_pool(state, Pool.ESCROW, unbonding + batches, source=Place.UNBONDING)
    return staked + bonded + unbonding + batches


def _stood(state: State, licence: Licence, rotation: int) -> bool:
    """Whether the stake of today stood behind that rotation's votes. Who had a seat could not take it off before that rotation was over:
    a stake that was taken off later is on its way back, and what is staked now is another."""
    edge_ms = rotations.current(state, rotation).edge_ms
    return licence.staked > 0 and not 0 < edge_ms <= licence.unstaked_ms


def _remove(state: State, holder: VoteKeyEntry, incident: bytes, context: Context) -> tuple[LedgerEvent, ...]:
    """Take licence, node and validator out of service. One that is out already is not removed a second time."""
    name = holder.licence
    licence = state.must(Table.LICENCE, name, Licence)
    if licence.staked:
        unbond(state, name, licence, context.parameters, context.time_ms)
        licence = state.must(Table.LICENCE, name, Licence)
    licence = replace(licence, incidents=licence.incidents + 1)
    state.put(Table.LICENCE, name, licence)
    if licence.status in _OUT:
        return ()
    validators.leave(state, name, context.time_ms)
    if licence.node is not None:
        state.delete(Table.NODE, licence.node)
    removals = licence.removals + 1
    is_banned = removals >= REMOVALS_MAX
    status = LicenceStatus.BANNED if is_banned else LicenceStatus.REMOVED
    returns_ms = 0 if is_banned else context.time_ms + context.parameters.removed_ms
    state.put(
        Table.LICENCE, name, replace(licence, status=status, node=None, since_epoch=0, price=0, removals=removals, returns_ms=returns_ms)
    )
    if is_banned:
        # A node that was taken off the licence in time is known by the vote key it had registered.
        for other in dict.fromkeys((licence.owner, holder.node, licence.node or holder.node)):
            state.put(Table.BANNED, other, Ban(name, incident))
    else:
        remind(state, returns_ms, Table.LICENCE, name)
    return (happened("licence-banned" if is_banned else "licence-removed", name, licence.owner, returns_ms),)


RULES = {DoubleSign: Rule(_double_sign, signatures=2)}
