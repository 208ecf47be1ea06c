"""Reading beside the writer, across a map that grows; files that are not whole."""

import contextlib
import os
import resource
import subprocess
import sys
import threading

import lmdb
import pytest

from qnode.store.chain.environment import (
    LOCK_BYTES,
    READERS_MAX,
    Environment,
    Table,
    is_there,
    number_key,
    put_progress,
    summed,
    unsummed,
)
from qustream.errors import QuStreamError
from qustream.model.state import Progress

MIB = 1 << 20


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "chain").mkdir()
    environment = Environment.open(tmp_path / "chain", MIB)
    yield environment
    environment.close()


def code(call, *arguments):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments)
    return caught.value.code


def at_height(environment: Environment, height: int) -> None:
    with environment.begin() as txn:
        put_progress(txn, environment.tables, Progress(height, bytes(32), 0, 0, 0, 0, bytes(32), False))


def value_in(reading):
    with reading.using() as txn:
        return txn.get(b"k")


def test_the_table_of_readers_has_its_place_on_the_disk(environment):
    """A hole in it would end the process when it is first used on a disk that is full."""
    lock = os.stat(environment.path / "lock.mdb")
    assert lock.st_size == LOCK_BYTES
    assert lock.st_blocks * 512 >= LOCK_BYTES
    assert lock.st_mode & 0o777 == 0o600
    assert environment._env.max_readers() == READERS_MAX


