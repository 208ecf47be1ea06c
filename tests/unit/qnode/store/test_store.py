"""The store on a real disk: what was promised is there after a restart, what is damaged is named and harms nothing else."""

import os
import resource
import time
from contextlib import contextmanager, suppress

import lmdb
import pytest

from qnode.core.delivery import Acknowledged, Ask, Erase, GiveErasure, HandOut, Persist, Refuse, Revoked
from qnode.core.delivery_alerts import ALERT_KEEP_MS, AlertNote
from qnode.store import Store, index_key
from qnode.store.slots import EMPTY, SLOT_BYTES
from qustream.errors import QuStreamError, Unavailable
from qustream.model.base import Signed

KEY = bytes(range(32))
ALICE, BOB, PHONE, GRANT = (letter * 32 for letter in (b"a", b"b", b"p", b"g"))
NOW, HOUR = 1_800_000_000_000, 3_600_000
ASK = Ask(b"d" * 32, ALICE, PHONE, (BOB,), HOUR, NOW + 100 * HOUR)
STATEMENT = Signed(b"erased", bytes(3373))
ANSWER = os.urandom(270_000)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def at(index):
    return index_key(GRANT, index)


def opened(folder, **settings):
    return Store.open(folder, KEY, **{"room_blocks": 8, "marks_max": 1000, **settings})


def put(store, index, answer=ANSWER, ask=ASK, now_ms=NOW):
    sealed = store.seal_answer(at(index), answer)
    return store.store_answer(at(index), ask, sealed, issued_ms=now_ms, now_ms=now_ms).result()


def code_of(call, *arguments, **named):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments, **named)
    return caught.value.code


# -- what is promised ----------------------------------------------------------------------------------------------------


def test_an_answer_is_there_after_a_restart_byte_for_byte(folder):
    with opened(folder) as store:
        effects = put(store, 0)
        assert isinstance(effects[0], Persist)
        assert effects[1] == HandOut()
        assert store.answer(at(0)) == ANSWER
    with opened(folder) as store:
        assert store.answer(at(0)) == ANSWER
        assert store.mark(at(0)).digest == ASK.digest
        assert store.mark(at(1)) is None
        assert (store.held_blocks, store.marks) == (1, 1)


def test_the_second_answer_for_an_index_is_not_stored(folder):
    with opened(folder) as store:
        put(store, 0)
        assert put(store, 0, b"second") == [HandOut()]
        other = Ask(b"D" * 32, ALICE, PHONE, (BOB,), HOUR, NOW + HOUR)
        [refusal] = put(store, 0, b"third", other)
        assert isinstance(refusal, Refuse)
        assert store.answer(at(0)) == ANSWER
        assert store.held_blocks == 1


def test_many_at_once_share_commits_and_exactly_one_wins_each_index(folder):
    with opened(folder, room_blocks=64) as store:
        before = store._tables.env.info()["last_txnid"]
        asks = [Ask(bytes([n]) * 32, ALICE, PHONE, (BOB,), HOUR, NOW + HOUR) for n in range(5)]
        sealed = store.seal_answer(at(0), b"x" * 1000)
        futures = [
            store.store_answer(at(index), ask, store.seal_answer(at(index), bytes([n])), issued_ms=NOW, now_ms=NOW)
            for index in range(12)
            for n, ask in enumerate(asks)
        ]
        assert sealed.slot_key != EMPTY
        outcomes = [future.result() for future in futures]
        assert store._tables.env.info()["last_txnid"] - before < len(futures) / 2
        for index in range(12):
            mine = outcomes[index * 5 : index * 5 + 5]
            winners = [n for n, effects in enumerate(mine) if isinstance(effects[0], Persist)]
            assert len(winners) == 1
            assert store.answer(at(index)) == bytes(winners)
        assert (store.held_blocks, store.marks) == (12, 12)


