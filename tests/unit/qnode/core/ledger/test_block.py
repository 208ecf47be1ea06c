"""Executing blocks: `proto/spec/ledger.md`, §5; and random histories of all kinds of actions (`support.ledger_machine`)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace
from support.ledger_machine import LedgerMachine
from support.ledger_world import QST, LedgerWorld, MemoryReader

from qnode.core.ledger.block import execute
from qnode.core.ledger.expiry import remind
from qnode.core.ledger.money import pool
from qnode.core.ledger.rotations import current
from qnode.core.ledger.state import State
from qustream.model.keys import PublicKey
from qustream.model.state import EpochEntry, LicenceStatus, Pool, Progress, Table, Validator
from qustream.wire.chain import next_fold
from qustream.wire.consensus import header_digest
from qustream.wire.transactions import Claim, ListLicence, Retire, Transfer

HOUR_MS = 3_600_000


@pytest.fixture
def world() -> LedgerWorld:
    return LedgerWorld(validators=3, people=3)


def test_random_histories_add_up():
    """Short ones in the suite, the same each time: 1,500 of up to 30 blocks took five minutes and found nothing more."""
    LedgerMachine.codes.clear()
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=40, stateful_step_count=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
    succeeded = {kind for kind, code in LedgerMachine.codes if not code}
    assert {"Transfer", "Stake", "Delegate", "RegisterUser", "EditValidator", "DoubleSign"} <= succeeded


def test_the_state_says_how_far_the_chain_is(world):
    header = world.header([])
    state = world.state()
    done = execute(state, header_digest(header), header, [])
    assert (len(done.receipts), done.receipts[0].id, done.receipts[0].events, done.boundary) == (1, header_digest(header), (), False)
    fold = next_fold(world.genesis.seed, header.reveal)
    expected = Progress(1, header_digest(header), header.time_ms, 0, 1, header.view, fold, False)
    assert state.must(Table.PROGRESS, b"", Progress) == expected


def test_a_block_follows_its_parent(world):
    header = replace(world.header([]), height=2)
    with pytest.raises(AssertionError, match="height 2 after 0"):
        execute(world.state(), bytes(32), header, [])


def test_receipts_are_in_order_and_the_blocks_own_is_last(world):
    wanted = [Transfer(world.account(1), 5), Retire(world.licences[0]), Transfer(world.account(2), 6), Claim(bytes(16))]
    transactions = [world.checked(world.people[0], action) for action in wanted]
    done = world.block(*transactions)
    assert [receipt.id for receipt in done.receipts[:-1]] == [each.id for each in transactions]
    assert [receipt.code for receipt in done.receipts] == ["", "E-LEDGER-OWNER", "", "E-LEDGER-UNKNOWN", ""]
    assert [receipt.fee for receipt in done.receipts] == [*(each.body.fee for each in transactions), 0]


def test_of_a_refused_action_fee_and_nonce_remain_and_nothing_else(world):
    bad = world.checked(world.people[0], Transfer(bytes(20), (1 << 63) - 1))
    header = world.header([bad])
    one, none = world.state(), world.state()
    execute(one, header_digest(header), header, [bad])
    execute(none, header_digest(header), header, [])
    touched = {key for key, value in one.changes().items() if none.changes().get(key, b"") != value}
    assert {key[0] for key in touched} == {Table.ACCOUNT, Table.ACCOUNT_KEY, Table.TOTALS, Table.POOL, Table.VALIDATOR}
    assert {key[1:] for key in touched if key[0] in (Table.ACCOUNT, Table.ACCOUNT_KEY)} == {world.account(0)}


def test_the_first_transaction_leaves_the_key(world):
    assert world.state().get(Table.ACCOUNT_KEY, world.account(0), PublicKey) is None
    world.block(world.checked(world.people[0], Transfer(bytes(20), 1)))
    assert world.state().get(Table.ACCOUNT_KEY, world.account(0), PublicKey) == world.people[0].public
    world.block(world.checked(world.people[0], Transfer(bytes(20), 1), bare=True))
    assert world.state().get(Table.ACCOUNT_KEY, world.account(0), PublicKey) == world.people[0].public


def test_fees_are_the_proposers(world):
    transactions = [world.checked(person, Transfer(bytes(20), 1)) for person in world.people]
    header = world.header(transactions)
    licence = current(world.state(), 1).seats[header.proposer].licence
    world.block(*transactions)
    paid = sum(each.body.fee for each in transactions)
    assert world.state().must(Table.VALIDATOR, licence, Validator).earned == paid == pool(world.state(), Pool.REWARDS)
    world.audit()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"nonce": 1}, "E-LEDGER-NONCE"),
        ({"nonce": 0, "fee": 2_000_000 * QST}, "E-LEDGER-FUNDS"),
        ({"nonce": 0, "bare": True}, "E-LEDGER-KEY"),
    ],
)
def test_what_no_honest_block_has_costs_nothing_and_changes_nothing(world, change, code):
    """Whoever executes such a block all the same comes to the same."""
    before = world.liquid(world.account(0))
    bad, good = world.checked(world.people[0], Transfer(bytes(20), 1), **change), world.checked(world.people[1], Transfer(bytes(20), 1))
    done = world.block(bad, good)
    assert [(receipt.code, receipt.fee) for receipt in done.receipts] == [(code, 0), ("", good.body.fee), ("", 0)]
    assert world.liquid(world.account(0)) == before
    world.audit()


def test_a_replayed_transaction_does_nothing(world):
    done = world.checked(world.people[0], Transfer(world.account(1), 5))
    assert [receipt.code for receipt in world.block(done, done).receipts] == ["", "E-LEDGER-NONCE", ""]
    assert [receipt.code for receipt in world.block(done).receipts] == ["E-LEDGER-NONCE", ""]
    world.audit()


def test_a_boundary_block_ends_its_rotation(world):
    assert not world.block(after_ms=HOUR_MS - 1).boundary
    assert world.progress.over is False
    done = world.block(after_ms=1)
    assert done.boundary
    assert (world.progress.rotation, world.progress.over) == (1, True)
    entry = current(world.state(), 2)
    assert (entry.base_height, entry.base) == (2, world.progress.digest)
    world.block()
    assert (world.progress.rotation, world.progress.view) == (2, 1)


def test_the_first_block_of_an_epoch_is_its_boundary():
    world = LedgerWorld(epoch_ms=10_000)
    done = world.block(after_ms=10_000)
    assert world.progress.epoch == 1
    entry = world.state().must(Table.EPOCH, (1).to_bytes(8, "big"), EpochEntry)
    assert entry == EpochEntry(1, world.progress.time_ms, world.progress.fold)
    world.block(after_ms=1_000)
    assert len(world.reader.nouns(Table.EPOCH)) == 2
    world.block(after_ms=50_000)
    assert sorted(world.reader.nouns(Table.EPOCH)) == [number.to_bytes(8, "big") for number in (0, 1, 6)]
    assert not done.boundary


def test_what_ended_by_the_blocks_time_has_ended_for_its_transactions(world):
    """Step 1 comes before step 4: a removed licence that comes back with this block can be used in it."""
    at_ms, name = world.progress.time_ms + 1_000, world.licences[3]
    world.change(Table.LICENCE, name, status=LicenceStatus.REMOVED, returns_ms=at_ms)
    state = world.state()
    remind(state, at_ms, Table.LICENCE, name)
    world.reader.apply(state.changes())
    done = world.block(world.checked(world.owners[3], ListLicence(name, 5)))
    assert done.receipts[0].code == ""


def test_two_nodes_come_to_the_same_bytes():
    """From the document on, with everything made anew."""

    def history() -> dict[bytes, bytes]:
        world = LedgerWorld(rotation_ms=5_000, epoch_ms=10_000)
        for number in range(12):
            actions = [world.checked(world.people[number % 3], Transfer(world.account(4), 10**9 + number)) for _ in range(3)]
            world.block(*actions, after_ms=1_500, skip=number % 3)
        return world.reader.entries

    assert history() == history()


def test_a_bare_state_is_not_executed_on():
    header = LedgerWorld().header([])
    with pytest.raises(AssertionError, match="PARAMETERS has no"):
        execute(State(MemoryReader()), bytes(32), header, [])
