"""The chain on the disk: what was kept, made final or executed is there, and belongs together."""

import contextlib
import os
import resource

import msgspec
import pytest
from support.ledger_world import LedgerWorld
from support.radix_memory import root_by_definition
from support.stored_chain import StoredChain, certificate, in_first_form, proposal_of, raw_of

from qnode.core.consensus_events import Final
from qnode.store.chain import ChainStore
from qnode.store.chain.environment import summed
from qustream.errors import QuStreamError
from qustream.rules.radix import verify
from qustream.wire.chain import genesis_digest
from qustream.wire.consensus import NO_DIGEST, Kind, header_digest


@pytest.fixture
def chain(tmp_path):
    chain = StoredChain(tmp_path / "chain")
    yield chain
    chain.store.close()


def code(call, *arguments):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments)
    return caught.value.code


def busy(chain, number):
    """A block in which everybody pays somebody."""
    return chain.block(*[chain.transfer(person, (person + 1 + number % 5) % 6, 5 + number) for person in range(6)])


# -- beginning ----------------------------------------------------------------------------------------------------------


def test_it_begins_from_genesis(chain):
    store = chain.store
    assert (store.final.height, store.final.digest) == (0, genesis_digest(chain.world.genesis))
    assert store.executed == chain.world.progress
    assert store.root(0) == root_by_definition(chain.world.reader.entries)
    assert store.header_at(0) is None
    assert store.certified() is None
    chain.audit()


def test_another_genesis_is_refused(chain):
    chain.store.close()
    other = LedgerWorld(people=7)
    assert code(ChainStore.open, chain.directory, other.genesis) == "E-CHAIN-GENESIS"
    chain.reopen()
    assert chain.store.final.height == 0


def test_what_an_earlier_version_has_written_is_renewed(tmp_path):
    """The first form held the lowest inner nodes, too, and transactions beside the state: nothing is done about them before the state is
    changed, as on a full disk it cannot be; then the nodes are taken out, what is in no block goes where it is kept today, once, and the
    chain goes on."""
    chain = StoredChain(tmp_path / "chain", LedgerWorld(people=400))
    loose = chain.transfer(7, 8, 5)
    chain.keep([loose])
    busy(chain, 1)
    names = [loose.id, *chain.blocks[0].ids]
    held, root = chain.store._environment.entries()["nodes"], chain.store.root(1)
    lowest = in_first_form(chain.store)
    assert chain.store._environment.entries()["nodes"] == held + lowest > held
    chain.settings = {"reserve_bytes": 1 << 60}
    chain.reopen()
    assert chain.store.is_older
    assert chain.store.root(1) == root
    assert chain.store._environment.entries()["nodes"] == held + lowest
    assert chain.store.transactions(names) == {name: raw_of(chain.raws[name]) for name in names}
    with chain.store.state() as view:
        for key, value in chain.world.reader.entries.items():
            assert verify(root, key, value, view.prove(key))
    chain.settings = {}
    chain.reopen()
    assert chain.store._environment.entries()["nodes"] == held + lowest
    for number in range(2, 5):
        busy(chain, number)
        assert chain.store._environment.entries()["nodes"] == held
        assert not chain.store.is_older
        assert chain.store.transactions(names) == {name: raw_of(chain.raws[name]) for name in names}
        left = chain.store._environment.entries()
        assert (left["transactions"], left["loose"]) == (6, 0)
    chain.reopen()
    chain.audit()
    assert chain.store.root(4) == root_by_definition(chain.world.reader.entries)
    with chain.store._environment.begin() as txn:
        txn.put(b"format", summed(b"format", b"4"), db=chain.store._environment.tables.meta)
    assert code(chain.reopen) == "E-DATA-CORRUPT"


def test_one_process_has_it(chain):
    assert code(ChainStore.open, chain.directory, chain.world.genesis) == "E-DATA-LOCKED"


# -- blocks -------------------------------------------------------------------------------------------------------------


def test_blocks_come_and_stay(chain):
    for number in range(5):
        busy(chain, number)
    for _ in range(2):
        store = chain.store
        assert store.final.height == store.executed.height == 5
        for height, block in enumerate(chain.blocks, 1):
            assert store.header_at(height) == block.header
            assert store.ids_at(height) == block.ids
            assert store.block_at(height).digest == block.digest
            for place, name in enumerate(block.ids):
                assert store.transaction(name) == raw_of(chain.raws[name])
                found = store.receipt(name)
                assert found[:2] == (height, place)
                assert found[2] == store.receipts_at(height)[place]
            assert store.receipts_at(height)[-1].id == block.digest
            assert store.root(height) is not None
        assert store.root(5) == root_by_definition(chain.entries())
        assert set(store.transactions([*chain.blocks[0].ids, bytes(32)])) == set(chain.blocks[0].ids)
        chain.audit()
        chain.reopen()


