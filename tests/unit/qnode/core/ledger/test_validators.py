"""Registering, editing, leaving."""

from __future__ import annotations

import hashlib

import pytest
from msgspec.structs import replace
from support.ledger_world import DAY_MS, HOUR_MS, QST, LedgerWorld, key, voter

from qnode.core.ledger import rotations, validators
from qustream.model.ids import account_id
from qustream.model.state import Table, Validator, VoteKeyEntry
from qustream.wire.transactions import (
    Activate,
    Delegate,
    EditValidator,
    ExitValidator,
    RegisterValidator,
    Retire,
    Stake,
    Transfer,
    Unstake,
)

DUTY_MS = 2 * HOUR_MS


def register(world: LedgerWorld, number: int, *, node: int | None = None, vote: int | None = None) -> RegisterValidator:
    """What the owner of a licence signs to let it vote."""
    node_key = key("node", number if node is None else node).public
    vote_key = voter(100 + number if vote is None else vote).public
    return RegisterValidator(world.licences[number], node_key, vote_key, b"\x09" * 32, 77, 250, bytes(3373), bytes(2420))


def validator(world: LedgerWorld, number: int) -> Validator:
    return world.state().must(Table.VALIDATOR, world.licences[number], Validator)


def test_a_staked_node_registers_and_votes_from_the_rotation_after_next_on() -> None:
    world = LedgerWorld(validators=2, nodes=1)
    owner, licence = world.owners[2], world.licences[2]
    assert world.code(owner, register(world, 2)) == "E-LEDGER-STATUS"
    assert world.code(owner, Stake(licence)) == ""
    assert world.code(owner, register(world, 2)) == ""
    name = hashlib.sha256(voter(102).public).digest()
    found = validator(world, 2)
    assert (found.vote_key, found.anchor, found.links, found.commission_bp) == (name, b"\x09" * 32, 77, 250)
    assert (found.since_ms, found.leaves_ms) == (world.progress.time_ms, 0)
    assert world.state().must(Table.VOTE_KEY, name, VoteKeyEntry) == VoteKeyEntry(licence, key("node", 2).id, voter(102).public)
    world.block(after_ms=HOUR_MS)
    sizes = [len(rotations.current(world.state(), number).seats) for number in (1, 2, 3)]
    assert sizes == [2, 2, 3]
    world.audit()


def test_who_may_not_register() -> None:
    world = LedgerWorld(validators=2, nodes=2)
    assert world.code(world.owners[2], Stake(world.licences[2])) == ""
    good, owner = register(world, 2), world.owners[2]
    assert world.code(world.owners[3], good) == "E-LEDGER-OWNER"
    assert world.code(owner, replace(good, licence=bytes(16))) == "E-LEDGER-UNKNOWN"
    assert world.code(owner, register(world, 2, node=3)) == "E-LEDGER-STATUS"
    assert world.code(owner, register(world, 2, vote=0)) == "E-LEDGER-KNOWN"
    assert world.code(world.owners[4], register(world, 4)) == "E-LEDGER-STATUS"
    assert world.code(owner, good) == ""
    assert world.code(owner, good) == "E-LEDGER-STATUS"
    world.audit()


def test_commission_and_hash_chain_change_in_the_rotation_after_next() -> None:
    world = LedgerWorld()
    owner, licence = world.owners[0], world.licences[0]
    assert world.code(owner, EditValidator(licence, 10_000, b"\x03" * 32, 9)) == ""
    # Thought better of the one, not of the other.
    assert world.code(owner, EditValidator(licence, 78, bytes(32), 0)) == ""
    for _ in range(2):
        now = validator(world, 0)
        assert (now.commission_bp, now.coming_from, now.coming_bp, now.links > 1_900) == (1_000, 3, 78, True)
        rotation = world.progress.rotation
        world.block(after_ms=HOUR_MS)  # the boundary block of this rotation
        assert world.progress.rotation in (rotation, rotation + 1)
    now = validator(world, 0)
    assert (now.commission_bp, now.anchor, now.links) == (78, b"\x03" * 32, 9)
    assert (now.coming_from, now.coming_bp, now.coming_anchor, now.coming_links) == (0, 0, bytes(32), 0)
    assert world.code(world.owners[1], EditValidator(licence, 0, bytes(32), 0)) == "E-LEDGER-OWNER"
    assert world.code(world.owners[4], EditValidator(world.licences[4], 0, bytes(32), 0)) == "E-LEDGER-STATUS"


def test_a_commission_raised_at_once_takes_nothing_of_what_is_earned_until_delegators_can_have_left() -> None:
    world = LedgerWorld(validators=1, lock_ms=0)
    owner, licence, delegator = world.owners[0], world.licences[0], world.people[0]
    assert world.code(delegator, Delegate(licence, 200_000 * QST)) == ""
    assert world.code(owner, EditValidator(licence, 10_000, bytes(32), 0)) == ""

    def delegators_part() -> int:
        before = int.from_bytes(validator(world, 0).index, "big")
        assert world.code(world.people[1], Transfer(world.account(2), 1), fee=10**9) == ""
        return int.from_bytes(validator(world, 0).index, "big") - before

    assert delegators_part() > 0
    world.block(after_ms=HOUR_MS)
    assert delegators_part() > 0
    world.block(after_ms=HOUR_MS)
    assert delegators_part() == 0