def test_without_room_for_the_table_of_readers_nothing_is_opened_and_later_it_is(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            Environment.open(tmp_path, MIB)
        with pytest.raises(OSError, match="File too large"):  # nor when its file is there already
            Environment.open(tmp_path, MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not is_there(tmp_path)
    environment = Environment.open(tmp_path, MIB)
    assert is_there(tmp_path)
    environment.close()


@pytest.mark.parametrize("room", [4096, 8192, 12_288, 16_384])
def test_a_database_that_could_not_be_made_whole_is_none(tmp_path, room):
    Environment.open(tmp_path, MIB).close()
    (tmp_path / "data.mdb").unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises((OSError, lmdb.Error)):
            Environment.open(tmp_path, MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not is_there(tmp_path)
    Environment.open(tmp_path, MIB).close()
    assert is_there(tmp_path)


def test_what_lmdb_has_closed_is_told_in_coded_form(environment):
    """As its binding does when a map cannot be made larger."""
    environment._env.close()
    assert code(environment.read) == "E-NODE-READONLY"
    assert code(environment.info) == "E-NODE-READONLY"


def test_an_empty_file_is_no_database_and_becomes_one(tmp_path):
    (tmp_path / "data.mdb").touch()
    assert not is_there(tmp_path)
    environment = Environment.open(tmp_path, MIB)
    with environment.begin() as txn:
        txn.put(b"k", b"v", db=environment.tables.loose)
    environment.close()
    assert is_there(tmp_path)


def test_the_lock_is_held_by_who_writes(environment):
    """Another process that reads must find it taken, or it would begin the table of readers anew."""
    look = "import lmdb, sys; env = lmdb.open(sys.argv[1], readonly=True, max_dbs=1); print(env.readers().count('\\n'))"
    with environment.reading():
        told = subprocess.run([sys.executable, "-c", look, str(environment.path)], capture_output=True, text=True, check=True)
        assert int(told.stdout) >= 2, told  # a line of names, and this reading


def test_a_reading_sees_what_was_there_when_it_began(environment):
    reading = environment.read()
    with environment.begin() as txn:
        txn.put(b"k", b"v", db=environment.tables.loose)
    with reading.using() as txn:
        assert txn.get(b"k", db=environment.tables.loose) is None
    with environment.reading() as txn:
        assert txn.get(b"k", db=environment.tables.loose) == b"v"
    reading.close()
    reading.close()
    assert code(value_in, reading) == "E-NOT-HELD"


def test_growing_takes_the_readings_along_if_their_state_is_still_there(environment):
    at_height(environment, 1)
    reading = environment.read()
    environment.grow(2 * MIB)
    assert environment.info()["map_bytes"] == 2 * MIB
    assert reading.progress.height == 1
    with reading.using() as txn:
        assert txn.get(b"executed", db=environment.tables.meta) is not None
    at_height(environment, 2)
    environment.grow(3 * MIB)
    assert code(value_in, reading) == "E-NOT-HELD"
    reading.close()


def test_growing_waits_for_whoever_is_reading_just_now(environment):
    at_height(environment, 1)
    reading = environment.read()
    inside, go_on, grown = threading.Event(), threading.Event(), threading.Event()

    def read():
        with reading.using():
            inside.set()
            go_on.wait(60)

    def grow():
        environment.grow(2 * MIB)
        grown.set()

    reader, grower = threading.Thread(target=read), threading.Thread(target=grow)
    reader.start()
    assert inside.wait(60)
    grower.start()
    assert not grown.wait(0.05)
    go_on.set()
    assert grown.wait(60)
    reader.join()
    grower.join()
    reading.close()


def test_many_readers_and_a_map_that_keeps_growing(environment):
    at_height(environment, 1)
    stop, wrong = threading.Event(), []

    def look():
        while not stop.is_set():
            try:
                with environment.reading() as txn:
                    raw = txn.get(b"executed", db=environment.tables.meta)
                unsummed(b"executed", raw)
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for step in range(2, 40):
        environment.grow(step * MIB)
        at_height(environment, step)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_file_that_ends_too_early_is_named(tmp_path):
    environment = Environment.open(tmp_path, MIB)
    with environment.begin() as txn:
        for number in range(100):
            txn.put(number_key(number), bytes(2000), db=environment.tables.loose)
    environment.close()
    data = tmp_path / "data.mdb"
    data.write_bytes(data.read_bytes()[:40_960])
    assert code(Environment.open, tmp_path, MIB) == "E-DATA-CORRUPT"


def test_what_is_no_database(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"x" * 20_000)
    with pytest.raises(lmdb.Error):
        Environment.open(tmp_path, MIB)


def test_a_value_and_its_checksum():
    stored = summed(b"key", b"value")
    assert unsummed(b"key", stored) == b"value"
    assert code(unsummed, b"other", stored) == "E-DATA-CORRUPT"
    for at in range(len(stored)):
        assert code(unsummed, b"key", stored[:at] + bytes([stored[at] ^ 4]) + stored[at + 1 :]) == "E-DATA-CORRUPT"
    assert code(unsummed, b"key", b"") == "E-DATA-CORRUPT"


def test_a_backup_is_opened_to_be_looked_at(environment, tmp_path):
    at_height(environment, 7)
    environment.backup(tmp_path / "copy")
    copy = Environment.open(tmp_path / "copy", 0, readonly=True)
    assert isinstance(copy.tables, Table)
    assert copy.read().progress.height == 7
    assert copy.entries()["meta"] == 1
    copy.close()


def test_a_backup_that_finds_no_place(environment, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert code(environment.backup, tmp_path / "file") == "E-FILE"


def test_more_readers_than_there_are_places_for(environment):
    readings = [environment.read() for _ in range(512)]
    assert code(environment.read) == "E-PEER-LIMIT"
    readings.pop().close()
    environment.read().close()
    for reading in readings:
        reading.close()


@pytest.mark.parametrize("fails", [False, True])
def test_a_short_look_that_has_begun_is_not_interrupted(environment, fails):
    """The state goes on and the map grows just when somebody begins to look: he waits for nobody, and is refused nothing. One that fails
    then does not hold up who waits for it, either."""
    at_height(environment, 1)
    begun, go_on, grown = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def look():
        with environment.first_use() as (reading, txn):
            begun.set()
            assert go_on.wait(60)
            seen.append((reading.progress.height, txn.get(b"executed", db=environment.tables.meta) is not None))
            if fails:
                raise ZeroDivisionError
        reading.close()

    def grow():
        at_height(environment, 2)
        environment.grow(2 * MIB)
        grown.set()

    def look_on():
        with contextlib.suppress(ZeroDivisionError):
            look()

    threads = [threading.Thread(target=look_on, daemon=True), threading.Thread(target=grow, daemon=True)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    assert not grown.wait(0.05)
    go_on.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "they wait for each other"
    assert seen == [(1, True)]
    assert not environment._readings
