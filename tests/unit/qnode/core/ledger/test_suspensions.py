"""Three misses of ten: out of the order of leaders, and back."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace
from support.ledger_world import HOUR_MS, START_MS, LedgerWorld

from qnode.core.ledger import rotations
from qnode.core.ledger.suspensions import DOUBLINGS_MAX, suspend
from qustream.model.state import Incident, IncidentKind, RotationEntry, Table, Validator
from qustream.wire.chain import incident_id
from qustream.wire.transactions import ExitValidator, RegisterValidator, Unsuspend


def validator(world: LedgerWorld, number: int) -> Validator:
    return world.state().must(Table.VALIDATOR, world.licences[number], Validator)


def change(world: LedgerWorld, number: int, **fields: object) -> None:
    state = world.state()
    state.put(Table.VALIDATOR, world.licences[number], replace(validator(world, number), **fields))
    world.reader.apply(state.changes())


def rotation(world: LedgerWorld, number: int) -> RotationEntry:
    return rotations.current(world.state(), number)


def leads(world: LedgerWorld, number: int, which: int) -> bool:
    return next(seat.leads for seat in rotation(world, which).seats if seat.licence == world.licences[number])


def without(world: LedgerWorld, number: int, views: int) -> None:
    """So many views in which one validator says nothing."""
    entry = rotation(world, world.progress.rotation + world.progress.over)
    order = rotations.order(entry)
    silent = next(place for place, seat in enumerate(entry.seats) if seat.licence == world.licences[number])
    first = 0 if world.progress.over else world.progress.view
    while first < views:
        skip = 0
        while order[(first + skip) % len(order)] == silent:
            skip += 1
        world.block(skip=skip, after_ms=100)
        first += skip + 1


def test_who_misses_three_of_ten_leads_no_more_from_the_rotation_after_next_on() -> None:
    world = LedgerWorld(validators=10)
    without(world, 4, 64)
    assert validator(world, 4).history.bit_count() >= 3
    assert not validator(world, 4).suspended_until_ms
    executed = world.block(after_ms=HOUR_MS)
    now = validator(world, 4)
    assert now.suspended_until_ms == world.progress.time_ms + HOUR_MS
    assert (now.suspensions, now.history, now.led) == (1, 0, 0)
    assert [leads(world, 4, which) for which in (1, 2, 3)] == [True, True, False]
    # It keeps its seat and its weight.
    assert len(rotation(world, 3).seats) == 10
    assert all(validator(world, other).suspended_until_ms == 0 for other in range(10) if other != 4)
    name = incident_id(IncidentKind.MISSED_PROPOSALS, world.licences[4], 1)
    assert world.state().must(Table.INCIDENT, name, Incident).open is False
    (event,) = [event for event in executed.receipts[-1].events if event.name == "validator-suspended"]
    assert (event.subject, event.other) == (world.licences[4], name)
    world.audit()


@pytest.mark.parametrize(("misses", "is_out"), [(0b11, False), (0b111, True), (0b1_0100_0001_0000, False), (0b10_0000_0101, True)])
def test_three_of_the_last_ten(misses: int, is_out: bool) -> None:
    world = LedgerWorld(validators=3)
    first = rotations.order(rotation(world, 1))[0]
    other = next(number for number in range(3) if rotation(world, 1).seats[first].licence != world.licences[number])
    change(world, other, history=misses & 0x3FF, led=10)
    world.block(after_ms=HOUR_MS)
    assert bool(validator(world, other).suspended_until_ms) is is_out


@pytest.mark.parametrize(("blocks", "is_out"), [(12, False), (13, True)])
def test_when_a_fifth_of_all_views_was_skipped_it_is_the_network(blocks: int, is_out: bool) -> None:
    """Three skipped of 15 are a fifth; of 16 they are less."""
    world = LedgerWorld(validators=1)
    world.block(skip=3)
    for _ in range(blocks - 2):
        world.block()
    change(world, 0, history=0b111, led=10)
    world.block(after_ms=HOUR_MS)
    assert (rotation(world, 1).views, rotation(world, 1).skipped) == (blocks + 3, 3)
    now = validator(world, 0)
    assert bool(now.suspended_until_ms) is is_out
    # What was counted in such a rotation does not come back in the next.
    assert now.history == 0


@pytest.mark.parametrize(("count", "silent"), [(4, 1), (5, 1), (6, 1), (7, 2), (10, 3)])
def test_who_is_down_is_out_where_few_lead_though_he_alone_skips_a_fifth(count: int, silent: int) -> None:
    """With the rest of the set, which is at least two thirds of it, nothing is the matter."""
    world = LedgerWorld(validators=count)
    misses = {number: (1.0 if number < silent else 0.0) for number in range(count)}
    assert out(world, misses, views=300, seed=1) == set(range(silent))
    for number in range(silent):
        change(world, number, suspended_until_ms=START_MS + 100 * HOUR_MS)
    world.block(after_ms=HOUR_MS)
    led = [leads(world, number, 3) for number in range(count)]
    assert led == [False] * silent + [True] * (count - silent)


def test_who_is_down_in_a_real_chain_of_four_is_suspended_and_leads_no_more() -> None:
    world = LedgerWorld(validators=4)
    without(world, 2, 80)
    entry = rotation(world, 1)
    assert 5 * entry.skipped >= entry.views
    world.block(after_ms=HOUR_MS)
    assert [bool(validator(world, number).suspended_until_ms) for number in range(4)] == [False, False, True, False]
    assert (validator(world, 0).history, validator(world, 0).led) == (0, 0)
    assert not leads(world, 2, 3)
    assert len(rotation(world, 3).seats) == 4  # votes as before
    world.audit()


@pytest.mark.parametrize("count", [4, 5, 7, 10])
@pytest.mark.parametrize("share", [0.25, 0.4, 0.6, 0.9])
def test_a_network_that_fails_everybody_suspends_nobody(count: int, share: float) -> None:
    world = LedgerWorld(validators=count)
    for seed in range(40):
        assert out(world, dict.fromkeys(range(count), share), views=400, seed=seed) == set()


def test_a_network_that_fails_half_of_the_set_suspends_nobody() -> None:
    world = LedgerWorld(validators=10)
    for seed in range(40):
        assert out(world, {number: 0.6 * (number < 5) for number in range(10)}, views=400, seed=seed) == set()


def out(world: LedgerWorld, misses: dict[int, float], *, views: int, seed: int) -> set[int]:
    """Who is suspended after a rotation of so many views, each missed with its leader's chance."""
    chance, state = random.Random(seed), world.state()
    entry, skipped = rotation(world, 1), 0
    order = rotations.order(entry)
    numbers = {licence: number for number, licence in enumerate(world.licences)}
    turns: dict[int, list[int]] = {}
    for view in range(views):
        number = numbers[entry.seats[order[view % len(order)]].licence]
        turns.setdefault(number, []).append(chance.random() < misses[number])
        skipped += turns[number][-1]
    for number, missed in turns.items():
        history = int("".join(str(int(miss)) for miss in missed[-10:]), 2)
        before = state.must(Table.VALIDATOR, world.licences[number], Validator)
        state.put(Table.VALIDATOR, world.licences[number], replace(before, history=history, led=min(10, len(missed))))
    events = suspend(state, world.header([]), replace(entry, views=views, skipped=skipped))
    return {numbers[event.subject] for event in events}


