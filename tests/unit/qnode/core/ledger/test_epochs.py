"""Epochs and their boundaries."""

from __future__ import annotations

from support.ledger_world import DAY_MS, START_MS, LedgerWorld

from qnode.core.ledger import epochs
from qustream.model.state import EpochEntry, Table


def entry(world: LedgerWorld, epoch: int) -> EpochEntry | None:
    return world.state().get(Table.EPOCH, epoch.to_bytes(8, "big"), EpochEntry)


def test_the_first_block_of_an_epoch_is_its_boundary_and_its_fold_the_seed() -> None:
    world = LedgerWorld()
    world.block(after_ms=3 * DAY_MS - 1)
    assert (world.progress.epoch, entry(world, 1)) == (0, None)
    world.block(after_ms=1)
    boundary = world.progress
    assert boundary.epoch == 1
    assert entry(world, 1) == EpochEntry(2, START_MS + 3 * DAY_MS, boundary.fold)
    world.block()
    assert world.progress.fold != boundary.fold
    assert entry(world, 1) == EpochEntry(2, START_MS + 3 * DAY_MS, boundary.fold)


def test_an_epoch_without_a_block_has_no_entry() -> None:
    world = LedgerWorld()
    world.block(after_ms=10 * DAY_MS)
    assert world.progress.epoch == 3
    assert [entry(world, number) is not None for number in range(5)] == [True, False, False, True, False]


def test_numbers_and_first_instants_fit_each_other() -> None:
    state = LedgerWorld().state()
    for epoch in (0, 1, 7, 1000):
        begins = epochs.begins_ms(state, epoch)
        assert epochs.number(state, begins) == epoch
        assert epochs.number(state, begins - 1) == max(0, epoch - 1)