def test_what_does_not_follow_is_not_final(chain):
    busy(chain, 0)
    block = chain.next_block([])
    gap = msgspec.structs.replace(block.header, height=9)
    foreign = msgspec.structs.replace(block.header, parent=bytes(32))
    for header in (gap, foreign):
        with pytest.raises(ValueError, match="does not follow"):
            chain.store.finalise([Final(header_digest(header), header, ())], certificate(header)).result()
    other = msgspec.structs.replace(chain.blocks[0].header, time_ms=chain.blocks[0].header.time_ms + 1)
    assert code(chain.store.finalise([Final(header_digest(other), other, ())], certificate(other)).result) == "E-DATA-CORRUPT"
    chain.finalise(block)
    chain.store.finalise([chain.blocks[0], block], certificate(block.header)).result()  # once more is no harm
    assert chain.store.final.height == 2
    assert chain.store.final.header == block.header


def test_several_blocks_at_once_and_one_execution_after_the_other(chain):
    blocks = []
    before = chain.store.final
    for _ in range(4):
        block = chain.next_block([])
        header = msgspec.structs.replace(
            block.header, height=before.height + 1, parent=before.digest, view=before.height + 1, parent_view=before.height,
            time_ms=block.header.time_ms + before.height, executed=0, executed_root=chain.store.root(0),
        )  # fmt: skip
        blocks.append(Final(header_digest(header), header, ()))
        before = chain.store.final.__class__(header.height, blocks[-1].digest, header)
    chain.finalise(*blocks)
    assert (chain.store.final.height, chain.store.executed.height) == (4, 0)
    _, progress, done = chain.changes(blocks[0])
    with pytest.raises(ValueError, match="executed next"):
        chain.store.execute({}, msgspec.structs.replace(progress, height=2), done.receipts)
    assert chain.store.executed.height == 0


def test_a_root_that_a_quorum_does_not_have_is_refused_and_nothing_is_written(chain):
    busy(chain, 0)
    wrong = chain.next_block([])
    chain.finalise(wrong)
    changes, progress, done = chain.changes(wrong)
    # A later header names another root for this height.
    header = msgspec.structs.replace(
        wrong.header, height=3, parent=wrong.digest, view=3, parent_view=2, executed=2, executed_root=b"\x01" * 32
    )
    chain.finalise(Final(header_digest(header), header, ()))
    before = chain.entries()
    assert code(chain.store.execute, changes, progress, done.receipts) == "E-DATA-CORRUPT"
    assert chain.store.executed.height == 1
    assert chain.store.receipts_at(2) == ()
    assert chain.entries() == before


def test_progress_and_changes_must_be_of_one_block(chain):
    block = chain.next_block([])
    chain.finalise(block)
    changes, progress, done = chain.changes(block)
    with pytest.raises(ValueError, match="progress"):
        chain.store.execute({**changes, b"\x02": b""}, progress, done.receipts)
    assert chain.store.execute(changes, progress, done.receipts) == chain.store.root(1)


# -- history ------------------------------------------------------------------------------------------------------------


def test_the_history_of_an_account(chain):
    for number in range(6):
        busy(chain, number)
    account = chain.world.account(2)
    whole = chain.store.history(account)
    assert [place[:2] for place in whole] == sorted((place[:2] for place in whole), reverse=True)
    assert len(whole) == 12  # it paid six times, and was paid six times
    pages, before = [], None
    while page := chain.store.history(account, before, 5):
        pages += page
        before = page[-1][:2]
    assert pages == whole
    assert chain.store.history(bytes(20)) == chain.store.history(b"\xff" * 20) == []


def test_who_is_said_to_have_sent_is_who_would_be_found(tmp_path):
    """A block's senders come from who executed it, or are looked up in its transactions: the same history."""
    kept = []
    for told in (True, False):
        chain = StoredChain(tmp_path / str(told))
        transactions = [chain.transfer(number, number + 1, 5) for number in range(3)] + [chain.transfer(4, 4, 5)]
        chain.keep(transactions)
        block = chain.next_block(transactions)
        chain.finalise(block)
        changes, progress, done = chain.changes(block)
        chain.store.execute(changes, progress, done.receipts, [each.body.sender for each in transactions] if told else None)
        assert len(chain.store.history(chain.world.account(4))) == 1, "a refused transaction names nobody but its sender"
        with chain.store._environment.reading() as txn:
            kept.append([bytes(key) for key in txn.cursor(db=chain.store._environment.tables.history).iternext(values=False)])
        chain.store.close()
    assert kept[0] == kept[1] != []


# -- states -------------------------------------------------------------------------------------------------------------