def test_each_suspension_lasts_twice_as_long_and_none_for_ever() -> None:
    world = LedgerWorld(validators=1)
    for count in range(13):
        change(world, 0, history=0b111, led=10)
        world.block(after_ms=HOUR_MS)
        now = validator(world, 0)
        assert now.suspended_until_ms == world.progress.time_ms + (HOUR_MS << min(count, DOUBLINGS_MAX))
        assert now.suspensions == count + 1
        change(world, 0, suspended_until_ms=0)
        world.block()


def test_who_is_suspended_is_not_suspended_again_before_he_is_back() -> None:
    world = LedgerWorld(validators=1)
    change(world, 0, history=0b111, led=10)
    world.block(after_ms=HOUR_MS)
    until_ms = validator(world, 0).suspended_until_ms
    change(world, 0, history=0b111, led=10)
    world.block()
    world.block(after_ms=HOUR_MS)
    assert (validator(world, 0).suspended_until_ms, validator(world, 0).suspensions) == (until_ms, 1)


def test_back_only_when_it_is_over_and_only_by_the_owner() -> None:
    world = LedgerWorld(validators=6)
    back, owner = Unsuspend(world.licences[0]), world.owners[0]
    assert world.code(owner, back) == "E-LEDGER-STATUS"
    change(world, 0, suspended_until_ms=START_MS + 2 * HOUR_MS, suspensions=1, history=0b1111, led=4)
    assert world.code(owner, back) == "E-LEDGER-LOCKED"
    assert world.code(world.owners[1], back) == "E-LEDGER-OWNER"
    assert world.code(owner, Unsuspend(bytes(16))) == "E-LEDGER-UNKNOWN"
    world.block(after_ms=HOUR_MS)
    assert not leads(world, 0, 3)
    world.block()
    # Its time is over at this boundary, but nobody has said that it is back.
    world.block(after_ms=HOUR_MS)
    assert not leads(world, 0, 4)
    assert world.code(owner, back) == ""
    now = validator(world, 0)
    assert (now.suspended_until_ms, now.history, now.led, now.suspensions) == (0, 0, 0, 1)
    world.block(after_ms=HOUR_MS)
    assert leads(world, 0, 5)
    assert world.code(owner, back) == "E-LEDGER-STATUS"
    world.audit()


def test_leaving_and_coming_again_does_not_end_it() -> None:
    world = LedgerWorld(validators=3)
    licence, owner = world.licences[0], world.owners[0]
    change(world, 0, suspended_until_ms=START_MS + 100 * HOUR_MS, suspensions=3)
    assert world.code(owner, ExitValidator(licence)) == ""
    assert world.code(owner, Unsuspend(licence)) == "E-LEDGER-STATUS"
    for _ in range(3):
        world.block(after_ms=HOUR_MS)
    before, node = validator(world, 0), world.genesis.licences[0].node
    assert node is not None
    assert node.vote is not None
    again = RegisterValidator(licence, node.key, node.vote.vote_key, b"\x09" * 32, 5, 100, bytes(3373), bytes(2420))
    assert world.code(owner, again) == ""
    after = validator(world, 0)
    assert (after.suspended_until_ms, after.suspensions) == (before.suspended_until_ms, 3)
