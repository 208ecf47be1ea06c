"""What is counted of leaders, and what they reveal (`proto/spec/ledger.md`, §4 and §5)."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from qnode.core.ledger import rotations
from qnode.core.ledger.state import State
from qnode.core.ledger.suspensions import HISTORY_VIEWS
from qustream.model.state import Progress, RotationEntry, Table, Validator
from qustream.rules.rotation import anchor_of
from qustream.wire.chain import next_fold
from qustream.wire.consensus import ChainHeader

__all__ = ["lead", "next_anchor"]


def lead(state: State, header: ChainHeader, parent: Progress) -> bytes:
    """Count the views up to this block's, take its proposer's reveal; the fold after it."""
    entry = rotations.current(state, header.rotation)
    skipped = header.view - header.parent_view - 1
    rotations.store(
        state, header.rotation, replace(entry, views=entry.views + skipped + 1, skipped=entry.skipped + skipped)
    )  # fmt: skip
    for number, turns in _turns(entry, header).items():
        _record(state, entry.seats[number].licence, turns)
    proposer = entry.seats[header.proposer].licence
    validator = state.get(Table.VALIDATOR, proposer, Validator)
    # Not so if a new hash chain came in a block that was not executed when this one was made.
    if validator is not None and validator.links and anchor_of(header.reveal) == validator.anchor:
        state.put(
            Table.VALIDATOR, proposer, replace(validator, anchor=header.reveal, links=validator.links - 1)
        )  # fmt: skip
    return next_fold(parent.fold, header.reveal)


def _turns(entry: RotationEntry, header: ChainHeader) -> dict[int, list[int]]:
    """By number: what became of its views since the parent, oldest first, 1 for a miss. Before the last ten of everybody nothing counts."""
    order = rotations.order(entry)
    turns: dict[int, list[int]] = {}
    for view in range(max(header.parent_view + 1, header.view - HISTORY_VIEWS * len(order)), header.view):
        turns.setdefault(order[(view - 1) % len(order)], []).append(1)
    turns.setdefault(header.proposer, []).append(0)
    return turns


def _record(state: State, licence: bytes, turns: list[int]) -> None:
    validator = state.get(Table.VALIDATOR, licence, Validator)
    if validator is None:
        return
    history = validator.history
    for miss in turns:
        history = (history << 1 | miss) & (1 << HISTORY_VIEWS) - 1
    led = min(HISTORY_VIEWS, validator.led + len(turns))
    state.put(Table.VALIDATOR, licence, replace(validator, history=history, led=led))


def next_anchor(state: State, unexecuted: Iterable[ChainHeader], licence: bytes) -> bytes | None:
    """V6: what the next reveal of a licence is the preimage of, on an executed state and the blocks since, oldest first; None if it has
    nothing left to reveal. A hash chain that was replaced in one of these blocks counts from when that is executed."""
    validator = state.get(Table.VALIDATOR, licence, Validator)
    if validator is None:
        return None
    anchor, links = validator.anchor, validator.links
    for header in unexecuted:
        entry = rotations.find(state, header.rotation)
        is_its_own = entry is not None and header.proposer < len(entry.seats) and entry.seats[header.proposer].licence == licence
        if is_its_own and links and anchor_of(header.reveal) == anchor:
            anchor, links = header.reveal, links - 1
    return anchor if links else None
