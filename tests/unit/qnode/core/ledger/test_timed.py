"""What time does: `proto/spec/ledger.md`, §6. A short stake that is taken off: `test_staking`."""

from __future__ import annotations

import pytest
from support.ledger_world import QST, LedgerWorld

from qnode.core.ledger.expiry import remind
from qnode.core.ledger.money import pool
from qnode.core.ledger.timed import ENDINGS_MAX
from qustream.model.network import Grant
from qustream.model.state import GrantOf, Incident, IncidentKind, LicenceStatus, Pool, Table

ESCROW = 20_000 * QST + 99


@pytest.fixture
def world() -> LedgerWorld:
    return LedgerWorld(validators=1, idle=1, people=2)


def soon(world: LedgerWorld, table: Table, name: bytes, at_ms: int) -> None:
    state = world.state()
    remind(state, at_ms, table, name)
    world.reader.apply(state.changes())


def test_a_removed_licence_is_idle_again(world):
    at_ms = world.progress.time_ms + 10_000
    world.change(Table.LICENCE, world.licences[1], status=LicenceStatus.REMOVED, returns_ms=at_ms, removals=1)
    soon(world, Table.LICENCE, world.licences[1], at_ms)
    world.block(after_ms=9_999)
    assert world.licence(1).status is LicenceStatus.REMOVED
    done = world.block(after_ms=1)
    assert [(event.name, event.subject) for event in done.receipts[-1].events] == [("licence-returned", world.licences[1])]
    assert (world.licence(1).status, world.licence(1).returns_ms, world.licence(1).removals) == (LicenceStatus.IDLE, 0, 1)


def test_a_banned_one_is_not(world):
    at_ms = world.progress.time_ms + 1
    world.change(Table.LICENCE, world.licences[1], status=LicenceStatus.BANNED)
    soon(world, Table.LICENCE, world.licences[1], at_ms)
    world.block()
    assert world.licence(1).status is LicenceStatus.BANNED


def incident(world: LedgerWorld, *, escrow: int = ESCROW, is_open: bool = True) -> tuple[bytes, int]:
    at_ms, name = world.progress.time_ms + 10_000, bytes([7]) * 32
    state = world.state()
    state.put(
        Table.INCIDENT, name, Incident(IncidentKind.DOUBLE_SIGN, world.licences[1], 1, 1, 0, escrow, world.account(0), at_ms, is_open)
    )
    remind(state, at_ms, Table.INCIDENT, name)
    world.reader.apply(state.changes())
    world.shift_pool(Pool.RESERVE, Pool.ESCROW, escrow)
    world.change(Table.LICENCE, world.licences[1], incidents=1)
    return name, at_ms


def test_an_incident_closes_the_reporter_is_paid_back_and_the_rest_burns(world):
    name, _ = incident(world)
    before, totals = world.liquid(world.account(0)), world.reader.nouns(Table.TOTALS)[b""]
    world.block(after_ms=9_999)
    assert pool(world.state(), Pool.ESCROW) == ESCROW
    done = world.block(after_ms=1)
    reward = 12_288 * 1_000 + 3 * 1_000_000
    assert [(event.name, event.amount) for event in done.receipts[-1].events] == [("incident-closed", reward), ("burned", ESCROW - reward)]
    assert world.liquid(world.account(0)) == before + reward
    after = world.reader.nouns(Table.TOTALS)[b""]
    assert (after.burned, after.minted) == (ESCROW - reward, totals.minted)
    assert pool(world.state(), Pool.ESCROW) == 0
    closed = world.state().must(Table.INCIDENT, name, Incident)
    assert (closed.open, closed.escrow) == (False, ESCROW)
    assert world.licence(1).incidents == 0
    world.audit()


def test_no_more_is_paid_back_than_was_slashed(world):
    incident(world, escrow=5)
    before = world.liquid(world.account(0))
    done = world.block(after_ms=10_000)
    assert [(event.name, event.amount) for event in done.receipts[-1].events] == [("incident-closed", 5), ("burned", 0)]
    assert world.liquid(world.account(0)) == before + 5
    world.audit()


def test_of_nothing_nothing_is_paid(world):
    incident(world, escrow=0)
    world.block(after_ms=10_000)
    assert world.licence(1).incidents == 0
    world.audit()


def test_a_grant_goes_and_with_it_the_list_of_its_user(world):
    grant = Grant(bytes([1]) * 32, bytes([2]) * 32, bytes(32), 5, 1, 3, 1_000, None)
    state, at_ms = world.state(), world.progress.time_ms + 1
    state.put(Table.GRANT, grant.grant, grant)
    state.put(Table.GRANT_OF, grant.owner + (3).to_bytes(8, "big") + grant.grant, GrantOf(bytes(20)))
    remind(state, at_ms, Table.GRANT, grant.grant)
    world.reader.apply(state.changes())
    world.block()
    assert world.reader.nouns(Table.GRANT) == world.reader.nouns(Table.GRANT_OF) == world.reader.nouns(Table.EXPIRY) == {}


def test_a_block_ends_so_many_things_and_the_next_one_the_others(world):
    state, at_ms = world.state(), world.progress.time_ms + 1
    for number in range(ENDINGS_MAX + 3):
        remind(state, at_ms, Table.GRANT, number.to_bytes(32, "big"))
    world.reader.apply(state.changes())
    world.block()
    assert [int.from_bytes(name[9:], "big") for name in sorted(world.reader.nouns(Table.EXPIRY))] == list(
        range(ENDINGS_MAX, ENDINGS_MAX + 3)
    )
    world.block()
    assert world.reader.nouns(Table.EXPIRY) == {}
