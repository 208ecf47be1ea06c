"""Offences that two votes prove: what counts, what it costs, and that nothing else matters."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.ledger_world import CHAIN, DAY_MS, HOUR_MS, QST, START_MS, LedgerWorld, key, voter

from qnode.core.ledger import rotations
from qnode.core.ledger.evidence import is_evidence
from qnode.core.ledger.money import Place, pool, shift
from qustream.model.ids import account_id
from qustream.model.state import (
    Ban,
    Incident,
    IncidentKind,
    Licence,
    LicenceStatus,
    NodeEntry,
    Pool,
    Table,
    Totals,
    UnbondBatch,
    Validator,
)
from qustream.wire.chain import incident_id
from qustream.wire.consensus import NO_DIGEST, Kind, Statement
from qustream.wire.transactions import (
    Activate,
    BuyLicence,
    Claim,
    Delegate,
    DoubleSign,
    ExitValidator,
    ListLicence,
    RegisterValidator,
    Retire,
    Stake,
    Undelegate,
    Unstake,
)

ONE, OTHER = b"\x01" * 32, b"\x02" * 32


def said(kind: Kind, digest: bytes = ONE, *, rotation: int = 1, view: int = 5, chain: str = CHAIN) -> Statement:
    return Statement(chain, rotation, view, kind, NO_DIGEST if kind is Kind.SKIP else digest)


def evidence(
    number: int = 0, *, rotation: int = 1, view: int = 5, first: Statement | None = None, second: Statement | None = None
) -> DoubleSign:
    """Of a validator's; two notars unless something else is given. Signatures are checked before (`signatures`)."""
    first = first or said(Kind.NOTAR, ONE, rotation=rotation, view=view)
    second = second or said(Kind.NOTAR, OTHER, rotation=rotation, view=view)
    return DoubleSign(voter(number).public, first, bytes(2420), second, bytes(2420))


def validator(world: LedgerWorld, number: int = 0) -> Validator:
    return world.state().must(Table.VALIDATOR, world.licences[number], Validator)


def incident(world: LedgerWorld, number: int = 0, rotation: int = 1) -> Incident:
    name = incident_id(IncidentKind.DOUBLE_SIGN, world.licences[number], rotation)
    return world.state().must(Table.INCIDENT, name, Incident)


PAIRS = [
    (said(Kind.PROPOSAL), said(Kind.PROPOSAL, OTHER)), (said(Kind.NOTAR), said(Kind.NOTAR, OTHER)),
    (said(Kind.FINAL), said(Kind.FINAL, OTHER)), (said(Kind.SKIP), said(Kind.FINAL)), (said(Kind.NOTAR, OTHER), said(Kind.FINAL)),
]  # fmt: skip
NO_PAIRS = {
    "notar and skip, which is legal": (said(Kind.NOTAR), said(Kind.SKIP)),
    "proposal and skip": (said(Kind.PROPOSAL), said(Kind.SKIP)),
    "the same twice": (said(Kind.FINAL), said(Kind.FINAL)),
    "notar and final of one block": (said(Kind.NOTAR), said(Kind.FINAL)),
    "two skips": (said(Kind.SKIP), said(Kind.SKIP)),
    "two views": (said(Kind.NOTAR), said(Kind.NOTAR, OTHER, view=6)),
    "two rotations": (said(Kind.NOTAR), said(Kind.NOTAR, OTHER, rotation=2)),
    "another chain": (said(Kind.NOTAR, chain="other"), said(Kind.NOTAR, OTHER, chain="other")),
    "two chains": (said(Kind.NOTAR), said(Kind.NOTAR, OTHER, chain="other")),
    "a skip of something": (replace(said(Kind.SKIP), digest=ONE), said(Kind.FINAL)),
    "a final of nothing": (said(Kind.SKIP), said(Kind.FINAL, NO_DIGEST)),
}


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_each_pair_costs_a_tenth_and_the_licence(first: Statement, second: Statement) -> None:
    for pair in ((first, second), (second, first)):
        world = LedgerWorld()
        node = world.licence(0).node
        assert node is not None
        assert world.code(world.people[0], evidence(first=pair[0], second=pair[1])) == ""
        licence, now_ms = world.licence(0), world.progress.time_ms
        assert (licence.status, licence.node, licence.removals, licence.incidents) == (LicenceStatus.REMOVED, None, 1, 1)
        assert (licence.staked, licence.unbonding, licence.free_ms) == (0, 180_000 * QST, now_ms + 28 * DAY_MS)
        assert licence.returns_ms == now_ms + 30 * DAY_MS
        assert world.state().get(Table.NODE, node, NodeEntry) is None
        assert validator(world).leaves_ms == now_ms
        found = incident(world)
        assert (found.escrow, found.open, found.reporter) == (20_000 * QST, True, world.account(0))
        assert pool(world.state(), Pool.ESCROW) == 20_000 * QST
        world.audit()


