"""Counting views, and the chain of reveals."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.ledger_world import HOUR_MS, LedgerWorld

from qnode.core.ledger import leading, rotations
from qnode.core.ledger.block import execute
from qnode.core.ledger.state import State
from qustream.identity.reveals import HashChain
from qustream.model.state import RotationEntry, Table, Validator
from qustream.wire.chain import next_fold
from qustream.wire.consensus import ChainHeader, header_digest
from qustream.wire.transactions import EditValidator


def validators(state: State, entry: RotationEntry) -> list[Validator]:
    return [state.must(Table.VALIDATOR, seat.licence, Validator) for seat in entry.seats]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_every_view_counts_once_for_its_leader(skips: list[int]) -> None:
    world = LedgerWorld(validators=3)
    entry = rotations.current(world.state(), 1)
    order, expected, view = rotations.order(entry), [[], [], []], 0
    for skip in skips:
        for _ in range(skip):
            view += 1
            expected[order[(view - 1) % len(order)]].append(1)
        view += 1
        expected[order[(view - 1) % len(order)]].append(0)
        world.block(skip=skip)
    state = world.state()
    entry = rotations.current(state, 1)
    assert (entry.views, entry.skipped) == (view, sum(skips))
    for found, bits in zip(validators(state, entry), expected, strict=True):
        assert found.history == int("".join(map(str, bits[-10:])) or "0", 2)
        assert found.led == min(10, len(bits))


def test_a_jump_over_very_many_views_is_the_same_as_counting_them() -> None:
    world = LedgerWorld(validators=2)
    world.block(skip=5_000_000_011)
    state = world.state()
    entry = rotations.current(state, 1)
    assert (entry.views, entry.skipped) == (5_000_000_012, 5_000_000_011)
    order, proposer = rotations.order(entry), order_of(entry, 5_000_000_012)
    assert len(order) == 64
    assert [found.history for found in validators(state, entry)] == [
        0b11_1111_1110 if number == proposer else 0b11_1111_1111 for number in range(2)
    ]


def order_of(entry: RotationEntry, view: int) -> int:
    order = rotations.order(entry)
    return order[(view - 1) % len(order)]


def test_the_first_block_of_a_rotation_counts_the_views_before_it() -> None:
    world = LedgerWorld()
    world.block(after_ms=HOUR_MS)
    world.block(skip=3)
    entry = rotations.current(world.state(), 2)
    assert (entry.views, entry.skipped) == (4, 3)


def test_a_block_reveals_the_next_link_of_its_proposer_alone() -> None:
    world = LedgerWorld()
    before = world.progress
    state = world.state()
    held = validators(state, rotations.current(state, 1))
    header = world.header([])
    world.block()
    assert world.progress.fold == next_fold(before.fold, header.reveal)
    state = world.state()
    for number, (was, now) in enumerate(zip(held, validators(state, rotations.current(state, 1)), strict=True)):
        if number == header.proposer:
            assert (now.anchor, now.links) == (header.reveal, was.links - 1)
        else:
            assert (now.anchor, now.links) == (was.anchor, was.links)


def run(world: LedgerWorld, header: ChainHeader, *transactions: object) -> None:
    state = world.state()
    execute(state, header_digest(header), header, transactions)  # type: ignore[arg-type]
    world.reader.apply(state.changes())
    world._nonces.clear()


def test_on_every_executed_state_the_next_reveal_is_the_same() -> None:
    """V6 by whoever has executed more or less; over a boundary, too."""
    world = LedgerWorld(validators=3)
    states, headers = [world.reader.copy()], []
    for number in range(12):
        headers.append(world.header([], after_ms=HOUR_MS if number == 6 else 1_000, skip=number % 2))
        run(world, headers[-1])
        states.append(world.reader.copy())
    now = world.state()
    for licence in world.licences[:3]:
        anchor = now.must(Table.VALIDATOR, licence, Validator).anchor
        for executed, reader in enumerate(states):
            assert leading.next_anchor(State(reader), headers[executed:], licence) == anchor


def test_a_new_hash_chain_counts_from_the_rotation_after_next_on() -> None:
    world = LedgerWorld(validators=1)
    old, new, licence = world.chains[0], HashChain(b"\x05" * 32, 30), world.licences[0]
    edit = EditValidator(licence, 500, new.anchor, new.links)
    assert world.code(world.owners[0], edit) == ""
    # Who knows what the others have revealed so far must not choose what he reveals to it.
    assert leading.next_anchor(world.state(), [], licence) == world.state().must(Table.VALIDATOR, licence, Validator).anchor != new.anchor
    world.block(after_ms=HOUR_MS)
    before = world.reader.copy()
    first = world.header([], after_ms=HOUR_MS)
    run(world, first)
    # Made by a proposer that has not executed the boundary block yet: the old chain's next link, as everybody sees it on that state.
    expected = leading.next_anchor(State(before), [first], licence)
    assert expected == first.reveal
    second = replace(world.header([]), reveal=old.reveal(first.reveal))
    run(world, second)
    after = world.state().must(Table.VALIDATOR, licence, Validator)
    assert (after.anchor, after.links) == (new.anchor, 30)
    # And on a state that has it, the new one's, whatever was revealed of the old in between.
    assert leading.next_anchor(world.state(), [], licence) == new.anchor
    assert leading.next_anchor(world.state(), [second], licence) == new.anchor
    world.chains.append(new)
    world.block()
    after = world.state().must(Table.VALIDATOR, licence, Validator)
    assert (after.anchor, after.links) == (new.reveal(new.anchor), 29)


def test_who_has_revealed_everything_has_no_next() -> None:
    world = LedgerWorld(validators=1, links=2)
    for _ in range(2):
        assert leading.next_anchor(world.state(), [], world.licences[0]) is not None
        world.block()
    assert leading.next_anchor(world.state(), [], world.licences[0]) is None
    assert leading.next_anchor(world.state(), [], bytes(16)) is None


@pytest.mark.parametrize("proposer", [1, 65_535])
def test_headers_of_others_or_of_unknown_rotations_say_nothing(proposer: int) -> None:
    world = LedgerWorld(validators=2)
    header = world.header([])
    state, licence = world.state(), rotations.current(world.state(), 1).seats[0].licence
    anchor = leading.next_anchor(state, [], licence)
    assert leading.next_anchor(state, [replace(header, proposer=proposer), replace(header, rotation=77)], licence) == anchor
