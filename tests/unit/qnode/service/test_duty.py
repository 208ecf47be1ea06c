"""What a validator's operator is told of its duty, by a state of the chain."""

from __future__ import annotations

import pytest
from support.ledger_world import LedgerWorld, key, licence_id, voter

from qnode.api.chain_status import DUTIES, VotingStatus
from qnode.service.duty import REVEALS_LOW, duty_conditions, duty_of
from qustream.model.ids import licence_text
from qustream.model.state import LicenceStatus, Table

ME = licence_id(0)


@pytest.fixture
def world() -> LedgerWorld:
    world = LedgerWorld()
    world.change(Table.VALIDATOR, ME, links=REVEALS_LOW)
    return world


def voting(world: LedgerWorld, *, seat: int = 0, number: int = 0, vote: int | None = None) -> VotingStatus:
    vote_key = voter(number if vote is None else vote).id
    return duty_of(world.state(), key("node", number).id, vote_key).status(vote_key, seat=seat, silent="", signed=5, leads=True)


def codes(found: VotingStatus, now_ms: int = 0) -> list[str]:
    return [each.code for each in duty_conditions(found, now_ms)]


def test_a_sound_validator_has_nothing_to_be_told(world: LedgerWorld) -> None:
    found = voting(world)
    assert (found.duty, found.licence, found.links, found.signed) == ("votes", licence_text(ME), REVEALS_LOW, 5)
    assert not found.slashed
    assert codes(found) == []
    assert voting(world, seat=-1).duty == "waits"


def test_reveals_that_run_out_are_told_before(world: LedgerWorld) -> None:
    world.change(Table.VALIDATOR, ME, links=REVEALS_LOW - 1)
    assert codes(voting(world)) == ["E-VOTE-REVEALS"]
    world.change(Table.VALIDATOR, ME, leaves_ms=1)
    assert (voting(world).duty, codes(voting(world))) == ("leaves", [])


def test_a_suspension_says_for_how_long_and_the_command(world: LedgerWorld) -> None:
    world.change(Table.VALIDATOR, ME, suspended_until_ms=60_000, history=0b111, led=10)
    found = voting(world)
    assert (found.suspended, found.missed, found.led) == (True, 3, 10)
    [told] = duty_conditions(found, 0)
    assert (told.code, told.stops) == ("E-VOTE-SUSPENDED", False)
    assert "1 min" in told.detail
    assert f"qnode validator unsuspend {licence_text(ME)}" in told.detail
    assert "is over" in duty_conditions(found, 60_000)[0].detail


@pytest.mark.parametrize("status", [LicenceStatus.REMOVED, LicenceStatus.BANNED])
def test_a_slashed_validator_is_told_though_its_node_is_gone(world: LedgerWorld, status: LicenceStatus) -> None:
    world.change(Table.LICENCE, ME, status=status, node=None)
    state = world.state()
    state.delete(Table.NODE, key("node", 0).id)
    vote_key = voter(0).id
    found = duty_of(state, key("node", 0).id, vote_key).status(vote_key, seat=-1, silent="", signed=0, leads=False)
    assert found.slashed
    assert "E-SLASHED" in codes(found)


def test_a_short_stake_is_told_with_its_time(world: LedgerWorld) -> None:
    world.change(Table.LICENCE, ME, top_up_by_ms=120_000)
    [told] = duty_conditions(voting(world), 0)
    assert told.code == "E-SLASHED"
    assert "qnode stake top-up" in told.detail


def test_another_vote_key_than_the_registered_one(world: LedgerWorld) -> None:
    found = voting(world, seat=-1, vote=99)
    assert (found.duty, codes(found)) == ("other-key", ["E-VOTE-KEY"])


def test_without_a_licence_or_a_registration_there_is_no_duty_and_no_condition(world: LedgerWorld) -> None:
    found = voting(world, seat=-1, number=77)
    assert (found.duty, found.licence, codes(found)) == ("none", "", [])


def test_all_duties_are_named() -> None:
    assert {"none", "other-key", "waits", "votes", "leaves"} == set(DUTIES)