def test_an_erased_block_is_gone_from_disk_and_stays_spent(folder):
    with opened(folder) as store:
        put(store, 0)
        slot = store.mark(at(0)).slot
        key = store._slots.read(slot)
        effects = store.step(at(0), Revoked(ALICE, STATEMENT, NOW + 1), NOW + 1).result()
        assert isinstance(effects[0], Erase)
        assert effects[1] == GiveErasure(STATEMENT)
        assert code_of(store.answer, at(0)) == "E-NOT-HELD"
    assert key not in (folder / "slots").read_bytes()
    with opened(folder) as store:
        assert code_of(store.answer, at(0)) == "E-NOT-HELD"
        assert store.mark(at(0)).erasure == STATEMENT
        assert (store.held_blocks, store.marks) == (0, 1)


def test_a_block_made_and_erased_in_one_batch_frees_its_slot_once(folder):
    with opened(folder, room_blocks=2) as store:
        for round_number in range(6):
            index = at(round_number)
            sealed = store.seal_answer(index, b"short")
            made = store.store_answer(index, ASK, sealed, issued_ms=NOW, now_ms=NOW)
            gone = store.step(index, Revoked(ALICE, STATEMENT, NOW), NOW)
            assert isinstance(made.result()[0], Persist)
            assert isinstance(gone.result()[0], Erase)
        for index in (10, 11):
            put(store, index)
        assert [store.answer(at(index)) for index in (10, 11)] == [ANSWER, ANSWER]
        assert isinstance(put(store, 12)[0], Refuse)


def test_a_sweep_erases_what_is_over_and_forgets_what_may_go(folder):
    with opened(folder) as store:
        for index in range(3):
            put(store, index)
        assert store.sweep(NOW + HOUR - 1).result() == 0
        assert store.sweep(NOW + HOUR).result() == 3
        assert (store.held_blocks, store.erased, store.marks) == (0, 3, 3)
        assert store.sweep(NOW + HOUR).result() == 0
        assert store.sweep(NOW + 102 * HOUR).result() == 3
        assert store.marks == 0
        with store._tables.env.begin() as txn:
            assert all(txn.stat(db=table)["entries"] == 0 for table in (store._tables.marks, store._tables.answers, store._tables.due))


def test_room_and_marks_are_bounded(folder):
    with opened(folder, room_blocks=2, marks_max=3) as store:
        put(store, 0)
        put(store, 1)
        assert store.refusal().code == "E-NODE-FULL"
        assert put(store, 2)[0].code == "E-NODE-FULL"
        assert store.mark(at(2)) is None
        store.sweep(NOW + HOUR).result()
        put(store, 2)
        assert store.refusal().code == "E-NODE-FULL"
        assert put(store, 3)[0].code == "E-NODE-FULL"


def test_a_smaller_room_keeps_what_is_held_and_takes_nothing_until_it_fits(folder):
    with opened(folder, room_blocks=6) as store:
        for index in range(6):
            put(store, index)
    with opened(folder, room_blocks=2) as store:
        assert [store.answer(at(index)) for index in range(6)] == [ANSWER] * 6
        assert store.refusal().code == "E-NODE-FULL"
        store.sweep(NOW + HOUR).result()
        put(store, 10)
        put(store, 11)
        assert store.refusal().code == "E-NODE-FULL"
    with opened(folder, room_blocks=6) as store:
        assert store.refusal() is None


def test_pages_are_used_again_the_file_does_not_grow_for_ever(folder):
    sizes = []
    with opened(folder, room_blocks=4) as store:
        for round_number in range(40):
            for index in range(4):
                put(store, 4 * round_number + index, now_ms=NOW + round_number * HOUR)
            store.sweep(NOW + (round_number + 1) * HOUR).result()
            sizes.append(store._tables.env.info()["last_pgno"] * 4096)
    marks = 4 * (40 - 16)
    assert sizes[-1] - sizes[15] <= marks * 1024 + len(ANSWER)
    assert sizes[-1] < 2 * 4 * len(ANSWER)


