"""Pages about who votes, and who has put money on whom (`proto/spec/chain-api.md`, §3)."""

from __future__ import annotations

from collections import Counter

from qnode.api.chain_state import missing, paged, scanned
from qnode.api.chain_text import account_text, hex_or_empty, node_text
from qnode.core.ledger import rotations
from qnode.core.ledger.rewards import due
from qnode.core.ledger.state import State
from qustream.model.ids import LICENCE_BYTES, licence_text
from qustream.model.state import Delegation, Licence, Progress, RotationEntry, Table, Validator
from qustream.rules.rotation import quorum
from qustream.wire.chain_entries import DelegationLine, DelegationsPage, RotationPage, SeatLine, ValidatorLine, ValidatorsPage, amount

__all__ = ["delegation_line", "delegations_of", "delegations_to", "rotation_page", "running_rotation", "validator_line", "validators_page"]

# Validators that one page of somebody's delegations looks through: as many point look-ups, some milliseconds.
LOOKED_THROUGH_MAX = 512


def running_rotation(state: State) -> int:
    """The rotation of the next block."""
    progress = state.must(Table.PROGRESS, b"", Progress)
    return progress.rotation + 1 if progress.over else progress.rotation


def _seats(state: State) -> dict[bytes, tuple[int, bool]]:
    entry = rotations.current(state, running_rotation(state))
    return {seat.licence: (number, seat.leads) for number, seat in enumerate(entry.seats)}


def validator_line(state: State, name: bytes, validator: Validator) -> ValidatorLine:
    """A validator as text."""
    return _line(state, name, validator, _seats(state))


def _line(state: State, name: bytes, validator: Validator, seats: dict[bytes, tuple[int, bool]]) -> ValidatorLine:
    licence = state.must(Table.LICENCE, name, Licence)
    seat, leads = seats.get(name, (-1, False))
    history = "".join("1" if validator.history >> place & 1 else "0" for place in range(validator.led))
    return ValidatorLine(
        licence_text(name), account_text(licence.owner), node_text(licence.node), validator.vote_key.hex(), validator.commission_bp,
        amount(licence.staked + validator.bonded), amount(licence.staked), amount(validator.bonded), str(validator.shares),
        amount(validator.earned), not validator.leaves_ms, validator.since_ms, validator.leaves_ms, history,
        validator.suspended_until_ms, validator.suspensions, validator.links, seat, leads,
        validator.coming_from, validator.coming_bp, validator.coming_links,
    )  # fmt: skip


def validators_page(state: State, after: bytes, limit: int) -> ValidatorsPage:
    """Validators by licence, those that have left as well."""
    seats = _seats(state)
    found = scanned(state, Table.VALIDATOR, Validator, after, limit)
    return ValidatorsPage(*paged(found, limit, lambda name, noun: _line(state, name, noun, seats)))


def _delegation(name: bytes, validator: Validator, delegation: Delegation) -> DelegationLine:
    licence, account = name[:LICENCE_BYTES], name[LICENCE_BYTES:]
    units = delegation.shares * validator.bonded // validator.shares if validator.shares else 0
    return DelegationLine(
        licence_text(licence), account_text(account), str(delegation.shares), amount(units), amount(due(validator, delegation))
    )  # fmt: skip


def delegations_to(state: State, licence: bytes, after: bytes, limit: int) -> DelegationsPage:
    """A validator's delegations, by account. Errors: `E-LEDGER-UNKNOWN`."""
    validator = state.get(Table.VALIDATOR, licence, Validator)
    if validator is None:
        raise missing("validator")
    found = scanned(state, Table.DELEGATION, Delegation, licence + after if after else b"", limit, prefix=licence)
    lines, following = paged(found, limit, lambda name, noun: _delegation(name, validator, noun))
    return DelegationsPage(lines, following[2 * LICENCE_BYTES :])


def delegation_line(state: State, account: bytes, licence: bytes) -> DelegationLine:
    """What an account has on a validator. Errors: `E-LEDGER-UNKNOWN`: there is no such validator, or nothing on it."""
    validator, held = state.get(Table.VALIDATOR, licence, Validator), state.get(Table.DELEGATION, licence + account, Delegation)
    if validator is None or held is None:
        raise missing("delegation")
    return _delegation(licence + account, validator, held)


def delegations_of(state: State, account: bytes, after: bytes, limit: int) -> DelegationsPage:
    """An account's delegations, by licence: every validator is asked, a few hundred a page."""
    lines: list[DelegationLine] = []
    seen, name = 0, after
    for name, validator in state.scan(Table.VALIDATOR, b"", LOOKED_THROUGH_MAX, after=after):
        assert isinstance(validator, Validator)
        seen += 1
        delegation = state.get(Table.DELEGATION, name + account, Delegation)
        if delegation is not None:
            lines.append(_delegation(name + account, validator, delegation))
        if len(lines) == limit:
            return DelegationsPage(tuple(lines), name.hex())
    return DelegationsPage(tuple(lines), name.hex() if seen == LOOKED_THROUGH_MAX else "")


def rotation_page(state: State, number: int) -> RotationPage:
    """Who votes in a rotation, and who leads which view. Errors: `E-LEDGER-UNKNOWN`: it is not known yet, or no longer."""
    entry = rotations.find(state, number)
    if entry is None:
        raise missing("rotation")
    return _rotation(number, entry)


def _rotation(number: int, entry: RotationEntry) -> RotationPage:
    order = rotations.order(entry)
    views, weights = Counter(order), [seat.weight for seat in entry.seats]
    seats = tuple(
        SeatLine(place, licence_text(seat.licence), seat.vote_key.hex(), amount(seat.weight), seat.leads, views[place])
        for place, seat in enumerate(entry.seats)
    )
    return RotationPage(
        number, seats, amount(sum(weights)), amount(quorum(weights)), entry.seed.hex(), hex_or_empty(entry.base), entry.base_height,
        entry.edge_ms, entry.views, entry.skipped, order,
    )  # fmt: skip
