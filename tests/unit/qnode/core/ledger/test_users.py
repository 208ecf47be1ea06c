"""Users, their devices, and merging two of them."""

from __future__ import annotations

import hashlib

import pytest
from msgspec.structs import replace
from support.ledger_world import LedgerWorld, key

from qnode.core.ledger import users
from qustream.identity.enrolment import state_hpke_key
from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.state import Table, UserEntry
from qustream.wire.codec import encode
from qustream.wire.transactions import AddDevice, MergeUsers, RegisterUser, RevokeDevice

ANN, BOB, CEM = key("user", 1), key("user", 2), key("user", 3)
CONSENT = bytes(3373)


def device(number: int) -> bytes:
    return hashlib.sha256(f"device {number}".encode()).digest()


def register(master: SigningKey, *devices: int) -> RegisterUser:
    return RegisterUser(master.public, state_hpke_key(master, bytes(1216)), tuple(device(each) for each in devices), CONSENT)


def added(master: SigningKey, number: int, sequence: int) -> AddDevice:
    return AddDevice(master.public, device(number), sequence, CONSENT)


def revoked(master: SigningKey, number: int, sequence: int) -> RevokeDevice:
    return RevokeDevice(master.public, device(number), sequence, CONSENT)


def merged(master: SigningKey, into: SigningKey) -> MergeUsers:
    return MergeUsers(master.public, into.public, CONSENT, CONSENT)


def entry(world: LedgerWorld, master: SigningKey) -> UserEntry:
    return world.state().must(Table.USER, master.id, UserEntry)


def devices(world: LedgerWorld, master: SigningKey) -> list[tuple[bytes, bool]]:
    return [(each.device, each.revoked) for each in users.record(entry(world, master)).devices]


@pytest.fixture
def world() -> LedgerWorld:
    return LedgerWorld(validators=1, people=2)


def test_anybody_may_pay_for_entering_a_user(world: LedgerWorld) -> None:
    action = register(ANN, 1, 2)
    assert world.code(world.people[0], action) == ""
    found = users.record(entry(world, ANN))
    assert (found.master, found.hpke) == (ANN.public, action.hpke)
    assert devices(world, ANN) == [(device(1), False), (device(2), False)]
    assert entry(world, ANN).sequence == 0
    assert world.code(world.people[1], register(ANN)) == "E-LEDGER-KNOWN"


def test_what_is_no_user(world: LedgerWorld) -> None:
    good = register(ANN, 1)
    assert world.code(world.people[0], replace(good, devices=(device(1), device(1)))) == "E-LEDGER-FORM"
    assert world.code(world.people[0], replace(good, hpke=state_hpke_key(BOB, bytes(1216)))) == "E-LEDGER-FORM"
    for body in (b"", b"\x90", encode(good)[:2000]):
        assert world.code(world.people[0], replace(good, hpke=Signed(body, CONSENT))) == "E-LEDGER-FORM"
    assert not world.reader.nouns(Table.USER)


def test_each_change_bears_the_next_number(world: LedgerWorld) -> None:
    world.code(world.people[0], register(ANN, 1))
    for wrong in (0, 2):
        assert world.code(world.people[0], added(ANN, 2, wrong)) == "E-LEDGER-SEQUENCE"
    assert world.code(world.people[0], added(ANN, 2, 1)) == ""
    assert world.code(world.people[0], added(ANN, 3, 1)) == "E-LEDGER-SEQUENCE"
    assert world.code(world.people[0], revoked(ANN, 1, 1)) == "E-LEDGER-SEQUENCE"
    assert world.code(world.people[0], revoked(ANN, 1, 2)) == ""
    assert devices(world, ANN) == [(device(1), True), (device(2), False)]
    assert world.code(world.people[0], added(BOB, 1, 1)) == "E-LEDGER-UNKNOWN"


def test_a_revoked_device_never_comes_back(world: LedgerWorld) -> None:
    world.code(world.people[0], register(ANN, 1))
    assert world.code(world.people[0], added(ANN, 1, 1)) == "E-LEDGER-KNOWN"
    assert world.code(world.people[0], revoked(ANN, 9, 1)) == "E-LEDGER-UNKNOWN"
    assert world.code(world.people[0], revoked(ANN, 1, 1)) == ""
    assert world.code(world.people[0], revoked(ANN, 1, 2)) == "E-LEDGER-KNOWN"
    assert world.code(world.people[0], added(ANN, 1, 2)) == "E-LEDGER-STATUS"
    # A refused change has used up no number.
    assert entry(world, ANN).sequence == 1


def test_a_full_user_fits_the_entry_and_gets_no_more(world: LedgerWorld) -> None:
    assert world.code(world.people[0], register(ANN, *range(users.DEVICES_MAX))) == ""
    assert len(entry(world, ANN).record) <= users.RECORD_MAX_BYTES
    assert world.code(world.people[0], added(ANN, 1_000, 1)) == "E-LEDGER-STATUS"
    assert world.code(world.people[0], revoked(ANN, 3, 1)) == ""
    assert world.code(world.people[0], added(ANN, 1_000, 2)) == "E-LEDGER-STATUS"
    # And the state takes the entry back as it gave it out.
    assert len(devices(world, ANN)) == users.DEVICES_MAX


def test_an_alias_keeps_what_it_has_and_gets_nothing_new(world: LedgerWorld) -> None:
    for master in (ANN, BOB):
        world.code(world.people[0], register(master, 1))
    assert world.code(world.people[0], merged(ANN, BOB)) == ""
    assert (entry(world, ANN).alias, entry(world, BOB).alias) == (BOB.id, None)
    assert entry(world, BOB).is_target
    assert world.code(world.people[0], added(ANN, 2, 1)) == "E-LEDGER-STATUS"
    # A stolen device must be stopped, whosever alias its user is.
    assert world.code(world.people[0], revoked(ANN, 1, 1)) == ""
    assert devices(world, ANN) == [(device(1), True)]
    assert world.code(world.people[0], added(BOB, 2, 1)) == ""


def test_from_an_alias_it_is_one_step(world: LedgerWorld) -> None:
    for master in (ANN, BOB, CEM):
        world.code(world.people[0], register(master))
    assert world.code(world.people[0], merged(ANN, ANN)) == "E-LEDGER-STATUS"
    assert world.code(world.people[0], merged(ANN, key("user", 9))) == "E-LEDGER-UNKNOWN"
    assert world.code(world.people[0], merged(key("user", 9), ANN)) == "E-LEDGER-UNKNOWN"
    assert world.code(world.people[0], merged(ANN, BOB)) == ""
    for once_more in (merged(ANN, CEM), merged(ANN, BOB), merged(CEM, ANN), merged(BOB, ANN), merged(BOB, CEM)):
        assert world.code(world.people[0], once_more) == "E-LEDGER-STATUS"
    assert world.code(world.people[0], merged(CEM, BOB)) == ""
