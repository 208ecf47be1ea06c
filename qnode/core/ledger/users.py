"""Users and their devices: register, add, revoke, merge (`proto/spec/ledger.md`, §3). The masters' consents are checked before
(`signatures`)."""

from __future__ import annotations

from msgspec.structs import replace

from qnode.core.ledger.context import Context, Outcome, Rule, happened
from qnode.core.ledger.state import State
from qustream.errors import QuStreamError
from qustream.model.base import Signed
from qustream.model.keys import HpkeKeyStatement
from qustream.model.network import DeviceEntry, UserRecord
from qustream.model.state import Table, UserEntry
from qustream.wire.codec import decode, encode
from qustream.wire.transactions import AddDevice, MergeUsers, RegisterUser, RevokeDevice

__all__ = ["DEVICES_MAX", "RULES", "record"]

# What a record holds; revoked ones stay in it.
DEVICES_MAX = 256
RECORD_MAX_BYTES = 16_384  # as the entry says


def record(entry: UserEntry) -> UserRecord:
    """What the chain says of a user."""
    return decode(entry.record, UserRecord, max_bytes=RECORD_MAX_BYTES)


def _register(state: State, action: RegisterUser, context: Context) -> Outcome:
    user = action.master.id
    if state.get(Table.USER, user, UserEntry) is not None:
        return "E-LEDGER-KNOWN"
    if not _is_of(action.hpke, user) or len(set(action.devices)) != len(action.devices):
        return "E-LEDGER-FORM"
    devices = tuple(DeviceEntry(device, False) for device in action.devices)
    state.put(Table.USER, user, UserEntry(encode(UserRecord(action.master, action.hpke, devices)), 0, None, False))
    return (happened("user-registered", user),)


def _is_of(statement: Signed, user: bytes) -> bool:
    """Whether what was signed is an HPKE key of this user's."""
    try:
        return decode(statement.body, HpkeKeyStatement, max_bytes=len(statement.body)).user == user
    except QuStreamError:
        return False


def _add(state: State, action: AddDevice, context: Context) -> Outcome:
    entry = _next(state, action)
    if isinstance(entry, str):
        return entry
    if entry.alias is not None:
        return "E-LEDGER-STATUS"
    known = record(entry)
    for device in known.devices:
        if device.device == action.device:
            return "E-LEDGER-STATUS" if device.revoked else "E-LEDGER-KNOWN"
    if len(known.devices) >= DEVICES_MAX:
        return "E-LEDGER-STATUS"
    _change(state, entry, known, (*known.devices, DeviceEntry(action.device, False)))
    return (happened("device-added", known.master.id, action.device),)


def _revoke(state: State, action: RevokeDevice, context: Context) -> Outcome:
    entry = _next(state, action)
    if isinstance(entry, str):
        return entry
    known = record(entry)
    found = next((device for device in known.devices if device.device == action.device), None)
    if found is None:
        return "E-LEDGER-UNKNOWN"
    if found.revoked:
        return "E-LEDGER-KNOWN"
    devices = tuple(DeviceEntry(device.device, True) if device is found else device for device in known.devices)
    _change(state, entry, known, devices)
    return (happened("device-revoked", known.master.id, action.device),)


def _next(state: State, action: AddDevice | RevokeDevice) -> UserEntry | str:
    """The user, if this is the next change that its master signs."""
    entry = state.get(Table.USER, action.master.id, UserEntry)
    if entry is None:
        return "E-LEDGER-UNKNOWN"
    return entry if action.sequence == entry.sequence + 1 else "E-LEDGER-SEQUENCE"


def _change(state: State, entry: UserEntry, known: UserRecord, devices: tuple[DeviceEntry, ...]) -> None:
    changed = encode(replace(known, devices=devices))
    state.put(Table.USER, known.master.id, replace(entry, record=changed, sequence=entry.sequence + 1))


def _merge(state: State, action: MergeUsers, context: Context) -> Outcome:
    user, into = action.master.id, action.into.id
    entry, target = state.get(Table.USER, user, UserEntry), state.get(Table.USER, into, UserEntry)
    if entry is None or target is None:
        return "E-LEDGER-UNKNOWN"
    # One step from an alias to who answers: neither a chain of them nor a ring.
    if user == into or entry.alias is not None or entry.is_target or target.alias is not None:
        return "E-LEDGER-STATUS"
    state.put(Table.USER, user, replace(entry, alias=into))
    state.put(Table.USER, into, replace(target, is_target=True))
    return (happened("users-merged", user, into),)


RULES = {
    RegisterUser: Rule(_register, signatures=2), AddDevice: Rule(_add, signatures=1), RevokeDevice: Rule(_revoke, signatures=1),
    MergeUsers: Rule(_merge, signatures=2),
}  # fmt: skip
