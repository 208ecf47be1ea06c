"""Transactions' bytes, in an environment of their own: what is kept, what goes, and what a reader sees of it."""

import errno
import os
import resource
import shutil

import pytest
from support.ledger_world import LedgerWorld
from support.stored_chain import StoredChain, in_first_form, raw_of

from qnode.store.chain import ChainStore
from qnode.store.chain import bodies as bodies_module
from qnode.store.chain.bodies import FOLDER, Bodies, BodiesFull
from qnode.store.chain.checking import Inspector
from qustream.errors import QuStreamError, fault
from qustream.wire.transactions import transaction_id

MIB = 1 << 20


def made(count, size=3_000):
    raws = [os.urandom(size) for _ in range(count)]
    return [(transaction_id(raw), raw) for raw in raws]


def never(_name):
    return False


def code(call, *arguments):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments)
    return caught.value.code


@pytest.fixture
def bodies(tmp_path):
    bodies = Bodies.open(tmp_path, MIB)
    yield bodies
    bodies.abort()
    bodies.close()


def test_what_is_kept_is_seen_by_the_writer_at_once_and_by_others_when_it_is_committed(bodies):
    [(name, raw)] = many = made(1)
    bodies.keep(many, 7, never)
    assert bodies.written([name, bytes(32)]) == {name: raw}
    assert bodies.get([name]) == {}
    bodies.commit()
    assert bodies.get([name, bytes(32)]) == bodies.written([name, bytes(32)]) == {name: raw}


def test_what_is_taken_back_was_never_there(bodies):
    many = made(3)
    bodies.keep(many, 7, never)
    bodies.abort()
    bodies.commit()  # of nothing
    assert bodies.get([name for name, _ in many]) == {}
    assert bodies.entries() == {"meta": 0, "transactions": 0, "loose": 0}


def test_keeping_twice_is_keeping_once(bodies):
    """As when the chain's own transaction failed after this one: all is done again."""
    many = made(3)
    for _ in range(2):
        bodies.keep(many, 7, never)
        bodies.commit()
    assert bodies.entries() == {"meta": 0, "transactions": 3, "loose": 3}


def test_loose_ones_go_and_final_ones_stay(bodies, monkeypatch):
    monkeypatch.setattr("qnode.store.chain.bodies.LOOSE_BLOCKS", 10)
    many = made(4)
    final = {name for name, _ in many[:2]}
    bodies.keep(many, 7, never)
    bodies.keep([], 17, final.__contains__)
    bodies.commit()
    assert len(bodies.get([name for name, _ in many])) == 4
    bodies.keep([], 18, final.__contains__)
    bodies.commit()
    assert bodies.get([name for name, _ in many]).keys() == final
    assert bodies.entries()["loose"] == 0


def test_so_many_go_at_once(bodies, monkeypatch):
    monkeypatch.setattr("qnode.store.chain.bodies.LOOSE_BLOCKS", 10)
    monkeypatch.setattr("qnode.store.chain.bodies.PRUNED_AT_ONCE_MAX", 3)
    bodies.keep(made(8), 0, never)
    for left in (5, 2, 0, 0):
        bodies.keep([], 20, never)
        assert bodies._txn is not None
        bodies.commit()
        assert bodies.entries()["transactions"] == left


def test_old_heights_are_taken_away_step_by_step_and_no_height_twice(bodies, monkeypatch):
    many, asked = made(6), []
    bodies.keep(many, 0, never)

    def ids_at(height):
        asked.append(height)
        return [many[height - 1][0]]

    monkeypatch.setattr("qnode.store.chain.bodies.PRUNED_AT_ONCE_MAX", 2)
    assert bodies.dropped_below() == 1
    for floor, below in ((1, 1), (4, 3), (4, 4), (4, 4), (6, 6)):
        bodies.drop(1, floor, ids_at)
        bodies.commit()
        assert bodies.dropped_below() == below
    assert asked == [1, 2, 3, 4, 5]
    assert bodies.get([name for name, _ in many]) == dict(many[5:])


def test_heights_without_transactions_are_gone_through_in_bounds_and_from_the_first_there_is(bodies, monkeypatch):
    monkeypatch.setattr("qnode.store.chain.bodies.HEIGHTS_AT_ONCE_MAX", 100)
    asked = []

    def ids_at(height):
        asked.append(height)
        return ()

    for below in (1_100, 1_150):
        bodies.drop(1_000, 1_150, ids_at)
        bodies.commit()
        assert bodies.dropped_below() == below
    assert asked == list(range(1_000, 1_150))


