"""What is remembered of peers: there after a restart, and never a reason not to start."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from qnode.store.peers import PeerStore
from qustream.errors import QuStreamError
from qustream.model.base import Signed


def signed(text: str, size: int = 200) -> Signed:
    return Signed(text.encode().ljust(size, b"."), bytes(3373))


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "peers"


@pytest.fixture
def filled(path: Path) -> Path:
    with PeerStore.open(path) as store:
        store.keep_records({name(number): signed(f"record {number}", 1_000) for number in range(50)})
        store.keep_anchors((name(1), name(2)))
        store.keep_issued_ms(1234)
    return path


def test_a_new_store_is_empty_and_private(path: Path) -> None:
    with PeerStore.open(path) as store:
        assert (store.records(), store.anchors(), store.issued_ms(), store.lost) == ([], (), 0, "")
    assert path.stat().st_mode & 0o777 == 0o700
    assert all(each.stat().st_mode & 0o077 == 0 for each in path.iterdir())
    assert sorted(each.name for each in path.iterdir()) == ["data.mdb", "lock.mdb"]


def test_what_is_kept_is_there_after_a_restart(filled: Path) -> None:
    with PeerStore.open(filled) as store:
        assert store.lost == ""
        assert [node for node, _ in store.records()] == [name(number) for number in range(50)]
        assert store.records_of([name(7), name(99)]) == {name(7): signed("record 7", 1_000)}
        assert (store.anchors(), store.issued_ms()) == ((name(1), name(2)), 1234)


def test_newer_takes_the_place_of_older_and_who_is_not_known_is_forgotten(filled: Path) -> None:
    with PeerStore.open(filled) as store:
        store.keep_records({name(7): signed("newer")})
        store.keep_anchors(())
        store.forget_others({name(7), name(8)})
        assert dict(store.records()) == {name(7): signed("newer"), name(8): signed("record 8", 1_000)}
        assert store.anchors() == ()
        store.close()
        store.close()


def overwrite(offset: int, data: bytes) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        with open(directory / "data.mdb", "r+b") as file:
            file.seek(offset)
            file.write(data)

    return damage


def flip(directory: Path) -> None:
    """One bit of a record's body."""
    data = bytearray((directory / "data.mdb").read_bytes())
    data[data.rindex(b"record 33") + 3] ^= 1
    (directory / "data.mdb").write_bytes(data)


def another_version(directory: Path) -> None:
    with lmdb.open(str(directory), max_dbs=4) as env, env.begin(write=True, db=env.open_db(b"meta")) as txn:
        txn.delete(b"format")


@pytest.mark.parametrize("damage", [
    overwrite(0, bytes(8192)), overwrite(0, os.urandom(8192)), flip, another_version,
    lambda directory: os.truncate(directory / "data.mdb", 0),
    lambda directory: os.truncate(directory / "data.mdb", 100),
    lambda directory: os.truncate(directory / "data.mdb", 16 * 4096),
    lambda directory: (directory / "opening").touch(),
], ids=["zeros", "noise", "flip", "version", "empty", "stump", "short", "died"])  # fmt: skip
def test_a_damaged_file_is_set_aside_and_said_so(filled: Path, damage: Callable[[Path], None]) -> None:
    damage(filled)
    with PeerStore.open(filled) as store:
        assert store.lost
        assert (store.records(), store.anchors(), store.issued_ms()) == ([], (), 0)
        store.keep_records({name(1): signed("again")})
    assert (filled / "data.mdb.damaged").exists()
    with PeerStore.open(filled) as store:
        assert (store.lost, len(store.records())) == ("", 1)


def test_where_no_file_can_be_the_reason_is_coded(tmp_path: Path) -> None:
    (tmp_path / "peers").write_text("in the way")
    with pytest.raises(QuStreamError) as caught:
        PeerStore.open(tmp_path / "peers")
    assert caught.value.code == "E-FILE"


def test_a_full_map_is_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qnode.store.peers.MAP_BYTES", 256 * 1024)
    with PeerStore.open(path) as store:
        with pytest.raises(QuStreamError) as caught:
            store.keep_records({name(number): signed("large", 4_000) for number in range(100)})
        assert caught.value.code == "E-DISK-FULL"
        assert store.records() == []
        store.keep_issued_ms(5)
        assert store.issued_ms() == 5


def test_damage_that_shows_later_is_coded(filled: Path) -> None:
    with PeerStore.open(filled) as store:
        with store._env.begin(write=True, db=store._records) as txn:
            txn.put(name(3), b"something else")
        with pytest.raises(QuStreamError) as caught:
            store.records_of([name(3)])
        assert caught.value.code == "E-DATA-CORRUPT"