# -- alerts --------------------------------------------------------------------------------------------------------------


def test_alerts_are_kept_for_their_user_and_go_with_time(folder):
    with opened(folder) as store:
        store.note(AlertNote(ALICE, "E-DEVICE-UNKNOWN", PHONE, NOW)).result()
        store.note(AlertNote(ALICE, "E-DEVICE-UNKNOWN", PHONE, NOW + 5, 2)).result()
        store.note(AlertNote(BOB, "E-DEVICE-REVOKED", PHONE, NOW + HOUR)).result()
    with opened(folder) as store:
        [alert] = store.alerts(ALICE)
        assert (alert.device, alert.at_ms, alert.times) == (PHONE, NOW + 5, 3)
        store.sweep(NOW + 5 + ALERT_KEEP_MS).result()
        assert store.alerts(ALICE) == ()
        assert len(store.alerts(BOB)) == 1


def test_every_users_old_alerts_go_however_many_users_there_are(folder):
    users = [bytes([n]) * 32 for n in range(50)]
    with opened(folder) as store:
        for future in [store.note(AlertNote(user, "E-DEVICE-UNKNOWN", PHONE, NOW)) for user in users]:
            future.result()
        for _ in range(4):
            store.sweep(NOW + ALERT_KEEP_MS).result()
        with store._tables.env.begin() as txn:
            assert txn.stat(db=store._tables.alerts)["entries"] == 0


# -- opening -------------------------------------------------------------------------------------------------------------


def test_one_directory_one_process(folder):
    with opened(folder):
        assert code_of(opened, folder) == "E-DATA-LOCKED"
    opened(folder).close()


def test_another_nodes_key_opens_nothing_and_changes_nothing(folder):
    with opened(folder) as store:
        put(store, 0)
    assert code_of(Store.open, folder, bytes(32)) == "E-KEYSTORE-OPEN"
    with opened(folder) as store:
        assert store.answer(at(0)) == ANSWER


def test_files_are_for_their_owner_alone(folder):
    opened(folder).close()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == dict.fromkeys(
        ("lock", "data.mdb", "lock.mdb", "slots"), "0o600"
    )


@pytest.mark.parametrize("damage", ["missing", "another's", "empty"])
def test_without_its_slots_a_database_is_a_backup_and_says_so(folder, tmp_path, damage):
    with opened(folder) as store:
        put(store, 0)
    if damage == "missing":
        (folder / "slots").unlink()
    elif damage == "another's":
        opened(tmp_path / "other").close()
        (folder / "slots").write_bytes((tmp_path / "other" / "slots").read_bytes())
    else:
        (folder / "slots").write_bytes(b"")
    assert code_of(opened, folder) == "E-DATA-CORRUPT"
    with opened(folder, restored_in_epoch=7) as store:
        assert store.floor_epoch == 8
        assert code_of(store.answer, at(0)) == "E-NOT-HELD"
        store.sweep(NOW + 1).result()
        assert (store.mark(at(0)).why, store.mark(at(0)).erased_ms) == ("lost", NOW + 1)
    with opened(folder) as store:
        assert (store.floor_epoch, store.held_blocks, store.marks) == (8, 0, 1)


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_a_database_that_is_none_is_named(folder, content):
    with opened(folder) as store:
        put(store, 0)
    (folder / "data.mdb").write_bytes(content)
    if content:
        assert code_of(opened, folder) == "E-DATA-CORRUPT"
    else:  # LMDB takes an empty file for a new one; then the slots are another's, and are made anew
        opened(folder).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    assert code_of(opened, tmp_path / "file") == "E-FILE"


# -- what a crash leaves (spec §5, the table) ----------------------------------------------------------------------------