def test_beside_an_older_chain_what_comes_again_is_taken_away_again(bodies):
    many = made(8)

    def ids_at(height):
        return [many[height - 1][0]]

    bodies.drop(1, 6, ids_at)
    bodies.come_again(2)
    bodies.come_again(8)  # which are not that far
    bodies.keep(many, 0, never)
    bodies.drop(1, 2, ids_at)  # below what is gone already
    bodies.commit()
    assert bodies.dropped_below() == 3
    bodies.drop(1, 7, ids_at)
    bodies.commit()
    assert bodies.dropped_below() == 7
    assert bodies.get([name for name, _ in many]).keys() == {name for name, _ in many[:2]} | {name for name, _ in many[6:]}


def test_an_older_copy_of_the_chain_beside_its_bodies(tmp_path):
    """Its blocks come again, and go again in their time; those that have gone for good are no fault."""
    chain = StoredChain(tmp_path / "chain", keep_blocks=3)
    for number in range(12):
        if number == 8:
            chain.store._environment.backup(tmp_path / "older")
        chain.block(chain.transfer(number % 6, (number + 1) % 6, 5))
    chain.store.close()
    (tmp_path / "older" / "data.mdb").replace(tmp_path / "chain" / "data.mdb")
    chain.reopen()
    assert (chain.store.final.height, chain.store._bodies.dropped_below()) == (8, 9)
    chain.store.close()
    with Inspector(tmp_path / "chain") as inspector:
        assert not [fault for check in inspector.verify() for fault in check.faults]


def test_too_small_a_map_says_so_in_a_way_of_its_own_and_grows(bodies):
    many = made(40, 50_000)
    with pytest.raises(BodiesFull):
        bodies.keep(many, 0, never)
    bodies.abort()
    bodies.grow(8 * MIB)
    bodies.keep(many, 0, never)
    bodies.commit()
    assert bodies.get([name for name, _ in many]) == dict(many)
    assert bodies.info()["map_bytes"] == 8 * MIB


def test_the_map_of_the_bodies_grows_and_no_reading_of_the_chain_is_disturbed(tmp_path, monkeypatch):
    monkeypatch.setattr("qnode.store.chain.writer.GROW_MIN_BYTES", MIB)
    chain = StoredChain(tmp_path / "chain", map_bytes=MIB)
    for number in range(4):
        chain.block(chain.transfer(number, 0, 5))
    account, many = b"\x05" + chain.world.account(1), made(60, 60_000)
    with chain.store.state() as now, chain.store.certified() as certified:
        before = now.get(account), certified.get(account)
        chain.store.keep_transactions(many).result()
        assert chain.store._bodies.info()["map_bytes"] > 3 * MIB
        assert chain.store._environment.info()["map_bytes"] == MIB
        assert (now.get(account), certified.get(account)) == before
    assert chain.store.transactions([name for name, _ in many]) == dict(many)
    chain.audit()
    chain.store.close()


def test_a_chain_s_own_full_map_keeps_no_body_twice(tmp_path, monkeypatch):
    """Bodies are on the disk, the chain's transaction fails, and all is done again."""
    monkeypatch.setattr("qnode.store.chain.writer.GROW_MIN_BYTES", MIB)
    chain = StoredChain(tmp_path / "chain", map_bytes=MIB)
    many, tables = made(5), chain.store._environment.tables

    def decide(txn):
        chain.store._blocks.keep_transactions(txn, many, 0, never)
        chain.store._bodies.commit()
        txn.put(b"much", bytes(2 * MIB), db=tables.incoming)

    chain.store._writer.submit(decide).result(60)
    assert chain.store._environment.info()["map_bytes"] > MIB
    assert chain.store.transactions([name for name, _ in many]) == dict(many)
    assert chain.store._bodies.entries()["loose"] == 5
    chain.store.close()


def test_one_s_own_error_takes_its_bodies_back(tmp_path):
    chain = StoredChain(tmp_path / "chain")
    [(name, _)] = many = made(1)

    def decide(txn):
        chain.store._blocks.keep_transactions(txn, many, 0, never)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        chain.store._writer.submit(decide).result(60)
    chain.store.flush().result(60)
    assert chain.store.transaction(name) is None
    chain.store.close()