@pytest.mark.parametrize("name", NO_PAIRS)
def test_what_proves_nothing_is_refused(name: str) -> None:
    first, second = NO_PAIRS[name]
    world = LedgerWorld()
    for pair in ((first, second), (second, first)):
        assert world.code(world.people[0], evidence(first=pair[0], second=pair[1])) == "E-LEDGER-EVIDENCE"
    assert world.licence(0).staked == 200_000 * QST
    assert not is_evidence(CHAIN, first, second)


def test_only_of_who_had_a_seat_in_that_rotation() -> None:
    world = LedgerWorld(validators=2, nodes=1)
    assert world.code(world.people[0], evidence(7)) == "E-LEDGER-UNKNOWN"
    assert world.code(world.owners[2], Stake(world.licences[2])) == ""
    joining = RegisterValidator(
        world.licences[2], key("node", 2).public, voter(2).public, ONE, 5, 0, bytes(3373), bytes(2420)
    )  # fmt: skip
    assert world.code(world.owners[2], joining) == ""
    assert world.code(world.people[0], evidence(2, rotation=1)) == "E-LEDGER-EVIDENCE"
    assert world.code(world.people[0], evidence(2, rotation=3)) == "E-LEDGER-EVIDENCE"
    world.block(after_ms=HOUR_MS)
    # It has a seat in the third, which has not begun: nobody who obeys signs there twice either.
    assert world.code(world.people[0], evidence(2, rotation=3)) == ""


def test_evidence_counts_for_three_weeks_after_the_end_of_its_rotation() -> None:
    world = LedgerWorld()
    world.block(after_ms=HOUR_MS)
    world.block(after_ms=21 * DAY_MS)
    reader = world.reader.copy()
    assert world.progress.time_ms == START_MS + HOUR_MS + 21 * DAY_MS
    world.reader = reader.copy()
    world.block(world.checked(world.people[0], evidence(0, rotation=1)), after_ms=0)
    assert world.licence(0).status is LicenceStatus.REMOVED
    world.reader = reader
    world._nonces.clear()
    executed = world.block(world.checked(world.people[0], evidence(0, rotation=1)), after_ms=1)
    assert executed.receipts[0].code == "E-LEDGER-EVIDENCE"
    # The second ended much later: the chain stood still.
    assert world.code(world.people[0], evidence(0, rotation=2)) == ""


def test_the_rotation_that_goes_on_is_never_too_old() -> None:
    world = LedgerWorld()
    world.block(world.checked(world.people[0], evidence()), after_ms=100 * DAY_MS)
    assert world.licence(0).status is LicenceStatus.REMOVED