def test_a_key_without_a_mark_is_wiped_at_opening(folder):
    with opened(folder) as store:
        put(store, 0)
        mine = store.mark(at(0)).slot
        orphan = next(slot for slot in range(8) if slot != mine)
        store._slots.write({orphan: b"o" * SLOT_BYTES})
    with opened(folder) as store:
        assert store._slots.used() == {mine}
        assert store.held_blocks == 1
        assert store.answer(at(0)) == ANSWER


def test_an_erasure_that_was_not_recorded_is_completed(folder):
    with opened(folder) as store:
        put(store, 0)
        store._slots.write({store.mark(at(0)).slot: EMPTY})
        assert code_of(store.answer, at(0)) == "E-NOT-HELD"
    with opened(folder) as store:
        assert code_of(store.answer, at(0)) == "E-NOT-HELD"
        store.sweep(NOW + 5).result()
        assert (store.mark(at(0)).why, store.mark(at(0)).erased_ms, store.held_blocks) == ("lost", NOW + 5, 0)
        store.sweep(NOW + 6).result()
        with store._tables.env.begin() as txn:
            assert txn.stat(db=store._tables.due)["entries"] == 1


def test_a_due_time_that_was_lost_is_found_again(folder):
    with opened(folder) as store:
        put(store, 0)
        with store._tables.env.begin(write=True) as txn:
            txn.drop(store._tables.due, delete=False)
    with opened(folder) as store:
        assert store.sweep(NOW + HOUR).result() == 1
        assert store.held_blocks == 0


# -- storage that fails --------------------------------------------------------------------------------------------------


