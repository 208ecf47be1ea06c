"""Sets of validators: how they are made, and what a boundary block does."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.ledger_world import DAY_MS, HOUR_MS, QST, START_MS, LedgerWorld

from qnode.core.ledger import rotations
from qnode.core.ledger.state import State
from qustream.light.trust import CHECKPOINT_MAX_MS
from qustream.model.state import Licence, LicenceStatus, RotationEntry, Seat, Table, Validator
from qustream.wire.chain import leaders_seed, rotation_set_hash
from qustream.wire.consensus import NO_DIGEST
from qustream.wire.transactions import Delegate, ExitValidator


def change(world: LedgerWorld, number: int, **fields: object) -> None:
    """A validator as it never became by itself."""
    state = world.state()
    put(state, world.licences[number], **fields)
    world.reader.apply(state.changes())


def put(state: State, licence: bytes, **fields: object) -> None:
    state.put(Table.VALIDATOR, licence, replace(state.must(Table.VALIDATOR, licence, Validator), **fields))


def seats(world: LedgerWorld, rotation: int) -> tuple[Seat, ...]:
    return rotations.current(world.state(), rotation).seats


def test_a_boundary_block_makes_the_set_after_next() -> None:
    world = LedgerWorld(validators=3)
    first = seats(world, 1)
    assert world.code(world.people[0], Delegate(world.licences[2], 50 * QST)) == ""
    assert rotations.find(world.state(), 3) is None
    executed = world.block(after_ms=HOUR_MS)
    boundary = world.progress
    assert executed.boundary
    assert boundary.over
    state = world.state()
    coming, after = rotations.current(state, 2), rotations.current(state, 3)
    assert (coming.base_height, coming.base) == (boundary.height, boundary.digest)
    assert coming.edge_ms == START_MS + 2 * HOUR_MS
    assert coming.seats == first
    assert [seat.licence for seat in after.seats] == [world.licences[number] for number in (2, 0, 1)]
    assert [seat.weight for seat in after.seats] == [200_050 * QST, 200_000 * QST, 200_000 * QST]
    assert after.seed == leaders_seed(boundary.fold)
    assert (after.base, after.edge_ms, after.views) == (NO_DIGEST, 0, 0)
    world.block()
    assert (world.progress.rotation, world.progress.view, world.progress.over) == (2, 1, False)


@pytest.mark.parametrize(("halt_ms", "hours"), [(HOUR_MS, 2), (HOUR_MS + 1, 2), (2 * HOUR_MS, 3), (1000 * HOUR_MS - 1, 1000)])
def test_the_next_edge_is_above_the_boundary_however_long_the_chain_stood_still(halt_ms: int, hours: int) -> None:
    world = LedgerWorld()
    assert world.block(after_ms=halt_ms).boundary
    assert rotations.current(world.state(), 2).edge_ms == START_MS + hours * HOUR_MS
    assert not world.block(after_ms=0).boundary


def test_just_before_the_edge_nothing_turns() -> None:
    world = LedgerWorld()
    assert not world.block(after_ms=HOUR_MS - 1).boundary
    assert rotations.find(world.state(), 3) is None


def test_the_seats_stay_if_nobody_is_on_duty() -> None:
    world = LedgerWorld(validators=2)
    for owner, licence in zip(world.owners[:2], world.licences[:2], strict=True):
        assert world.code(owner, ExitValidator(licence)) == ""
    assert rotations.set_of(world.state(), world.progress.time_ms) == ()
    before = seats(world, 2)
    world.block(after_ms=HOUR_MS)
    assert seats(world, 3) == before
    world.block()
    world.block(after_ms=HOUR_MS)
    assert seats(world, 4) == before


def test_who_is_not_active_or_not_fully_staked_or_leaves_has_no_seat() -> None:
    world = LedgerWorld(validators=5)
    state, names = world.state(), world.licences
    for number, fields in ((0, {"staked": 1}), (1, {"status": LicenceStatus.REMOVED})):
        state.put(Table.LICENCE, names[number], replace(state.must(Table.LICENCE, names[number], Licence), **fields))
    put(state, names[2], leaves_ms=START_MS + 10 * HOUR_MS)
    assert [seat.licence for seat in rotations.set_of(state, START_MS)] == names[3:5]


def test_of_too_many_the_heaviest_sit_and_of_equals_the_lower_licences() -> None:
    world = LedgerWorld(validators=6, validators_max=3)
    state, names = world.state(), world.licences
    put(state, names[4], bonded=7, shares=7)
    assert [seat.licence for seat in rotations.set_of(state, START_MS)] == [names[4], names[0], names[1]]


@pytest.mark.parametrize(("validators", "suspended", "lead"), [(6, 2, 4), (6, 3, 4), (6, 6, 4), (7, 3, 5), (1, 1, 1), (4, 2, 3), (3, 1, 2)])
def test_two_thirds_lead_even_if_more_are_suspended(validators: int, suspended: int, lead: int) -> None:
    world = LedgerWorld(validators=validators)
    state = world.state()
    for number in range(suspended):
        put(state, world.licences[number], suspended_until_ms=START_MS + 100 - number)
    found = rotations.set_of(state, START_MS)
    assert sum(seat.leads for seat in found) == lead
    out = [seat.licence for seat in found if not seat.leads]
    # Those whose suspension ends last are out.
    assert out == world.licences[: validators - lead]


def test_a_header_says_the_next_set_as_soon_as_the_executed_state_has_it() -> None:
    world = LedgerWorld()
    state = world.state()
    second = rotations.current(state, 2)
    assert rotations.next_set(state, 1) == rotation_set_hash(2, second.seats, second.seed)
    assert rotations.next_set(state, 2) == NO_DIGEST
    world.block(after_ms=HOUR_MS)
    assert rotations.next_set(world.state(), 2) != NO_DIGEST


@pytest.mark.parametrize(("unbonding_days", "kept_days"), [(5, 14), (20, 20)])
def test_rotations_go_after_unbonding_time_if_no_light_client_follows_them_and_never_the_last(unbonding_days: int, kept_days: int) -> None:
    world = LedgerWorld(validators=1, unbonding_ms=unbonding_days * DAY_MS, evidence_ms=2 * DAY_MS, rotation_ms=DAY_MS)
    for _ in range(26):
        world.block()
        world.block(after_ms=DAY_MS)
    kept = sorted(int.from_bytes(name, "big") for name in world.reader.nouns(Table.ROTATION))
    last = world.progress.rotation
    assert kept[-1] == last + 2
    assert kept == list(range(kept[0], last + 3))
    assert kept[0] == last - kept_days
    world.block(after_ms=1000 * DAY_MS)
    world.block(after_ms=1000 * DAY_MS)
    assert rotations.find(world.state(), world.progress.rotation) is not None


def test_sets_are_kept_as_long_as_a_checkpoint_is_good_for() -> None:
    assert rotations.SETS_KEPT_MS >= CHECKPOINT_MAX_MS


def test_the_order_of_leaders_leaves_out_who_does_not_lead() -> None:
    some = tuple(Seat(bytes([n]) * 16, bytes(32), 10, n != 1) for n in range(3))
    order = rotations.order(RotationEntry(some, bytes(32), 0, NO_DIGEST, 0, 0, 0))
    assert set(order) == {0, 2}


def test_when_a_rotation_began() -> None:
    world = LedgerWorld()
    assert rotations.began_ms(world.state(), 1) == START_MS
    assert rotations.began_ms(world.state(), 2) is None
    world.block(after_ms=3 * HOUR_MS + 5)
    assert rotations.began_ms(world.state(), 2) == START_MS + 3 * HOUR_MS
    assert rotations.began_ms(world.state(), 9) is None
