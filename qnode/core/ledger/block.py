"""Executing a block: what the state becomes (`proto/spec/ledger.md`, §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from qnode.core.ledger import epochs, leading, rewards, rotations, timed
from qnode.core.ledger.actions import RULES
from qnode.core.ledger.context import Context
from qnode.core.ledger.state import State
from qustream.model.keys import PublicKey
from qustream.model.receipt import LedgerEvent, Receipt
from qustream.model.state import Account, Parameters, Progress, Table
from qustream.wire.consensus import ChainHeader
from qustream.wire.transactions import Body

__all__ = ["Checked", "Executed", "execute"]


class Checked(msgspec.Struct, frozen=True):
    """A well-formed transaction: of this chain, every signature holds. `size`: of its canonical bytes; `key`: if it came along."""

    id: bytes
    size: int
    body: Body
    key: PublicKey | None


@dataclass(frozen=True, slots=True)
class Executed:
    """What became of a block. `receipts`: one a transaction, in order, and the block's own; `boundary`: it was its rotation's last."""

    receipts: tuple[Receipt, ...]
    boundary: bool


def execute(state: State, digest: bytes, header: ChainHeader, transactions: Sequence[Checked]) -> Executed:
    """Make the state of the parent into that of this block. The transactions are admissible in their order (`admission`)."""
    parameters, parent = state.must(Table.PARAMETERS, b"", Parameters), state.must(Table.PROGRESS, b"", Progress)
    assert header.height == parent.height + 1, f"height {header.height} after {parent.height}"
    events: list[LedgerEvent] = [*timed.end_due(state, parameters, header.time_ms)]
    epoch = epochs.enter(state, header, parent)
    fold = leading.lead(state, header, parent)
    receipts = [_one(state, checked, header, parameters, epoch) for checked in transactions]
    rotation = rotations.current(state, header.rotation)
    rewards.fees(state, rotation.seats[header.proposer].licence, sum(receipt.fee for receipt in receipts))
    # Its descendants in this rotation are never executed: it is the first.
    boundary = header.time_ms >= rotation.edge_ms
    if boundary:
        events += rotations.turn(state, header, digest, fold)
    progress = Progress(header.height, digest, header.time_ms, epoch, header.rotation, header.view, fold, boundary)
    state.put(Table.PROGRESS, b"", progress)
    return Executed((*receipts, Receipt(digest, "", 0, tuple(events))), boundary)


def _one(state: State, checked: Checked, header: ChainHeader, parameters: Parameters, epoch: int) -> Receipt:
    """Fee and nonce first; then the action, of which nothing remains if it is refused. The fee is in nobody's entry from here on, until
    all of the block's are given to its proposer."""
    body, sender = checked.body, checked.body.sender
    held = state.get(Table.ACCOUNT, sender, Account)
    # The block would be invalid: no honest validator has voted for it, and whoever executes it all the same comes to the same.
    if held is None or held.nonce != body.nonce:
        return Receipt(checked.id, "E-LEDGER-NONCE", 0, ())
    if held.liquid < body.fee:
        return Receipt(checked.id, "E-LEDGER-FUNDS", 0, ())
    if not held.nonce:
        if checked.key is None:
            return Receipt(checked.id, "E-LEDGER-KEY", 0, ())
        state.put(Table.ACCOUNT_KEY, sender, checked.key)
    state.put(Table.ACCOUNT, sender, Account(held.nonce + 1, held.liquid - body.fee))
    context = Context(header.chain, parameters, header.height, header.time_ms, epoch, header.rotation, sender, body.nonce, checked.id)
    mark = state.mark()
    outcome = RULES[type(body.action)].apply(state, body.action, context)
    if isinstance(outcome, str):
        state.undo(mark)
        return Receipt(checked.id, outcome, body.fee, ())
    return Receipt(checked.id, "", body.fee, outcome)