def flip(store, table, index):
    """Change one bit of a stored value under the store's feet."""
    with store._tables.env.begin(write=True) as txn:
        value = bytearray(txn.get(at(index), db=table))
        value[len(value) // 2] ^= 1
        txn.put(at(index), bytes(value), db=table)


def test_a_flipped_bit_in_a_block_harms_that_block_alone(folder):
    with opened(folder) as store:
        put(store, 0)
        put(store, 1)
        flip(store, store._tables.answers, 0)
        assert code_of(store.answer, at(0)) == "E-DATA-CORRUPT"
        assert store.answer(at(1)) == ANSWER
        assert store.corrupt == 1
        assert isinstance(store.step(at(0), Revoked(ALICE, STATEMENT, NOW), NOW).result()[0], Erase)


def test_a_flipped_bit_in_a_mark_leaves_the_index_spent(folder):
    with opened(folder) as store:
        put(store, 0)
        put(store, 1)
        flip(store, store._tables.marks, 0)
        assert code_of(store.mark, at(0)) == "E-DATA-CORRUPT"
        assert code_of(put, store, 0) == "E-DATA-CORRUPT"
        assert code_of(store.step(at(0), Acknowledged(BOB, PHONE, True), NOW).result) == "E-DATA-CORRUPT"
        assert store.sweep(NOW + HOUR).result() == 2
        assert store.mark(at(1)).why == "expired"
        assert store.corrupt == 4
    with opened(folder) as store:
        assert code_of(put, store, 0) == "E-DATA-CORRUPT"
        assert store._slots.used() == set()
        assert store.held_blocks == 0


def test_a_flipped_bit_in_a_slot_harms_its_block_alone(folder):
    with opened(folder) as store:
        put(store, 0)
        put(store, 1)
        slot = store.mark(at(0)).slot
        store._slots.write({slot: bytes([store._slots.read(slot)[0] ^ 1]) + store._slots.read(slot)[1:]})
        assert code_of(store.answer, at(0)) == "E-DATA-CORRUPT"
        assert store.answer(at(1)) == ANSWER


@contextmanager
def file_size_limited(bytes_):
    """No file grows beyond this: the kernel refuses (EFBIG), as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_spends_nothing_erasing_goes_on_and_the_store_recovers(folder):
    with opened(folder) as store:
        put(store, 0)
        put(store, 1)
        with file_size_limited((folder / "data.mdb").stat().st_size):
            assert code_of(put, store, 2, os.urandom(300_000)) == "E-NODE-READONLY"
            assert store.refusal().code == "E-NODE-READONLY"
            assert str(folder) in store.trouble.detail
            assert str(folder) not in store.refusal().detail
            assert store.answer(at(0)) == ANSWER
            # Not even an erasure can be recorded here. The key is gone all the same; nobody gets a receipt.
            assert code_of(store.step(at(0), Revoked(ALICE, STATEMENT, NOW), NOW).result) == "E-NODE-READONLY"
            assert code_of(store.answer, at(0)) == "E-NOT-HELD"
            time.sleep(1.1)  # a trial is due, and fails
            store.sweep(NOW).result()
            assert store.trouble is not None
        until = time.monotonic() + 60
        while store.trouble is not None and time.monotonic() < until:
            store.sweep(NOW).result()
            time.sleep(0.1)
        assert store.mark(at(2)) is None
        put(store, 2)
        assert store.answer(at(2)) == ANSWER
        assert isinstance(store.step(at(0), Revoked(ALICE, STATEMENT, NOW), NOW).result()[0], Erase)
    with opened(folder) as store:
        assert store.answer(at(1)) == store.answer(at(2)) == ANSWER
        assert store.held_blocks == 2


def test_a_full_map_is_a_full_disk(folder):
    with opened(folder, room_blocks=8) as store:
        store._tables.env.set_mapsize(2 << 20)
        stored = 0
        while store.trouble is None:
            with suppress(Unavailable):
                put(store, stored)
                stored += 1
        assert 1 < stored < 8
        assert store.trouble.code == "E-DISK-FULL"
        assert [store.answer(at(index)) for index in range(stored)] == [ANSWER] * stored
        assert isinstance(store.step(at(0), Revoked(ALICE, STATEMENT, NOW), NOW).result()[0], Erase)


def test_too_little_free_space_keeps_the_rest_for_erasures(folder):
    with opened(folder) as store:
        put(store, 0)
    with opened(folder, reserve_bytes=1 << 60) as store:
        assert code_of(put, store, 1) == "E-NODE-READONLY"
        assert store.trouble.code == "E-DISK-FULL"
        assert code_of(store.note(AlertNote(ALICE, "E-DEVICE-UNKNOWN", PHONE, NOW)).result) == "E-NODE-READONLY"
        assert isinstance(store.step(at(0), Revoked(ALICE, STATEMENT, NOW), NOW).result()[0], Erase)


def test_when_a_sync_fails_nothing_is_believed_until_a_restart(folder):
    with opened(folder) as store:
        put(store, 0)
        handle = store._slots._handle
        store._slots._handle = os.open(folder / "slots", os.O_RDONLY)  # writing is refused, as by a device that went read-only
        assert code_of(put, store, 1) == "E-NODE-READONLY"
        os.close(store._slots._handle)
        store._slots._handle = handle
        time.sleep(1.1)  # no trial helps
        assert code_of(put, store, 1) == "E-NODE-READONLY"
        assert code_of(store.sweep(NOW).result) == "E-NODE-READONLY"
        assert "restart" in store.trouble.detail
        assert store.answer(at(0)) == ANSWER
    with opened(folder) as store:
        assert store.answer(at(0)) == ANSWER
        put(store, 1)


def test_after_closing_nothing_is_taken(folder):
    store = opened(folder)
    store.close()
    store.close()
    assert code_of(store.sweep, NOW) == "E-NODE-READONLY"


def test_what_was_handed_in_before_closing_is_stored(folder):
    store = opened(folder)
    futures = [store.store_answer(at(n), ASK, store.seal_answer(at(n), ANSWER), issued_ms=NOW, now_ms=NOW) for n in range(5)]
    store.close()
    assert all(isinstance(future.result()[0], Persist) for future in futures)
    with opened(folder) as store:
        assert store.held_blocks == 5


def test_lmdb_is_what_it_was_tested_with():
    assert lmdb.version() >= (0, 9, 29)
