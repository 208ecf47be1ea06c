"""Licences that vote: register, edit, exit (`proto/spec/ledger.md`, §3)."""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec.structs import replace

from qnode.core.ledger import rotations
from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.licences import is_banned, owned
from qnode.core.ledger.state import State
from qustream.model.state import LicenceStatus, Table, Validator, VoteKeyEntry
from qustream.wire.transactions import EditValidator, ExitValidator, RegisterValidator

__all__ = ["NOTHING_COMES", "NOTICE_ROTATIONS", "RULES", "is_on_duty", "leave"]

_ZERO = bytes(16)
# A change counts from the rotation after next on. Of the commission, so that whoever does not like it takes back before; of the hash chain,
# so that nobody chooses what he reveals when he knows what the others have revealed before him.
NOTICE_ROTATIONS = 2
NOTHING_COMES: dict[str, Any] = {"coming_from": 0, "coming_bp": 0, "coming_anchor": bytes(32), "coming_links": 0}


def is_on_duty(state: State, licence: bytes, now_ms: int) -> bool:
    """Whether it votes, or will: from its registration until its duty is over."""
    validator = state.get(Table.VALIDATOR, licence, Validator)
    return validator is not None and (not validator.leaves_ms or now_ms < validator.leaves_ms)


def leave(state: State, licence: bytes, leaves_ms: int) -> None:
    """End a validator's duty then, unless it ends earlier. It is in no set that is made from now on; what is delegated to it stays."""
    validator = state.get(Table.VALIDATOR, licence, Validator)
    if validator is not None and (not validator.leaves_ms or validator.leaves_ms > leaves_ms):
        state.put(Table.VALIDATOR, licence, replace(validator, leaves_ms=leaves_ms))


def _register(state: State, action: RegisterValidator, context: Context) -> Outcome:
    licence = owned(state, action.licence, context, LicenceStatus.ACTIVE)
    if isinstance(licence, str):
        return licence
    if licence.node != action.node.id or licence.staked != context.parameters.stake:
        return "E-LEDGER-STATUS"
    if is_on_duty(state, action.licence, context.time_ms) or is_banned(state, context.sender):
        return "E-LEDGER-STATUS"
    name = hashlib.sha256(action.vote_key).digest()
    known = state.get(Table.VOTE_KEY, name, VoteKeyEntry)
    if known is not None and known.licence != action.licence:
        return "E-LEDGER-KNOWN"
    fresh = {
        "vote_key": name, "anchor": action.anchor, "links": action.links, "commission_bp": action.commission_bp,
        "since_ms": context.time_ms, "leaves_ms": 0, "history": 0, "led": 0, **NOTHING_COMES,
    }  # fmt: skip
    before = state.get(Table.VALIDATOR, action.licence, Validator)
    if before is None:
        before = Validator(
            name, action.anchor, action.links, action.commission_bp, 0, 0, _ZERO, _ZERO, 0, 0, 0, 0, 0, 0, 0, **NOTHING_COMES
        )
    # What is delegated, what was earned and how often it was suspended outlives a change of keys.
    state.put(Table.VALIDATOR, action.licence, replace(before, **fresh))
    state.put(Table.VOTE_KEY, name, VoteKeyEntry(action.licence, licence.node, action.vote_key))
    return (happened("validator-registered", action.licence, name),)


def _on_duty(state: State, licence: bytes, context: Context) -> Validator | str:
    """The sender's validator, if it has not left and is not leaving."""
    found = owned(state, licence, context)
    if isinstance(found, str):
        return found
    validator = state.get(Table.VALIDATOR, licence, Validator)
    return "E-LEDGER-STATUS" if validator is None or validator.leaves_ms else validator


def _edit(state: State, action: EditValidator, context: Context) -> Outcome:
    validator = _on_duty(state, action.licence, context)
    if isinstance(validator, str):
        return validator
    changed = replace(validator, coming_from=context.rotation + NOTICE_ROTATIONS, coming_bp=action.commission_bp)
    if action.links:
        changed = replace(changed, coming_anchor=action.anchor, coming_links=action.links)
    state.put(Table.VALIDATOR, action.licence, changed)
    return (happened("validator-edited", action.licence, b"", action.commission_bp),)


def _exit(state: State, action: ExitValidator, context: Context) -> Outcome:
    validator = _on_duty(state, action.licence, context)
    if isinstance(validator, str):
        return validator
    # The sets of this rotation and the next stand. If this is the boundary block, the next edge is above its time.
    edge_ms, length_ms = rotations.current(state, context.rotation).edge_ms, context.parameters.rotation_ms
    leaves_ms = edge_ms + (max(0, (context.time_ms - edge_ms) // length_ms) + 1) * length_ms
    leave(state, action.licence, leaves_ms)
    return (happened("validator-left", action.licence, b"", leaves_ms),)


RULES = {RegisterValidator: Rule(_register, signatures=2), EditValidator: Rule(_edit), ExitValidator: Rule(_exit)}