def test_what_is_delegated_and_what_left_lately_is_slashed_too() -> None:
    world = LedgerWorld()
    licence = world.licences[0]
    assert world.code(world.people[0], Delegate(licence, 1_000 * QST)) == ""
    assert world.code(world.people[1], Delegate(licence, 1_000 * QST)) == ""
    # He has seen what is coming; it helps him nothing.
    assert world.code(world.people[1], Undelegate(licence, 1_000 * QST)) == ""
    assert world.code(world.people[2], evidence()) == ""
    assert incident(world).escrow == (20_000 + 100 + 100) * QST
    assert validator(world).bonded == 900 * QST
    (batch,) = world.reader.nouns(Table.UNBOND_BATCH).values()
    assert isinstance(batch, UnbondBatch)
    assert batch.units == 900 * QST
    assert world.code(world.people[0], Undelegate(licence, 1_000 * QST)) == ""
    world.block(after_ms=28 * DAY_MS)
    for person in (0, 1):
        events = world.block(world.checked(world.people[person], Claim(licence))).receipts[0].events
        assert [event.amount for event in events if event.name == "unbonded"] == [900 * QST]
        world.audit()


def test_who_has_left_and_unstaked_is_slashed_in_what_unbonds() -> None:
    world = LedgerWorld(lock_ms=0)
    owner, licence = world.owners[0], world.licences[0]
    assert world.code(owner, ExitValidator(licence)) == ""
    for _ in range(3):
        world.block(after_ms=HOUR_MS)
    assert world.code(owner, Unstake(licence)) == ""
    free_ms = world.licence(0).free_ms
    assert world.code(world.people[0], evidence()) == ""
    found = world.licence(0)
    assert (found.unbonding, found.free_ms, found.status) == (180_000 * QST, free_ms, LicenceStatus.REMOVED)
    world.block(after_ms=14 * DAY_MS)
    world.block(after_ms=15 * DAY_MS)
    assert world.code(owner, Claim(licence)) == ""
    assert world.licence(0).unbonding == 0
    world.audit()


def test_one_offence_a_rotation_whoever_reports_it_and_whichever_view() -> None:
    world = LedgerWorld()
    assert world.code(world.people[0], evidence()) == ""
    for again in (evidence(), evidence(view=6), evidence(first=said(Kind.SKIP), second=said(Kind.FINAL))):
        assert world.code(world.people[1], again) == "E-LEDGER-KNOWN"
    assert world.licence(0).removals == 1
    # In the next it has its seat still, and what it does there is another; it is out already.
    assert world.code(world.people[1], evidence(rotation=2)) == ""
    found = world.licence(0)
    assert (found.removals, found.incidents, found.unbonding) == (1, 2, 162_000 * QST)
    assert validator(world).leaves_ms < world.progress.time_ms
    world.audit()


@settings(max_examples=10, deadline=None)
@given(st.permutations([(0, 1, 5), (0, 1, 6), (0, 2, 5), (1, 1, 5), (2, 2, 9)]))
def test_the_order_in_which_it_comes_changes_nothing(order: list[tuple[int, int, int]]) -> None:
    """All in one block: the state is the same but for which view of one incident is named."""

    def after(each: list[tuple[int, int, int]]) -> dict[bytes, bytes]:
        world = LedgerWorld()
        assert world.code(world.people[1], Delegate(world.licences[0], 1_001 * QST + 3)) == ""
        assert world.code(world.people[1], Undelegate(world.licences[0], 500 * QST)) == ""
        world.block(*[world.checked(world.people[0], evidence(number, rotation=rotation, view=view)) for number, rotation, view in each])
        world.audit()
        kept = dict(world.reader.entries)
        escrow = sum(found.escrow for found in world.reader.nouns(Table.INCIDENT).values() if isinstance(found, Incident))
        assert escrow == pool(world.state(), Pool.ESCROW)
        return {name: value for name, value in kept.items() if name[0] not in (Table.INCIDENT, Table.PROGRESS)}

    assert after(order) == after(sorted(order))


