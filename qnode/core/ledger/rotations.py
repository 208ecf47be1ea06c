"""Who votes, and for how long (`proto/spec/ledger.md`, §5; `consensus.md`, §8)."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

from msgspec.structs import replace

from qnode.core.ledger.state import State
from qnode.core.ledger.suspensions import suspend
from qustream.model.receipt import LedgerEvent
from qustream.model.state import EpochEntry, Licence, LicenceStatus, Parameters, RotationEntry, Seat, Table, Validator
from qustream.rules.rotation import leaders
from qustream.wire.chain import leaders_seed, rotation_set_hash
from qustream.wire.consensus import NO_DIGEST, ChainHeader

__all__ = ["began_ms", "current", "find", "has_seat", "next_set", "order", "set_of", "store", "turn"]

# One rotation comes a turn: eight that go are enough to catch up after the chain stood still, and never much work.
GO_MAX = 8
# Sets are kept for so long at least, however short stakes unbond: for a light client with a checkpoint of that age follows them one by one.
SETS_KEPT_MS = 14 * 86_400_000
# All there are: as many as licences, with room.
VALIDATORS_SCAN_MAX = 8192


def _name(rotation: int) -> bytes:
    return rotation.to_bytes(8, "big")


def find(state: State, rotation: int) -> RotationEntry | None:
    """A rotation, if the state has it."""
    return state.get(Table.ROTATION, _name(rotation), RotationEntry)


def current(state: State, rotation: int) -> RotationEntry:
    """A rotation that the state has."""
    return state.must(Table.ROTATION, _name(rotation), RotationEntry)


def has_seat(state: State, licence: bytes, rotation: int) -> bool:
    """Whether it votes in this rotation or the next, whatever has become of it since."""
    entries = [entry for entry in (find(state, rotation), find(state, rotation + 1)) if entry is not None]
    return any(seat.licence == licence for entry in entries for seat in entry.seats)


def store(state: State, rotation: int, entry: RotationEntry) -> None:
    """Set a rotation."""
    state.put(Table.ROTATION, _name(rotation), entry)


def order(entry: RotationEntry) -> tuple[int, ...]:
    """Who leads views 1, 2, … of a rotation, by number: gone through again and again."""
    return _order(tuple(seat.weight for seat in entry.seats), tuple(seat.leads for seat in entry.seats), entry.seed)


@lru_cache(maxsize=8)
def _order(weights: tuple[int, ...], leads: tuple[bool, ...], seed: bytes) -> tuple[int, ...]:
    return tuple(leaders(weights, seed, leads))


def began_ms(state: State, rotation: int) -> int | None:
    """The edge that the rotation before ended at, at the latest its base's time; None if it has not begun."""
    entry = find(state, rotation)
    if entry is None or not entry.edge_ms:
        return None
    return entry.edge_ms - state.must(Table.PARAMETERS, b"", Parameters).rotation_ms


def next_set(state: State, rotation: int) -> bytes:
    """V7: what a header of `rotation` whose executed state this is says of the next one."""
    entry = find(state, rotation + 1)
    return NO_DIGEST if entry is None else rotation_set_hash(rotation + 1, entry.seats, entry.seed)


def set_of(state: State, now_ms: int) -> tuple[Seat, ...]:
    """Who would vote if a set were made now: empty if nobody is on duty."""
    parameters = state.must(Table.PARAMETERS, b"", Parameters)
    found: list[tuple[int, bytes, Validator]] = []
    for name, noun in state.scan(Table.VALIDATOR, b"", VALIDATORS_SCAN_MAX):
        assert isinstance(noun, Validator)
        licence = state.must(Table.LICENCE, name, Licence)
        if not noun.leaves_ms and licence.status is LicenceStatus.ACTIVE and licence.staked == parameters.stake:
            found.append((licence.staked + noun.bonded, name, noun))
    found.sort(key=lambda each: (-each[0], each[1]))
    seated = found[: parameters.validators_max]
    leads = _leading([(validator.suspended_until_ms, name) for _, name, validator in seated])
    return tuple(Seat(name, validator.vote_key, weight, name in leads) for weight, name, validator in seated)


def _leading(seated: list[tuple[int, bytes]]) -> set[bytes]:
    """Those who are not suspended; if they are fewer than two thirds, of the suspended those whose suspension ends first as well."""
    leads = {name for until_ms, name in seated if not until_ms}
    needed = -(-2 * len(seated) // 3)
    for _, name in sorted(each for each in seated if each[0])[: max(0, needed - len(leads))]:
        leads.add(name)
    return leads


def turn(state: State, header: ChainHeader, digest: bytes, fold: bytes) -> tuple[LedgerEvent, ...]:
    """A boundary block has been executed: the next rotation stands on it, and the one after that gets its set."""
    parameters = state.must(Table.PARAMETERS, b"", Parameters)
    genesis_ms = state.must(Table.EPOCH, _name(0), EpochEntry).time_ms
    ended, coming = header.rotation, current(state, header.rotation + 1)
    edge_ms = genesis_ms + ((header.time_ms - genesis_ms) // parameters.rotation_ms + 1) * parameters.rotation_ms
    store(state, ended + 1, replace(coming, base_height=header.height, base=digest, edge_ms=edge_ms))
    events = suspend(state, header, current(state, ended))
    _take_effect(state, ended + 1)
    seats = set_of(state, header.time_ms) or coming.seats
    store(state, ended + 2, RotationEntry(seats, leaders_seed(fold), 0, NO_DIGEST, 0, 0, 0))
    _forget(state, ended, header.time_ms - max(parameters.unbonding_ms, SETS_KEPT_MS))
    return events


def _take_effect(state: State, rotation: int) -> None:
    """What validators have changed and what counts from this rotation on."""
    for name, noun in list(state.scan(Table.VALIDATOR, b"", VALIDATORS_SCAN_MAX)):
        assert isinstance(noun, Validator)
        if noun.coming_from and noun.coming_from <= rotation:
            changed = replace(noun, commission_bp=noun.coming_bp, coming_from=0, coming_bp=0, coming_anchor=NO_DIGEST, coming_links=0)
            if noun.coming_links:
                changed = replace(changed, anchor=noun.coming_anchor, links=noun.coming_links)
            state.put(Table.VALIDATOR, name, changed)


def _forget(state: State, ended: int, before_ms: int) -> None:
    """Take out rotations that were over before: nobody can be slashed for them any more, and nobody follows them."""
    oldest = list(state.scan(Table.ROTATION, b"", GO_MAX + 1))
    for (name, _), (_, after) in pairwise(oldest):
        assert isinstance(after, RotationEntry)
        if name < _name(ended) and after.edge_ms < before_ms:
            state.delete(Table.ROTATION, name)
