"""Leaders that miss their views lead no more, for a while (`proto/spec/ledger.md`, §4)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.state import State
from qustream.model.receipt import LedgerEvent
from qustream.model.state import Incident, IncidentKind, Licence, Parameters, RotationEntry, Table, Validator
from qustream.wire.chain import incident_id
from qustream.wire.consensus import ChainHeader
from qustream.wire.transactions import Unsuspend

__all__ = ["DOUBLINGS_MAX", "HISTORY_VIEWS", "MISSES_MAX", "RULES", "suspend"]

# The mission's three of ten.
HISTORY_VIEWS, MISSES_MAX = 10, 3
# At a fifth of all views skipped it is the network that fails, not one leader: 1 in so many.
CALM_PER_SKIPPED = 5
# 1,024 suspensions' length: an hour becomes six weeks, and nobody is kept out for ever by a count.
DOUBLINGS_MAX = 10
SUSPENSIONS_MAX = 255  # what the noun holds
_NOBODY = bytes(20)


def suspend(state: State, header: ChainHeader, entry: RotationEntry) -> tuple[LedgerEvent, ...]:
    """At the boundary block of the rotation `entry`, its views counted: those who missed too much shall lead no more. What was counted
    while the network failed is forgotten."""
    is_calm = entry.skipped * CALM_PER_SKIPPED < entry.views
    found = [(seat.licence, state.get(Table.VALIDATOR, seat.licence, Validator)) for seat in entry.seats]
    seated = [(licence, validator) for licence, validator in found if validator is not None]
    is_calm_beside = _is_calm_beside([validator for _, validator in seated])
    events: list[LedgerEvent] = []
    for licence, validator in seated:
        is_at_fault = validator.history.bit_count() >= MISSES_MAX and (is_calm or (is_calm_beside and _is_down(validator)))
        if is_at_fault and not validator.suspended_until_ms and not validator.leaves_ms:
            events.append(_suspend(state, licence, validator, header))
        elif not is_calm:
            state.put(Table.VALIDATOR, licence, replace(validator, history=0, led=0))
    return tuple(events)


def _is_down(validator: Validator) -> bool:
    """Whether it missed every view that is counted of it."""
    return validator.led >= MISSES_MAX and validator.history.bit_count() == validator.led


def _is_calm_beside(seated: Sequence[Validator]) -> bool:
    """Whether the network did not fail those who are not down: where few lead, one that is down is a fifth of all views by itself."""
    others = [validator for validator in seated if not _is_down(validator)]
    missed, led = sum(each.history.bit_count() for each in others), sum(each.led for each in others)
    return missed * CALM_PER_SKIPPED < led


def _suspend(state: State, licence: bytes, validator: Validator, header: ChainHeader) -> LedgerEvent:
    length_ms = state.must(Table.PARAMETERS, b"", Parameters).suspension_ms << min(validator.suspensions, DOUBLINGS_MAX)
    until_ms, count = header.time_ms + length_ms, min(SUSPENSIONS_MAX, validator.suspensions + 1)
    state.put(
        Table.VALIDATOR,
        licence,
        replace(validator, history=0, led=0, suspended_until_ms=until_ms, suspensions=count),
    )
    kind, now_ms = IncidentKind.MISSED_PROPOSALS, header.time_ms
    incident = incident_id(kind, licence, header.rotation)
    said = Incident(kind, licence, header.rotation, header.view, now_ms, 0, _NOBODY, now_ms, False)
    state.put(Table.INCIDENT, incident, said)
    return happened("validator-suspended", licence, incident, until_ms)


def _unsuspend(state: State, action: Unsuspend, context: Context) -> Outcome:
    licence = state.get(Table.LICENCE, action.licence, Licence)
    if licence is None:
        return "E-LEDGER-UNKNOWN"
    if licence.owner != context.sender:
        return "E-LEDGER-OWNER"
    validator = state.get(Table.VALIDATOR, action.licence, Validator)
    if validator is None or validator.leaves_ms or not validator.suspended_until_ms:
        return "E-LEDGER-STATUS"
    if context.time_ms < validator.suspended_until_ms:
        return "E-LEDGER-LOCKED"
    # What it missed while it was leaving the order of leaders is paid for.
    back = replace(validator, suspended_until_ms=0, history=0, led=0)
    state.put(Table.VALIDATOR, action.licence, back)
    return (happened("validator-unsuspended", action.licence),)


RULES = {Unsuspend: Rule(apply=_unsuspend)}