def test_what_is_not_what_was_written_is_told(bodies):
    [(name, raw)] = made(1)
    bodies.keep([(name, raw[:-1] + bytes([raw[-1] ^ 1]))], 0, never)
    with pytest.raises(QuStreamError, match="E-DATA-CORRUPT"):
        bodies.written([name])
    bodies.commit()
    with pytest.raises(QuStreamError, match="E-DATA-CORRUPT"):
        bodies.get([name])


def test_where_there_are_none(tmp_path):
    """An earlier version's chain, which is looked at and not opened."""
    bodies = Bodies.look_at(tmp_path)
    assert not (tmp_path / FOLDER).exists()
    assert bodies.get([bytes(32)]) == {}
    assert bodies.dropped_below() == 1
    assert bodies.entries() == {}
    assert set(bodies.info().values()) == {0}
    assert bodies.genesis() is None
    bodies.close()


def test_a_backup_has_the_bodies_of_its_blocks_and_knows_which_have_gone(tmp_path):
    """The chain is copied first, and goes on while its bodies are copied."""
    chain = StoredChain(tmp_path / "chain", keep_blocks=3)

    def block():
        chain.block(*[chain.transfer(person, (person + 1) % 6, 5) for person in range(6)])

    for _ in range(6):
        block()
    chain.store._environment.backup(tmp_path / "copy")
    for _ in range(2):
        block()
    chain.store.flush().result(60)
    chain.store._bodies._environment.backup(tmp_path / "copy" / FOLDER)
    chain.store.close()
    with Inspector(tmp_path / "copy") as inspector:
        assert inspector.facts().final_height == 6
        assert inspector.facts().bodies_from == 6
        assert not [fault for check in inspector.verify() for fault in check.faults]
    with ChainStore.open(tmp_path / "copy", chain.world.genesis, keep_blocks=3) as copy:
        ids = chain.blocks[5].ids
        assert copy.transactions(ids) == {name: raw_of(chain.raws[name]) for name in ids}


def test_a_copy_that_fails_leaves_nothing_that_could_be_taken_for_one(tmp_path, monkeypatch):
    chain = StoredChain(tmp_path / "chain")
    chain.block(chain.transfer(0, 1, 5))

    def fail(target):
        target.mkdir()
        (target / "data.mdb").touch()
        raise fault("E-DISK-FULL", "no room")

    monkeypatch.setattr(chain.store._bodies._environment, "backup", fail)
    assert code(chain.store.backup, tmp_path / "copy") == "E-DISK-FULL"
    assert list((tmp_path / "copy").iterdir()) == []
    monkeypatch.undo()
    chain.store.backup(tmp_path / "copy")
    assert code(chain.store.backup, tmp_path / "copy") == "E-FILE-EXISTS"
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"data.mdb", FOLDER}
    assert code(chain.store.backup, tmp_path / "copy" / "data.mdb") == "E-FILE"
    assert code(chain.store.backup, chain.directory) == "E-FILE-EXISTS"
    chain.store.close()


def test_a_copy_to_a_full_disk_says_so(tmp_path):
    chain = StoredChain(tmp_path / "chain")
    chain.block(chain.transfer(0, 1, 5))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        assert code(chain.store.backup, tmp_path / "copy") == "E-DISK-FULL"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "copy").iterdir()) == []
    chain.block(chain.transfer(0, 1, 5))
    chain.store.close()


# -- whose they are -----------------------------------------------------------------------------------------------------


def test_a_chain_without_its_bodies_is_not_opened(tmp_path):
    """Copied in part: its blocks would be there, and nobody could have their transactions."""
    chain = StoredChain(tmp_path / "chain")
    chain.block(chain.transfer(0, 1, 5))
    chain.store.close()
    (tmp_path / "chain" / FOLDER).rename(tmp_path / "aside")
    assert code(chain.reopen) == "E-DATA-CORRUPT"
    with Inspector(tmp_path / "chain") as inspector:
        assert "copied in part" in next(check for check in inspector.verify() if check.name == "progress").faults[0]
        assert code(inspector.backup, tmp_path / "copy") == "E-DATA-CORRUPT"
    (tmp_path / "aside").rename(tmp_path / "chain" / FOLDER)
    chain.reopen()
    chain.block(chain.transfer(0, 1, 5))
    chain.store.close()