def test_after_two_weeks_a_report_has_cost_nothing_and_the_rest_burns() -> None:
    """Nor is there anything to be had by copying one: the copier paid what he gets."""
    world = LedgerWorld()
    started = world.liquid(world.account(0))
    report = world.checked(world.people[0], evidence())
    assert world.block(report).receipts[0].code == ""
    before = world.liquid(world.account(0))
    assert before == started - report.body.fee
    world.block(after_ms=14 * DAY_MS - 1)
    assert incident(world).open
    assert world.liquid(world.account(0)) == before
    world.block(after_ms=1)
    assert not incident(world).open
    assert 0 <= world.liquid(world.account(0)) - started < report.body.fee // 10
    assert world.state().must(Table.TOTALS, b"", Totals).burned == 20_000 * QST - (world.liquid(world.account(0)) - before)
    assert pool(world.state(), Pool.ESCROW) == 0
    assert world.licence(0).incidents == 0
    world.audit()
    # It is over, and still known.
    assert world.code(world.people[1], evidence()) == "E-LEDGER-KNOWN"


def back(world: LedgerWorld, number: int) -> None:
    """A licence that was removed runs, stakes and votes again, and has a seat."""
    owner, licence, node = world.owners[number], world.licences[number], key("node", 1_000 + world.progress.height)
    world.block(after_ms=31 * DAY_MS)
    world.code(owner, Claim(licence))
    again = RegisterValidator(licence, node.public, voter(number).public, ONE, 100, 0, bytes(3373), bytes(2420))
    activate = Activate(licence, node.public, account_id(owner.id), ("127.9.0.9:1",), bytes(3373))
    for action in (activate, Stake(licence), again):
        assert world.code(owner, action) == ""
    for _ in range(2):
        world.block(after_ms=HOUR_MS)
    world.block()


def test_the_third_removal_is_for_ever() -> None:
    world = LedgerWorld(validators=3)
    for removal in (1, 2, 3):
        rotation = world.progress.rotation or 1
        entry = rotations.current(world.state(), rotation)
        assert any(seat.licence == world.licences[0] for seat in entry.seats)
        assert world.code(world.people[0], evidence(rotation=rotation)) == ""
        licence = world.licence(0)
        assert (licence.removals, licence.status is LicenceStatus.BANNED) == (removal, removal == 3)
        world.audit()
        if removal < 3:
            back(world, 0)
    world.block(after_ms=60 * DAY_MS)
    licence = world.licence(0)
    assert (licence.status, licence.returns_ms) == (LicenceStatus.BANNED, 0)
    node = key("node", 9_000)
    activate = Activate(world.licences[0], node.public, world.account(0), ("127.9.0.9:1",), bytes(3373))
    assert world.code(world.owners[0], activate) == "E-LEDGER-STATUS"
    assert world.code(world.owners[0], Claim(world.licences[0])) == ""
    world.audit()


def banned(*, retires: bool) -> LedgerWorld:
    """A world in which licence 0 has been removed twice before; its owner has licence 3, too, and a third offence is reported."""
    world = LedgerWorld(validators=3, idle=2, lock_ms=0)
    world.change(Table.LICENCE, world.licences[0], removals=2)
    world.change(Table.LICENCE, world.licences[3], owner=account_id(world.owners[0].id))
    if retires:  # who knows what he has done takes his node off in time
        assert world.code(world.owners[0], ExitValidator(world.licences[0])) == ""
        for _ in range(3):
            world.block(after_ms=HOUR_MS)
        assert [world.code(world.owners[0], action) for action in (Unstake(world.licences[0]), Retire(world.licences[0]))] == ["", ""]
    assert world.code(world.people[0], evidence()) == ""
    assert world.licence(0).status is LicenceStatus.BANNED
    return world


