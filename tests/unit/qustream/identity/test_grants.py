"""Grants on a device's disk: no index twice, among threads and processes, through kill -9."""

import os
import random
import signal
import subprocess
import sys
import threading

import msgspec
import pytest

from qustream.errors import QuStreamError
from qustream.identity import files
from qustream.identity.grants import FORGET_ABOVE, GRANTS_MAX, GrantBook, GrantRecord
from qustream.model.network import Grant
from qustream.wire.codec import encode

# What a process of the user's does: reserve and say so, as fast as it can.
RESERVE = """
import os, sys
from pathlib import Path
from qustream.identity.grants import GrantBook
book = GrantBook(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    os.write(1, b"%d\\n" % book.next_index(bytes(32)))
"""


def refused(code, call, *arguments):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments)
    assert caught.value.code == code
    return caught.value.detail


def record(number=0, **changes):
    root = number.to_bytes(32, "big")
    whole = GrantRecord(1, root, bytes(32), 100, 1, 0, 0, 1000, 0, None)
    return msgspec.structs.replace(whole, **changes)


def granted(offered, number=0):
    name = number.to_bytes(32, "big")
    return Grant(name, bytes(32), offered.root, offered.count, offered.stripes, 0, 0, None)


@pytest.fixture
def book(tmp_path):
    made = GrantBook(tmp_path)
    made.adopt(granted(made.add(record(count=1 << 20))))
    return made