def test_the_certified_state_is_the_newest_that_a_final_header_names(chain):
    for number in range(8):
        busy(chain, number)
        named = max(block.header.executed for block in chain.blocks)
        view = chain.store.certified()
        assert view is not None
        with view:
            assert view.height == named
            assert view.root == chain.store.root(named)


def test_a_state_is_read_and_proved_from_while_the_chain_goes_on(chain):
    for number in range(3):
        busy(chain, number)
    account = b"\x05" + chain.world.account(1)
    with chain.store.state() as old, chain.store.certified() as certified:
        values = {view: view.get(account) for view in (old, certified)}
        for number in range(3, 6):
            busy(chain, number)
        for view, value in values.items():
            assert view.get(account) == value
            assert verify(view.root, account, value, view.prove(account))
            assert verify(view.root, b"\x05" + bytes(20), None, view.prove(b"\x05" + bytes(20)))
        with chain.store.state() as new:
            assert new.get(account) != values[old]
    assert code(old.get, account) == "E-NOT-HELD"
    assert code(old.prove, account) == "E-NOT-HELD"


def test_scanning_is_in_order_and_bounded(chain):
    keys = sorted(key for key in chain.world.reader.entries if key[:1] == b"\x05")
    with chain.store.state() as view:
        assert [key for key, _ in view.scan(b"\x05", b"", 100)] == keys
        assert [key for key, _ in view.scan(b"\x05", keys[1], 2)] == keys[2:4]
        assert view.scan(b"\x05", keys[-1], 2) == []
        assert view.scan(b"\xee", b"", 5) == []


def test_roots_of_the_last_256(chain, monkeypatch):
    monkeypatch.setattr("qnode.store.chain.execution.ROOTS_KEPT", 4)
    for _ in range(6):
        chain.block()
    assert [height for height in range(8) if chain.store.root(height)] == [3, 4, 5, 6]


# -- what comes and goes ------------------------------------------------------------------------------------------------


def test_kept_messages(chain):
    block = chain.next_block([])
    skip = certificate(block.header, Kind.SKIP, NO_DIGEST)
    notar = certificate(msgspec.structs.replace(block.header, view=2), Kind.NOTAR, block.digest)
    for message in (proposal_of(block), skip, notar):
        chain.store.keep(message).result()
    for _ in range(2):
        store = chain.store
        assert store.proposal(block.digest) == proposal_of(block)
        assert store.certificate(1, 1, Kind.SKIP, NO_DIGEST) == skip
        assert store.certificate(1, 2, Kind.NOTAR, block.digest) == store.certificate(1, 2, Kind.NOTAR, NO_DIGEST) == notar
        assert store.certificate(1, 2, Kind.FINAL, NO_DIGEST) is None
        assert store.certificate(1, 2, Kind.NOTAR, b"\x01" * 32) is None
        assert store.kept(1) == [proposal_of(block), skip, notar]
        assert store.kept(1, above=1) == [notar]
        assert store.kept(2) == []
        chain.reopen()


def test_bodies_and_receipts_go_where_the_operator_says_so(tmp_path):
    chain = StoredChain(tmp_path / "chain", keep_blocks=3)
    for number in range(9):
        busy(chain, number)
    store = chain.store
    for height, block in enumerate(chain.blocks, 1):
        here = height > 6
        assert bool(store.receipts_at(height)) == here
        assert all((store.transaction(name) is not None) == (height > 5) for name in block.ids), "when it is on the disk that they may go"
        assert all((store.receipt(name) is not None) == here for name in block.ids)
        assert store.header_at(height) == block.header
    assert {height for height, _, _ in store.history(chain.world.account(0))} == {7, 8, 9}
    chain.audit()
    store.close()


def test_transactions_that_no_block_took_go(chain, monkeypatch):
    monkeypatch.setattr("qnode.store.chain.bodies.LOOSE_BLOCKS", 3)
    taken, left = chain.transfer(0, 1, 5), chain.transfer(2, 1, 5)
    chain.keep([taken, left])
    chain.block(taken)
    for _ in range(4):
        assert chain.store.transaction(left.id) is not None
        chain.block()
    assert chain.store.transaction(left.id) is None
    assert chain.store.transaction(taken.id) is not None


def test_a_transaction_that_comes_again_is_kept_as_long_as_one_that_comes_now(chain, monkeypatch):
    """Its first proposer's block failed; the next one's stands when its time would have been over."""
    monkeypatch.setattr("qnode.store.chain.bodies.LOOSE_BLOCKS", 3)
    taken, left = chain.transfer(0, 1, 5), chain.transfer(2, 1, 5)
    chain.keep([taken, left])
    for _ in range(3):
        chain.block()
    chain.keep([taken, left])
    chain.block()
    chain.block(taken)
    for _ in range(3):
        assert chain.store.transaction(left.id) is not None
        chain.block()
    assert chain.store.transaction(left.id) is None
    assert chain.store.transaction(taken.id) is not None
    for _ in range(3):
        chain.block()
    assert chain.store.transaction(taken.id) is not None
    chain.keep([])
    assert chain.store._bodies.entries()["loose"] == 0