@pytest.mark.parametrize("retires", [False, True])
def test_a_ban_binds_the_owner_and_the_node_under_other_licences_too(retires: bool) -> None:
    world = banned(retires=retires)
    owner, node = world.owners[0], key("node", 0)
    ban = Ban(world.licences[0], incident_id(IncidentKind.DOUBLE_SIGN, world.licences[0], 1))
    assert world.reader.nouns(Table.BANNED) == {account_id(owner.id): ban, node.id: ban}
    # He has another licence, and another node.
    fresh = Activate(world.licences[3], key("node", 900).public, world.account(0), (), bytes(3373))
    assert world.code(owner, fresh) == "E-LEDGER-STATUS"
    # He buys one.
    world.change(Table.LICENCE, world.licences[4], price=5)
    assert world.code(owner, BuyLicence(world.licences[4], 5)) == "E-LEDGER-STATUS"
    # Somebody else runs his node.
    other = replace(fresh, licence=world.licences[4], node=node.public)
    assert world.code(world.owners[4], other) == "E-LEDGER-STATUS"
    assert world.code(world.owners[4], replace(other, node=key("node", 901).public)) == ""
    # What he had before he may sell.
    assert world.code(owner, ListLicence(world.licences[3], 5)) == ""
    assert world.code(world.people[1], BuyLicence(world.licences[3], 5)) == ""
    assert world.code(world.people[1], fresh) == ""
    world.audit()


def test_who_is_banned_stakes_and_registers_nothing_that_he_has_active() -> None:
    world = LedgerWorld(validators=3, nodes=1)
    world.change(Table.LICENCE, world.licences[0], removals=2)
    world.change(Table.LICENCE, world.licences[3], owner=account_id(world.owners[0].id))
    world.change(Table.LICENCE, world.licences[2], owner=account_id(world.owners[0].id))
    assert world.code(world.owners[0], evidence()) == ""
    assert world.code(world.owners[0], Stake(world.licences[3])) == "E-LEDGER-STATUS"
    register = RegisterValidator(
        world.licences[2], key("node", 2).public, voter(90).public, bytes(32), 5, 0, bytes(3373), bytes(2420)
    )  # fmt: skip
    assert world.code(world.owners[0], ExitValidator(world.licences[2])) == ""
    world.block(after_ms=2 * HOUR_MS)
    assert world.code(world.owners[0], register) == "E-LEDGER-STATUS"
    world.audit()


def test_no_count_of_incidents_leaves_what_its_noun_holds() -> None:
    world = LedgerWorld()
    world.change(Table.LICENCE, world.licences[0], incidents=65_534)
    assert world.code(world.people[0], evidence()) == ""
    world.block(after_ms=HOUR_MS)
    assert world.code(world.people[0], evidence(rotation=2)) == "E-LEDGER-STATUS"
    assert world.licence(0).incidents == 65_535


def test_the_fees_of_who_was_removed_go_to_the_reserve() -> None:
    world = LedgerWorld(validators=1)
    assert world.code(world.people[0], evidence()) == ""
    earned, reserve = validator(world).earned, pool(world.state(), Pool.RESERVE)
    checked = world.checked(world.people[0], Delegate(world.licences[0], 10 * QST))
    assert world.block(checked).receipts[0].code == "E-LEDGER-STATUS"
    assert validator(world).earned == earned
    assert pool(world.state(), Pool.RESERVE) == reserve + checked.body.fee
    world.audit()


