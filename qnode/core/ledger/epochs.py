"""Epochs: the chain's long breaths, by which placement and pay go (`proto/spec/ledger.md`, §5)."""

from __future__ import annotations

from qnode.core.ledger.state import State
from qustream.model.state import EpochEntry, Parameters, Progress, Table
from qustream.wire.chain import next_fold
from qustream.wire.consensus import ChainHeader

__all__ = ["begins_ms", "enter", "number"]


def _genesis_ms(state: State) -> int:
    return state.must(Table.EPOCH, bytes(8), EpochEntry).time_ms


def number(state: State, time_ms: int) -> int:
    """The epoch a block of this time is in."""
    return max(0, time_ms - _genesis_ms(state)) // state.must(Table.PARAMETERS, b"", Parameters).epoch_ms


def begins_ms(state: State, epoch: int) -> int:
    """An epoch's first instant."""
    return _genesis_ms(state) + epoch * state.must(Table.PARAMETERS, b"", Parameters).epoch_ms


def enter(state: State, header: ChainHeader, parent: Progress) -> int:
    """The block's epoch; the first in it is its boundary, and the fold with its own reveal the seed. Epochs without a block have none."""
    epoch = number(state, header.time_ms)
    if epoch > parent.epoch:
        entry = EpochEntry(header.height, header.time_ms, next_fold(parent.fold, header.reveal))
        state.put(Table.EPOCH, epoch.to_bytes(8, "big"), entry)
    return epoch