def test_another_chain_s_bodies_are_not_taken_for_its_own(tmp_path):
    chain, other = StoredChain(tmp_path / "chain"), StoredChain(tmp_path / "other", LedgerWorld(people=7))
    chain.store.close()
    other.store.close()
    shutil.rmtree(tmp_path / "chain" / FOLDER)
    shutil.copytree(tmp_path / "other" / FOLDER, tmp_path / "chain" / FOLDER)
    assert code(chain.reopen) == "E-CHAIN-GENESIS"


def test_a_chain_that_begins_beside_what_another_left_begins_with_none(tmp_path):
    chain = StoredChain(tmp_path / "chain")
    chain.block(chain.transfer(0, 1, 5))
    [name] = chain.blocks[0].ids
    chain.store.close()
    (tmp_path / "chain" / "data.mdb").rename(tmp_path / "aside.mdb")
    chain = StoredChain(tmp_path / "chain", LedgerWorld(people=7))
    assert chain.store.transaction(name) is None
    assert chain.store._bodies.entries() == {"meta": 1, "transactions": 0, "loose": 0}
    chain.store.close()


# -- room and what is left over -----------------------------------------------------------------------------------------


def test_an_earlier_version_s_chain_is_read_on_a_full_disk_and_goes_on_when_there_is_room(tmp_path, monkeypatch):
    chain = StoredChain(tmp_path / "chain")
    chain.block(chain.transfer(0, 1, 5))
    [name] = chain.blocks[0].ids
    in_first_form(chain.store, beneath=())
    chain.store.close()
    shutil.rmtree(tmp_path / "chain" / FOLDER)
    make, full = bodies_module.make_directory, [True]

    def make_directory(path):
        if full:
            raise OSError(errno.ENOSPC, "no room")
        make(path)

    monkeypatch.setattr(bodies_module, "make_directory", make_directory)
    chain.reopen()
    assert chain.store.transaction(name) == raw_of(chain.raws[name])
    assert code(chain.store.keep_transactions(made(1)).result) == "E-DISK-FULL"
    full.clear()
    chain.block(chain.transfer(1, 0, 5))
    assert not chain.store.is_older
    chain.reopen()
    assert len(chain.store.transactions([name, *chain.blocks[1].ids])) == 2
    chain.audit()
    chain.store.close()


def test_today_s_chain_without_bodies_is_not_read_on_a_full_disk_either(tmp_path, monkeypatch):
    chain = StoredChain(tmp_path / "chain")
    chain.store.close()
    shutil.rmtree(tmp_path / "chain" / FOLDER)

    def make_directory(path):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(bodies_module, "make_directory", make_directory)
    assert code(chain.reopen) == "E-DATA-CORRUPT"


def test_what_was_begun_and_not_made_is_made(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "data.mdb").touch()
    looked = Bodies.look_at(tmp_path)
    assert looked.entries() == {}
    looked.close()
    bodies = Bodies.open(tmp_path, MIB)
    bodies.keep(many := made(1), 0, never)
    bodies.commit()
    assert bodies.get([many[0][0]]) == dict(many)
    bodies.close()


def test_what_a_transaction_is_about_to_take_away_is_still_final_on_the_disk(tmp_path, monkeypatch):
    """Bodies are committed first: had they gone, and the chain's own transaction not come to be, a block would miss them."""
    monkeypatch.setattr("qnode.store.chain.bodies.LOOSE_BLOCKS", 3)
    chain = StoredChain(tmp_path / "chain")
    chain.block(chain.transfer(0, 1, 5))
    [name] = chain.blocks[0].ids
    for _ in range(5):
        chain.finalise(block := chain.next_block([]))
        chain.execute(block)
    store = chain.store

    def decide(txn):
        txn.delete(name, db=store._environment.tables.locations)
        store._blocks.keep_transactions(txn, [], store.final.height, lambda each: store.place_of(each) is not None)
        return store._bodies.written([name])

    assert store._writer.submit(decide).result(60) == {name: raw_of(chain.raws[name])}
    assert store._bodies.entries()["loose"] == 0
    chain.store.close()
