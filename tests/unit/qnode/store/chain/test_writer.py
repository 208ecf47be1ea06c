"""Several decisions in one transaction: what fails takes nobody along, what is told is on the disk, and the disk's own trouble is named."""

import threading

import lmdb
import pytest

from qnode.store.chain import writer as writer_module
from qnode.store.chain.bodies import Bodies
from qnode.store.chain.environment import Environment
from qnode.store.chain.writer import ChainWriter
from qnode.store.directory import DataDirectory
from qnode.store.jobs import QUEUE_MAX_JOBS
from qustream.errors import QuStreamError, fault

MIB = 1 << 20


class Room:
    """An environment and its writer. `gate`: a first job that keeps the rest waiting, so that they come in one batch."""

    def __init__(self, path, map_bytes=4 * MIB):
        self.directory = DataDirectory(path)
        self.environment = Environment.open(path, map_bytes)
        self.bodies = Bodies.open(path, map_bytes)
        self.writer = ChainWriter(self.directory, self.environment, self.bodies, reserve_bytes=0)
        self.tables = self.environment.tables
        self.commits = 0

    def held(self):
        inside, go_on = threading.Event(), threading.Event()

        def decide(txn):
            inside.set()
            assert go_on.wait(60)

        future = self.writer.submit(decide)
        assert inside.wait(60)
        return future, go_on

    def put(self, key, value=b"v", after=None):
        return self.writer.submit(lambda txn: txn.put(key, value, db=self.tables.loose), after)

    def has(self, key):
        with self.environment.reading() as txn:
            return txn.get(key, db=self.tables.loose) is not None

    def close(self):
        self.writer.close()
        self.environment.close()
        self.bodies.close()
        self.directory.close()


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)
    yield room
    room.close()


def code(future):
    with pytest.raises(QuStreamError) as caught:
        future.result(10)
    return caught.value.code


def test_waiters_are_told_when_it_is_on_the_disk(room):
    seen = []
    room.put(b"a", after=lambda _: seen.append(room.has(b"a"))).result(10)
    assert seen == [True]
    assert room.has(b"a")


def test_one_s_own_error_takes_nobody_along(room):
    first, go_on = room.held()

    def refuse(txn):
        txn.put(b"half", b"v", db=room.tables.loose)
        raise fault("E-PROOF", "no")

    before, bad, after = room.put(b"before"), room.writer.submit(refuse), room.put(b"after")
    go_on.set()
    assert code(bad) == "E-PROOF"
    assert before.result(10) is True
    assert after.result(10) is True
    assert not room.has(b"half"), "what had been done before it failed is taken back"
    assert room.writer.trouble is None
    first.result(10)


@pytest.mark.parametrize("error", [fault("E-PEER-LIMIT", "no reader is free"), OSError("a bug")], ids=["coded", "bug"])
def test_what_fails_once_it_is_on_the_disk_is_its_own_error_too(room, error):
    first, go_on = room.held()

    def fail(_):
        raise error

    bad, other = room.put(b"bad", after=fail), room.put(b"other")
    go_on.set()
    assert bad.exception(10) is error
    assert other.result(10) is True
    assert room.has(b"bad")
    assert room.writer.trouble is None
    first.result(10)


def test_what_does_not_follow_is_its_own_error_too(room):
    _, go_on = room.held()

    def refuse(txn):
        raise ValueError("not the next block")

    bad, other = room.writer.submit(refuse), room.put(b"other")
    go_on.set()
    with pytest.raises(ValueError, match="next"):
        bad.result(10)
    assert other.result(10) is True


def test_a_bug_of_one_is_seen_by_all_of_its_batch_and_nobody_waits_for_ever(room):
    _, go_on = room.held()
    bad, other = room.writer.submit(lambda txn: 1 // 0), room.put(b"other")
    go_on.set()
    for future in (bad, other):
        with pytest.raises(ZeroDivisionError):
            future.result(10)
    assert room.put(b"more").result(10) is True


def test_a_decision_is_made_again_when_the_map_has_grown(room, monkeypatch):
    monkeypatch.setattr(writer_module, "GROW_MIN_BYTES", MIB)
    tries = []

    def fill(txn):
        tries.append(1)
        for number in range(300):
            txn.put(b"%d" % number, bytes(20_000), db=room.tables.loose)

    room.writer.submit(fill).result(30)
    assert len(tries) > 1
    assert room.has(b"299")
    assert room.environment.info()["map_bytes"] > 4 * MIB


def test_no_room_is_a_full_disk_until_there_is_some(room, monkeypatch):
    monkeypatch.setattr(DataDirectory, "free_bytes", lambda self: -1)
    assert code(room.put(b"a")) == "E-DISK-FULL"
    assert room.writer.trouble.code == "E-DISK-FULL"
    assert str(room.directory.path) in room.writer.trouble.detail
    monkeypatch.undo()
    assert room.put(b"a").result(10) is True
    assert room.writer.trouble is None


def test_a_write_that_fails_is_no_end(room, monkeypatch):
    class Refused:
        def __init__(self, error):
            self._error = error

        def commit(self):
            raise self._error

        def abort(self):
            pass

    real = room.environment.begin
    for error, expected in ((lmdb.DiskError("write"), "E-DISK-FULL"), (lmdb.Error("write: input/output error"), "E-NODE-READONLY")):
        monkeypatch.setattr(room.environment, "begin", lambda error=error: Refused(error))
        assert code(room.writer.submit(lambda txn: None)) == expected
        monkeypatch.setattr(room.environment, "begin", real)
        assert room.put(expected.encode()).result(10) is True


def test_what_the_disk_holds_is_unknown_after_a_panic_and_stays_so(room, monkeypatch):
    def panic():
        raise lmdb.PanicError("sync")

    monkeypatch.setattr(room.environment, "begin", panic)
    assert code(room.put(b"a")) == "E-NODE-READONLY"
    monkeypatch.undo()
    assert code(room.put(b"a")) == "E-NODE-READONLY"
    assert "restart" in room.writer.trouble.detail


def test_too_much_that_waits_is_refused_at_once(room):
    first, go_on = room.held()
    futures = [room.put(b"%d" % number) for number in range(QUEUE_MAX_JOBS)]
    with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
        room.put(b"more")
    go_on.set()
    assert all(future.result(30) for future in futures)
    first.result(10)


def test_closing_carries_out_what_was_handed_in(tmp_path):
    room = Room(tmp_path)
    futures = [room.put(b"%d" % number) for number in range(100)]
    room.writer.close()
    assert all(future.result(0) for future in futures)
    with pytest.raises(QuStreamError, match="E-NODE-READONLY"):
        room.put(b"late")
    room.close()


def test_many_threads_at_once(room):
    def put(name):
        for number in range(50):
            room.put(b"%d %d" % (name, number)).result(30)

    threads = [threading.Thread(target=put, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert room.environment.entries()["loose"] == 300


def test_a_map_that_cannot_be_made_larger_stops_the_writer(room, monkeypatch):
    monkeypatch.setattr(writer_module, "GROW_MIN_BYTES", MIB)

    def grow(size):
        raise lmdb.Error("Cannot allocate memory")

    monkeypatch.setattr(room.environment, "grow", grow)
    assert code(room.put(b"much", bytes(8 * MIB))) == "E-NODE-READONLY"
    monkeypatch.undo()
    assert code(room.put(b"little")) == "E-NODE-READONLY"