def test_a_listing_ends_and_what_is_frozen_by_an_incident_is_slashed_though_its_time_is_over() -> None:
    world = LedgerWorld()
    state, name = world.state(), world.licences[0]
    held = world.licence(0)
    state.put(Table.LICENCE, name, replace(held, price=5, incidents=1, unbonding=100, free_ms=1, staked=held.staked - 100))
    shift(state, Place.STAKED, Place.UNBONDING, 100)
    world.reader.apply(state.changes())
    assert world.code(world.people[0], evidence()) == ""
    world.audit()
    found = world.state().must(Table.LICENCE, name, Licence)
    assert found.price == 0
    # What was on its way back already when this stake was put there had no part in the vote.
    assert found.unbonding == 100 + (held.staked - 100) * 9 // 10
    # In the next rotation it is all one, and none of it is free.
    world.block(after_ms=HOUR_MS)
    assert world.code(world.people[0], evidence(rotation=2)) == ""
    assert world.licence(0).unbonding == (100 + (held.staked - 100) * 9 // 10) * 9 // 10
    world.audit()


def days(world: LedgerWorld, count: int) -> None:
    for _ in range(count):
        world.block(after_ms=DAY_MS)


def batches(world: LedgerWorld) -> list[int]:
    return [batch.units for _, batch in sorted(world.reader.nouns(Table.UNBOND_BATCH).items()) if isinstance(batch, UnbondBatch)]


def test_who_had_taken_back_before_the_set_was_made_pays_nothing_and_who_takes_back_later_pays() -> None:
    """A set counts what is bonded at the end of the rotation before the last: that is what votes, and what answers."""
    world = LedgerWorld()
    licence = world.licences[0]
    for person in range(3):
        assert world.code(world.people[person], Delegate(licence, 1_000 * QST)) == ""
    assert world.code(world.people[0], Undelegate(licence, 1_000 * QST)) == ""
    days(world, 2)
    assert world.code(world.people[1], Undelegate(licence, 1_000 * QST)) == ""
    rotation = world.progress.rotation
    assert rotation == 3  # its set was made a day ago
    assert world.code(world.people[3], evidence(rotation=rotation)) == ""
    assert (batches(world), validator(world).bonded) == ([1_000 * QST, 900 * QST], 900 * QST)
    assert incident(world, rotation=rotation).escrow == (20_000 + 200) * QST
    # In the first two rotations everybody was there; but who delegated answers once for a removal, whatever else comes out.
    assert world.code(world.people[3], evidence(rotation=1)) == ""
    assert world.code(world.people[3], evidence(rotation=2)) == ""
    assert (batches(world), validator(world).bonded) == ([1_000 * QST, 900 * QST], 900 * QST)
    assert incident(world, rotation=1).escrow == 18_000 * QST  # of the stake alone
    assert incident(world, rotation=2).escrow == 16_200 * QST
    world.audit()


def test_a_batch_with_one_who_left_too_late_pays_as_a_whole() -> None:
    world = LedgerWorld()
    licence = world.licences[0]
    world.block(after_ms=2 * HOUR_MS)  # what follows is one day
    for person in (0, 1):
        assert world.code(world.people[person], Delegate(licence, 1_000 * QST)) == ""
    assert world.code(world.people[0], Undelegate(licence, 1_000 * QST)) == ""
    for _ in range(3):
        world.block(after_ms=HOUR_MS)
    rotation = world.progress.rotation
    assert world.code(world.people[1], Undelegate(licence, 1_000 * QST)) == ""
    assert world.code(world.people[3], evidence(rotation=rotation)) == ""
    assert batches(world) == [1_800 * QST]
    world.audit()


def test_a_stake_put_there_after_the_offence_is_another() -> None:
    world = LedgerWorld(lock_ms=0)
    owner, licence = world.owners[0], world.licences[0]
    assert world.code(owner, ExitValidator(licence)) == ""
    for _ in range(3):
        world.block(after_ms=HOUR_MS)
    assert [world.code(owner, action) for action in (Unstake(licence), Stake(licence))] == ["", ""]
    assert world.code(world.people[0], evidence()) == ""
    found = world.licence(0)
    # A tenth of the one that voted; the other is whole, and goes back with it.
    assert (found.staked, found.unbonding) == (0, 380_000 * QST)
    assert incident(world).escrow == 20_000 * QST
    world.audit()


def test_every_order_of_two_pairs_is_the_same_evidence() -> None:
    for first, second in PAIRS:
        assert all(is_evidence(CHAIN, *pair) for pair in permutations((first, second)))