# -- trouble ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_size_limited(bytes_):
    """As on a full disk, writes that would make a file longer fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_in_the_middle_of_a_block(chain):
    busy(chain, 0)
    transactions = [chain.transfer(person, (person + 1) % 6, 7) for person in range(6)]
    chain.keep(transactions)
    block = chain.next_block(transactions)
    chain.finalise(block)
    changes, progress, done = chain.changes(block)
    many = {b"\x05" + number.to_bytes(20, "big"): bytes(9) for number in range(20_000)}
    before = chain.entries()
    with file_size_limited((chain.directory / "data.mdb").stat().st_size):
        assert code(chain.store.execute, {**changes, **many}, progress, done.receipts) in ("E-DISK-FULL", "E-NODE-READONLY")
    assert chain.store.trouble is not None
    assert chain.store.executed.height == 1
    assert chain.entries() == before
    assert chain.store.receipts_at(2) == ()
    chain.execute(block)
    assert chain.store.trouble is None
    assert chain.store.executed.height == 2
    chain.audit()


def test_no_room_that_is_left_for_erasures_is_taken(chain, monkeypatch):
    busy(chain, 0)
    block = chain.next_block([])
    monkeypatch.setattr("qnode.store.directory.DataDirectory.free_bytes", lambda self: 63 << 20)
    assert code(chain.store.finalise([block], certificate(block.header)).result) == "E-DISK-FULL"
    assert code(chain.store.flush().result) == "E-DISK-FULL"
    assert chain.store.trouble.code == "E-DISK-FULL"
    assert chain.store.final.height == 1
    monkeypatch.undo()
    chain.finalise(block)
    chain.execute(block)
    assert chain.store.trouble is None


def test_a_chain_opens_and_is_read_on_a_disk_that_is_full(chain, monkeypatch):
    busy(chain, 0)
    chain.store.close()
    monkeypatch.setattr("qnode.store.directory.DataDirectory.free_bytes", lambda self: 0)
    chain.store = ChainStore.open(chain.directory, chain.world.genesis)
    assert chain.store.executed.height == 1
    chain.audit()
    assert code(chain.store.flush().result) == "E-DISK-FULL"
    assert code(ChainStore.open, chain.directory.with_name("new"), chain.world.genesis) == "E-DISK-FULL"


def test_the_map_grows_under_those_who_read(tmp_path, monkeypatch):
    monkeypatch.setattr("qnode.store.chain.writer.GROW_MIN_BYTES", 1 << 20)
    chain = StoredChain(tmp_path / "chain", map_bytes=1 << 20)
    for number in range(4):
        busy(chain, number)
    size = chain.store.sizes()["map_bytes"]
    account = b"\x05" + chain.world.account(1)
    environment = chain.store._environment
    with chain.store.state() as now, chain.store.certified() as certified:
        value, old = now.get(account), certified.get(account)
        chain.store._writer.submit(lambda txn: txn.put(b"much", bytes(4 << 20), db=environment.tables.incoming)).result()
        assert environment.info()["map_bytes"] > size // 2
        assert now.get(account) == value, "the newest state is the same after the map has grown"
        assert code(certified.get, account) == "E-NOT-HELD"  # and an older one cannot be had again
        assert old is not None
    for number in range(4, 8):
        busy(chain, number)
    assert chain.store.certified().height == 5
    chain.audit()
    chain.store.close()


def test_a_map_that_may_not_grow_is_a_full_disk(tmp_path, monkeypatch):
    chain = StoredChain(tmp_path / "chain", map_bytes=1 << 20)
    monkeypatch.setattr("qnode.store.directory.DataDirectory.free_bytes", lambda self: 100 << 20)
    many = [(os.urandom(32), os.urandom(60_000)) for _ in range(60)]
    assert code(chain.store.keep_transactions(many).result) == "E-DISK-FULL"
    assert chain.store.transaction(many[0][0]) is None
    busy(chain, 0)
    monkeypatch.undo()
    chain.store.keep_transactions(many).result()
    chain.audit()
    chain.store.close()


def test_a_backup_while_it_runs(chain, tmp_path):
    for number in range(3):
        busy(chain, number)
    chain.store.backup(tmp_path / "copy")
    busy(chain, 3)
    copy = ChainStore.open(tmp_path / "copy", chain.world.genesis)
    assert copy.final.height == copy.executed.height == 3
    assert copy.root(3) == chain.store.root(3)
    copy.close()