def test_indices_come_in_order_and_outlive_the_program(book):
    assert [book.next_index(bytes(32)) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert GrantBook(book.directory).next_index(bytes(32)) == 5


def test_a_stripe_takes_its_own_indices_and_ends(tmp_path):
    book = GrantBook(tmp_path)
    book.adopt(granted(book.add(record(count=8, stripes=3, stripe=2))))
    assert [book.next_index(bytes(32)) for _ in range(2)] == [2, 5]
    assert "2 indices" in refused("E-GRANT-EXHAUSTED", book.next_index, bytes(32))


def test_what_is_left_counts_down_to_nothing(tmp_path):
    book = GrantBook(tmp_path)
    offered = record(count=7, stripes=3, stripe=1)  # its own are 1 and 4
    book.add(offered)
    grant = granted(offered)
    book.adopt(grant)
    left = [book.left(grant.grant)]
    while left[-1]:
        book.next_index(grant.grant)
        left.append(book.left(grant.grant))
    assert left == [2, 1, 0]
    outside = GrantBook(tmp_path)
    outside.add(record(1, stripes=1, stripe=4))
    outside.adopt(granted(record(1, stripes=1, stripe=4), 1))
    assert outside.left((1).to_bytes(32, "big")) == 0
    refused("E-GRANT-UNKNOWN", outside.left, bytes([9]) * 32)


def test_a_device_outside_the_stripes_has_no_index(tmp_path):
    book = GrantBook(tmp_path)
    book.adopt(granted(book.add(record(stripes=2, stripe=2))))
    assert "devices 0 to 1" in refused("E-GRANT-EXHAUSTED", book.next_index, bytes(32))


def test_an_unknown_grant(book):
    assert "qg1" in refused("E-GRANT-UNKNOWN", book.next_index, bytes([1] * 32))
    refused("E-GRANT-UNKNOWN", book.of, bytes([1] * 32))
    refused("E-GRANT-UNKNOWN", book.adopt, granted(record(7)))


def test_a_grant_that_is_not_the_offer_is_not_adopted(tmp_path):
    book = GrantBook(tmp_path)
    offered = book.add(record(5))
    refused("E-GRANT-UNKNOWN", book.adopt, granted(msgspec.structs.replace(offered, count=99)))
    refused("E-GRANT-UNKNOWN", book.adopt, granted(msgspec.structs.replace(offered, stripes=2)))
    book.adopt(granted(offered, 1))
    book.adopt(granted(offered, 1))
    refused("E-GRANT-UNKNOWN", book.adopt, granted(offered, 2))


def test_adopting_or_adding_again_keeps_what_is_used(book):
    for _ in range(3):
        book.next_index(bytes(32))
    assert book.adopt(granted(record(count=1 << 20))).used == 3
    assert book.add(record(count=1 << 20)).used == 3
    assert book.next_index(bytes(32)) == 3


def test_threads_never_share_an_index(book):
    taken = [[] for _ in range(8)]
    threads = [threading.Thread(target=lambda own: own.extend(book.next_index(bytes(32)) for _ in range(25)), args=(own,)) for own in taken]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(j for own in taken for j in own) == list(range(200))


def reserving(directory, times):
    command = [sys.executable, "-c", RESERVE, str(directory), str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_processes_never_share_an_index(book):
    running = [reserving(book.directory, 50) for _ in range(4)]
    told = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 4, told
    indices = [int(line) for out, _ in told for line in out.split()]
    assert sorted(indices) == list(range(200))
    assert book.next_index(bytes(32)) == 200


def test_no_index_comes_twice_through_kill_9(book):
    chance = random.Random(9)
    told = []
    for _ in range(4):
        running = [reserving(book.directory, 1_000_000) for _ in range(2)]
        # Each is killed at some index of its choosing, in the middle of whatever it does then.
        for process in running:
            for _ in range(chance.randrange(1, 40)):
                told.append(int(process.stdout.readline()))
        for process in running:
            process.send_signal(signal.SIGKILL)
            told.extend(int(line) for line in process.stdout.read().split())
            assert process.wait() == -signal.SIGKILL
            process.stdout.close()
            process.stderr.close()
    told.append(GrantBook(book.directory).next_index(bytes(32)))
    assert len(set(told)) == len(told) > 8
    # A kill costs at most the index that was on its way.
    assert max(told) < len(told) + 8


def test_a_write_that_fails_gives_no_index(book, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", full)
        refused("E-DISK-FULL", book.next_index, bytes(32))
    assert book.next_index(bytes(32)) == 0
    assert sorted(os.listdir(book.directory)) == sorted([record().root.hex() + ".grant", "lock"])


def test_an_index_is_on_the_disk_before_it_is_told(book, monkeypatch):
    done = []
    real_rename, real_fsync = os.rename, os.fsync
    monkeypatch.setattr(os, "rename", lambda *a: (done.append("rename"), real_rename(*a))[1])
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: (done.append("directory" if os.path.isdir(f"/proc/self/fd/{handle}") else "file"), real_fsync(handle))[1],
    )
    book.next_index(bytes(32))
    assert done == ["file", "rename", "directory"]


def test_leftovers_of_a_killed_process_are_cleared_away(book):
    leftover = book.directory / f".{'0' * 64}.grant.{'a' * 16}"
    leftover.write_bytes(b"torn")
    foreign = book.directory / ".keep"
    foreign.touch()
    GrantBook(book.directory)
    assert not leftover.exists()
    assert foreign.exists()


@pytest.mark.parametrize("damage", [b"", b"\x90", b"\xff" * 100, encode(record(9))])
def test_a_damaged_record_is_named(book, damage):
    path = book.directory / (record().root.hex() + ".grant")
    path.write_bytes(damage)
    assert path.name in refused("E-DATA-CORRUPT", book.next_index, bytes(32))


def test_foreign_files_are_left_alone(book):
    (book.directory / "notes.grant").write_text("mine")
    (book.directory / "README").write_text("mine")
    assert [each.root for each in book.records()] == [record().root]


def test_the_directory_is_bounded_and_ended_grants_make_room(tmp_path):
    book = GrantBook(tmp_path)
    for number in range(GRANTS_MAX):
        (tmp_path / (record(number).root.hex() + ".grant")).write_bytes(encode(record(number)))
    assert "forget" in refused("E-FILE", book.add, record(GRANTS_MAX))
    book.forget(record(3).root)
    book.forget(record(3).root)
    book.add(record(GRANTS_MAX))


def test_ended_grants_are_forgotten_when_they_have_become_many(tmp_path):
    book = GrantBook(tmp_path)
    for number in range(FORGET_ABOVE):
        of_epoch = msgspec.structs.replace(granted(record(number), number), epoch=number % 4)
        (tmp_path / (record(number).root.hex() + ".grant")).write_bytes(encode(record(number, grant=of_epoch)))
    book.forget_ended(2)
    assert len(book.records()) == FORGET_ABOVE
    book.add(record(FORGET_ABOVE))
    book.forget_ended(2)
    kept = book.records()
    assert len(kept) == FORGET_ABOVE // 2 + 1
    assert {each.grant.epoch for each in kept if each.grant} == {2, 3}
    assert [each.root for each in kept if each.grant is None] == [record(FORGET_ABOVE).root]


def test_a_forgotten_grant_is_unknown(book):
    book.forget(record().root)
    refused("E-GRANT-UNKNOWN", book.next_index, bytes(32))


def test_a_directory_that_is_gone(book):
    missing = book.directory / "missing"
    refused("E-FILE", GrantBook, missing)


class TestFiles:
    def test_a_full_disk_has_its_own_code(self, tmp_path, monkeypatch):
        def full(*_arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        refused("E-DISK-FULL", files.replace, tmp_path / "f", b"data")
        refused("E-DISK-FULL", files.create, tmp_path / "f", b"data")
        assert os.listdir(tmp_path) == []

    def test_the_old_file_stays_until_the_new_one_is_whole(self, tmp_path, monkeypatch):
        files.replace(tmp_path / "f", b"old")
        monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
        refused("E-FILE", files.replace, tmp_path / "f", b"new")
        assert (tmp_path / "f").read_bytes() == b"old"

    def test_a_file_is_never_created_over_another(self, tmp_path):
        files.create(tmp_path / "f", b"old")
        with pytest.raises(FileExistsError):
            files.create(tmp_path / "f", b"new")
        assert (tmp_path / "f").read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["f"]

    def test_a_lock_is_exclusive(self, tmp_path):
        order = []

        def second():
            with files.locked(tmp_path / "lock"):
                order.append("second")

        with files.locked(tmp_path / "lock"):
            waiting = threading.Thread(target=second)
            waiting.start()
            order.append("first")
        waiting.join()
        assert order == ["first", "second"]
