"""Grants: what they cost, where that goes, how they end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.ledger_world import DAY_MS, PARAMETERS, QST, LedgerWorld, key

from qnode.core.ledger import grants
from qnode.core.ledger.money import pool
from qustream.identity.enrolment import state_hpke_key
from qustream.model.network import Grant
from qustream.model.state import Pool, Table
from qustream.wire.chain import grant_id, rolled_id
from qustream.wire.transactions import BuyGrant, MergeUsers, RegisterUser, RollOver

USER = key("user", 1)
EPOCH_MS = 3 * DAY_MS
ROOT, OTHER_ROOT = b"\x07" * 32, b"\x08" * 32


def buy(**fields: object) -> BuyGrant:
    return replace(BuyGrant(USER.id, ROOT, 1_000, 2, DAY_MS, None, 1_000 * QST), **fields)


@pytest.fixture
def world() -> LedgerWorld:
    world = LedgerWorld(validators=2, idle=1)
    assert world.code(world.people[0], RegisterUser(USER.public, state_hpke_key(USER, bytes(1216)), (), bytes(3373))) == ""
    return world


def bought(world: LedgerWorld, **fields: object) -> Grant:
    """A grant that somebody has bought."""
    checked = world.checked(world.people[0], buy(**fields))
    assert world.block(checked).receipts[0].code == ""
    return world.state().must(Table.GRANT, grant_id(checked.id), Grant)


def pools(world: LedgerWorld) -> dict[Pool, int]:
    return {which: pool(world.state(), which) for which in (Pool.NODES, Pool.OPERATIONS, Pool.RESERVE)}


def test_a_grant_is_paid_and_the_pools_have_it(world: LedgerWorld) -> None:
    before, held = pools(world), world.liquid(world.account(0))
    checked = world.checked(world.people[0], buy())
    world.block(checked)
    # 0.01 QST a request, and 1.575024 MB for a day at 0.001 QST.
    cost = 1_000 * (10_000_000 + 1_575_024)
    assert world.liquid(world.account(0)) == held - cost - checked.body.fee
    gained = {which: amount - before[which] for which, amount in pools(world).items()}
    assert gained == {Pool.NODES: cost * 6 // 10, Pool.OPERATIONS: cost * 3 // 10, Pool.RESERVE: cost - cost * 6 // 10 - cost * 3 // 10}
    grant = grant_id(checked.id)
    assert world.state().must(Table.GRANT, grant, Grant) == Grant(grant, USER.id, ROOT, 1_000, 2, 0, DAY_MS, None)
    assert list(world.reader.nouns(Table.GRANT_OF)) == [USER.id + bytes(8) + grant]
    world.audit()


@given(st.integers(1, 1 << 20), st.integers(1, 7 * DAY_MS), st.integers(1, 7 * DAY_MS))
def test_whoever_wants_more_never_pays_less(count: int, lifetime: int, other: int) -> None:
    longer, shorter = max(lifetime, other), min(lifetime, other)
    assert grants.price(PARAMETERS, count, shorter) <= grants.price(PARAMETERS, count, longer)
    assert grants.price(PARAMETERS, count, lifetime) < grants.price(PARAMETERS, count + 1, lifetime)
    assert grants.price(PARAMETERS, count, lifetime) == count * grants.price(PARAMETERS, 1, lifetime)
    whole = grants.price(PARAMETERS, count, lifetime)
    assert 0 <= 2 * grants.roll_over_price(PARAMETERS, count, lifetime) - whole <= 1


def test_what_is_refused(world: LedgerWorld) -> None:
    person, licences = world.people[0], world.licences
    cost = grants.price(PARAMETERS, 1_000, DAY_MS)
    refused = {
        "E-LEDGER-UNKNOWN": [buy(user=b"\x01" * 32)],
        "E-LEDGER-STATUS": [buy(pinned=licences[2]), buy(pinned=bytes(16))],
        "E-LEDGER-PRICE": [buy(price_max=cost - 1), buy(lifetime_max_ms=0), buy(lifetime_max_ms=7 * DAY_MS + 1)],
    }
    for code, actions in refused.items():
        assert {world.code(person, action) for action in actions} == {code}
    assert world.code(person, buy(price_max=cost, pinned=licences[1])) == ""
    poor = LedgerWorld(validators=1, wealth=5 * QST)
    assert poor.code(poor.people[0], RegisterUser(USER.public, state_hpke_key(USER, bytes(1216)), (), bytes(3373))) == ""
    assert poor.code(poor.people[0], buy()) == "E-LEDGER-FUNDS"
    poor.audit()


def test_an_alias_buys_no_more(world: LedgerWorld) -> None:
    other = key("user", 2)
    world.code(world.people[0], RegisterUser(other.public, state_hpke_key(other, bytes(1216)), (), bytes(3373)))
    assert world.code(world.people[0], MergeUsers(USER.public, other.public, bytes(3373), bytes(3373))) == ""
    assert world.code(world.people[0], buy()) == "E-LEDGER-STATUS"
    assert world.code(world.people[0], buy(user=other.id)) == ""


def test_what_an_alias_had_paid_for_is_rolled_over_to_it(world: LedgerWorld) -> None:
    """Its devices go on with what it has: their certificates are of its own master."""
    old, other = bought(world), key("user", 2)
    world.code(world.people[0], RegisterUser(other.public, state_hpke_key(other, bytes(1216)), (), bytes(3373)))
    assert world.code(world.people[0], MergeUsers(USER.public, other.public, bytes(3373), bytes(3373))) == ""
    world.block(after_ms=2 * EPOCH_MS)
    assert world.code(world.people[0], RollOver(old.grant, OTHER_ROOT, 1_000, 2, 1_000 * QST)) == ""
    assert world.state().must(Table.GRANT, rolled_id(old.grant), Grant).owner == USER.id


def test_an_ended_grant_is_rolled_over_once_at_half_the_price(world: LedgerWorld) -> None:
    old = bought(world)
    roll = RollOver(old.grant, OTHER_ROOT, 400, 3, 1_000 * QST)
    world.block(after_ms=EPOCH_MS)
    assert world.code(world.people[0], roll) == "E-LEDGER-LOCKED"
    world.block(after_ms=EPOCH_MS)
    assert world.code(world.people[0], replace(roll, count=1_001)) == "E-LEDGER-PRICE"
    assert world.code(world.people[0], replace(roll, grant=bytes(32))) == "E-LEDGER-UNKNOWN"
    cost = grants.roll_over_price(PARAMETERS, 400, DAY_MS)
    assert cost == 200 * (10_000_000 + 1_575_024)
    assert world.code(world.people[0], replace(roll, price_max=cost - 1)) == "E-LEDGER-PRICE"
    held, checked = world.liquid(world.account(0)), world.checked(world.people[0], replace(roll, price_max=cost))
    assert world.block(checked).receipts[0].code == ""
    assert world.liquid(world.account(0)) == held - cost - checked.body.fee
    new = world.state().must(Table.GRANT, rolled_id(old.grant), Grant)
    assert (new.owner, new.root, new.count, new.stripes, new.epoch) == (USER.id, OTHER_ROOT, 400, 3, 2)
    assert new.lifetime_max_ms == old.lifetime_max_ms
    # Nobody gets it a second time, not even for less.
    assert world.code(world.people[0], replace(roll, count=1)) == "E-LEDGER-KNOWN"
    assert old.grant in world.reader.nouns(Table.GRANT)
    world.audit()


def test_nobody_but_its_buyer_rolls_a_grant_over(world: LedgerWorld) -> None:
    """Whoever else did it could leave the user with one request under a root nobody has the leaves of, for the price of one request."""
    old = bought(world)
    world.block(after_ms=2 * EPOCH_MS)
    theft = RollOver(old.grant, b"\x07" * 32, 1, 1, QST)
    assert world.code(world.people[1], theft) == "E-LEDGER-OWNER"
    assert world.code(world.people[0], RollOver(old.grant, OTHER_ROOT, 1_000, 1, 1_000 * QST)) == ""
    # What he has rolled over is his, too.
    world.block(after_ms=2 * EPOCH_MS)
    assert world.code(world.people[1], replace(theft, grant=rolled_id(old.grant))) == "E-LEDGER-OWNER"
    assert world.code(world.people[0], RollOver(rolled_id(old.grant), ROOT, 1_000, 1, 1_000 * QST)) == ""
    world.audit()


def test_what_was_rolled_over_can_be_again_when_it_has_ended(world: LedgerWorld) -> None:
    name = bought(world).grant
    for _ in range(3):
        world.block(after_ms=2 * EPOCH_MS)
        assert world.code(world.people[0], RollOver(name, ROOT, 1_000, 1, 1_000 * QST)) == ""
        name = rolled_id(name)
    assert world.state().must(Table.GRANT, name, Grant).count == 1_000


@pytest.mark.parametrize("is_gone", [False, True])
def test_the_pinned_node_stays_while_it_is_there(world: LedgerWorld, is_gone: bool) -> None:
    old = bought(world, pinned=world.licences[1])
    world.block(after_ms=2 * EPOCH_MS)
    if is_gone:
        state, licence = world.state(), world.licence(1)
        state.put(Table.LICENCE, world.licences[1], replace(licence, status=type(licence.status).REMOVED))
        world.reader.apply(state.changes())
    assert world.code(world.people[0], RollOver(old.grant, ROOT, 5, 1, QST)) == ""
    new = world.state().must(Table.GRANT, rolled_id(old.grant), Grant)
    assert new.pinned == (None if is_gone else world.licences[1])


def test_a_grant_is_kept_two_epochs_and_its_lifetime_after_its_end_and_then_leaves_nothing(world: LedgerWorld) -> None:
    started = len(world.reader.nouns(Table.EXPIRY))
    old = bought(world)
    end_ms = world.genesis.time_ms + 4 * EPOCH_MS + DAY_MS
    world.block(after_ms=end_ms - world.progress.time_ms - 1)
    assert old.grant in world.reader.nouns(Table.GRANT)
    world.block(after_ms=1)
    assert not world.reader.nouns(Table.GRANT)
    assert not world.reader.nouns(Table.GRANT_OF)
    assert len(world.reader.nouns(Table.EXPIRY)) == started
    assert world.code(world.people[0], RollOver(old.grant, ROOT, 1, 1, QST)) == "E-LEDGER-UNKNOWN"
    world.audit()