def test_who_registers_anew_has_nothing_coming_of_before() -> None:
    world = LedgerWorld(validators=2)
    owner, licence = world.owners[0], world.licences[0]
    assert world.code(owner, EditValidator(licence, 10_000, b"\x03" * 32, 9)) == ""
    assert world.code(owner, ExitValidator(licence)) == ""
    world.block(after_ms=DUTY_MS)
    assert world.code(owner, register(world, 0, vote=0)) == ""
    for _ in range(3):
        world.block(after_ms=HOUR_MS)
    assert validator(world, 0).commission_bp == 250


@pytest.mark.parametrize(("after_ms", "leaves_in_hours"), [(1_000, 2), (HOUR_MS - 1, 2), (HOUR_MS, 2), (HOUR_MS + 5, 2), (7 * HOUR_MS, 8)])
def test_duty_ends_at_the_edge_after_next(after_ms: int, leaves_in_hours: int) -> None:
    world = LedgerWorld()
    world.block(world.checked(world.owners[0], ExitValidator(world.licences[0])), after_ms=after_ms)
    leaves_ms = validator(world, 0).leaves_ms
    assert leaves_ms == world.genesis.time_ms + leaves_in_hours * HOUR_MS
    # That is the edge of the last rotation in which it has a seat.
    while not world.progress.over:
        world.block(after_ms=HOUR_MS)
    last = world.progress.rotation + 1
    state = world.state()
    assert rotations.current(state, last).edge_ms == leaves_ms
    assert [any(seat.licence == world.licences[0] for seat in rotations.current(state, number).seats) for number in (last, last + 1)] == [
        True,
        False,
    ]
    assert validators.is_on_duty(state, world.licences[0], leaves_ms - 1)
    assert not validators.is_on_duty(state, world.licences[0], leaves_ms)


def test_who_left_takes_his_stake_and_may_come_again_with_what_he_had() -> None:
    world = LedgerWorld(validators=2)
    owner, licence = world.owners[0], world.licences[0]
    assert world.code(owner, ExitValidator(licence)) == ""
    assert world.code(owner, ExitValidator(licence)) == "E-LEDGER-STATUS"
    assert world.code(owner, EditValidator(licence, 5, bytes(32), 0)) == "E-LEDGER-STATUS"
    assert world.code(owner, Unstake(licence)) == "E-LEDGER-STATUS"
    assert world.code(owner, register(world, 0)) == "E-LEDGER-STATUS"
    earned = validator(world, 0).earned
    world.block(after_ms=DUTY_MS)
    world.block(after_ms=HOUR_MS)
    world.block(after_ms=HOUR_MS)
    assert world.code(owner, Unstake(licence)) == "E-LEDGER-LOCKED"
    assert world.code(owner, register(world, 0, vote=0)) == ""
    assert validator(world, 0).earned >= earned
    assert world.code(owner, ExitValidator(licence)) == ""
    for after_ms in (30 * DAY_MS, HOUR_MS, HOUR_MS):
        world.block(after_ms=after_ms)
    assert world.code(owner, Unstake(licence)) == ""
    assert world.code(owner, register(world, 0)) == "E-LEDGER-STATUS"
    world.audit()


def test_a_vote_key_belongs_to_its_first_licence_for_ever() -> None:
    world = LedgerWorld(validators=2, nodes=1)
    owner, licence = world.owners[0], world.licences[0]
    assert world.code(owner, ExitValidator(licence)) == ""
    for after_ms in (31 * DAY_MS, HOUR_MS, HOUR_MS):
        world.block(after_ms=after_ms)
    assert [world.code(owner, action) for action in (Unstake(licence), Retire(licence))] == ["", ""]
    assert world.code(world.owners[2], Stake(world.licences[2])) == ""
    assert world.code(world.owners[2], register(world, 2, vote=0)) == "E-LEDGER-KNOWN"
    # The same licence may take it up again, with another node.
    again = Activate(licence, key("node", 50).public, account_id(owner.id), ("127.9.0.9:1",), bytes(3373))
    assert world.code(owner, again) == ""
    assert world.code(owner, Stake(licence)) == ""
    assert world.code(owner, register(world, 0, node=50, vote=0)) == ""
    assert world.licence(0).staked == 200_000 * QST
    world.audit()


def test_leaving_never_puts_the_end_of_duty_off() -> None:
    state = (world := LedgerWorld()).state()
    for leaves_ms, expected in ((500, 500), (900, 500), (400, 400)):
        validators.leave(state, world.licences[0], leaves_ms)
        assert state.must(Table.VALIDATOR, world.licences[0], Validator).leaves_ms == expected
    validators.leave(state, bytes(16), 5)
