"""Pieces on the disk: what is there is what checks, room is bounded, and nothing of ours is left behind."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from qnode.store import pieces
from qnode.store.pieces import FileObject, PieceStore
from qustream.errors import QuStreamError
from qustream.wire.bulk import PIECE_BYTES, Manifest, manifest_of, object_id

DATA = [bytes([i]) * PIECE_BYTES for i in range(1, 4)] + [b"the end"]


def made(data: list[bytes]) -> tuple[bytes, Manifest]:
    manifest = manifest_of(sum(map(len, data)), [hashlib.sha256(piece).digest() for piece in data])
    return object_id(manifest), manifest


NAME, MANIFEST = made(DATA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bulk"


def store(folder: Path, room_bytes: int = 1 << 24) -> PieceStore:
    return PieceStore(folder, room_bytes=room_bytes)


def test_pieces_in_any_order_make_an_object(folder: Path) -> None:
    it = store(folder)
    assert it.manifest(NAME) is None
    assert it.begin(NAME, MANIFEST) == frozenset()
    for index in (3, 0, 2, 1):
        it.write(NAME, index, DATA[index])
    path = it.finish(NAME)
    assert path.read_bytes() == b"".join(DATA)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == [path]
    assert it.used_bytes() == MANIFEST.size


def test_a_restart_finds_what_checks_and_nothing_else(folder: Path) -> None:
    it = store(folder)
    it.begin(NAME, MANIFEST)
    it.write(NAME, 0, DATA[0])
    it.write(NAME, 2, DATA[2][:-1] + b"?")
    it.write(NAME, 3, DATA[3])
    it.leave(NAME)
    again = store(folder)
    assert again.manifest(NAME) == MANIFEST
    assert again.begin(NAME, MANIFEST) == {0, 3}


@pytest.mark.parametrize("size", [0, 10, PIECE_BYTES + 1, 100 * PIECE_BYTES])
def test_a_part_of_the_wrong_length_is_put_right(folder: Path, size: int) -> None:
    folder.mkdir()
    part = folder / f"{NAME.hex()}.part"
    part.write_bytes(b"".join(DATA).ljust(size, b"x")[:size])
    it = store(folder)
    here = it.begin(NAME, MANIFEST)
    assert here == {index for index in range(4) if size >= min((index + 1) * PIECE_BYTES, MANIFEST.size)}
    assert part.stat().st_size == MANIFEST.size


def test_a_damaged_manifest_is_none(folder: Path) -> None:
    it = store(folder)
    it.begin(NAME, MANIFEST)
    path = folder / f"{NAME.hex()}.manifest"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert it.manifest(NAME) is None


def test_what_the_disk_lost_is_found_before_it_is_an_object(folder: Path) -> None:
    it = store(folder)
    it.begin(NAME, MANIFEST)
    for index in (0, 1, 3):
        it.write(NAME, index, DATA[index])
    with pytest.raises(QuStreamError, match="E-DATA-CORRUPT"):
        it.finish(NAME)
    assert it.begin(NAME, MANIFEST) == {0, 1, 3}


def test_a_link_in_its_place_is_not_followed(folder: Path, tmp_path: Path) -> None:
    it = store(folder)
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    (folder / f"{NAME.hex()}.part").symlink_to(target)
    with pytest.raises(QuStreamError, match="E-FILE"):
        it.begin(NAME, MANIFEST)
    assert target.read_bytes() == b"precious"


def test_room_is_made_by_the_oldest_that_nobody_fetches(folder: Path) -> None:
    it = store(folder, room_bytes=2 * PIECE_BYTES)
    one, two, three = (made([bytes([i]) * PIECE_BYTES]) for i in (10, 11, 12))
    for at, (name, manifest) in enumerate((one, two)):
        it.begin(name, manifest)
        it.leave(name)
        os.utime(folder / f"{name.hex()}.part", (at, at))
    it.begin(*three)
    assert {path.name[:64] for path in folder.iterdir()} == {two[0].hex(), three[0].hex()}
    it.begin(*two)
    with pytest.raises(QuStreamError, match="E-DISK-FULL"):
        it.begin(*one)
    with pytest.raises(QuStreamError, match="E-DISK-FULL"):
        store(folder, room_bytes=100).begin(NAME, MANIFEST)


def test_a_disk_that_is_nearly_full_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "SPARE_BYTES", 1 << 60)
    with pytest.raises(QuStreamError, match="E-DISK-FULL"):
        store(folder).begin(NAME, MANIFEST)


def test_what_others_have_still_to_write_is_not_free(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = store(folder)
    name, manifest = made([b"another"])
    state = os.statvfs(folder)
    monkeypatch.setattr(pieces.os, "statvfs", lambda _: state)
    free = state.f_bavail * state.f_frsize
    monkeypatch.setattr(pieces, "SPARE_BYTES", free - MANIFEST.size)  # for one, and for nobody beside it
    it.begin(NAME, MANIFEST)
    with pytest.raises(QuStreamError, match="E-DISK-FULL"):
        it.begin(name, manifest)
    for index, data in enumerate(DATA):
        it.write(NAME, index, data)
    os.fsync(it._open[NAME][0])  # blocks are counted when they are given out
    it.begin(name, manifest)


def test_what_is_coming_is_not_cleaned_away(folder: Path) -> None:
    it = store(folder)
    it.begin(NAME, MANIFEST)
    (folder / f".{NAME.hex()}.manifest.0123456789abcdef").write_bytes(b"being written")
    it.clean(keep=frozenset())
    assert len(list(folder.iterdir())) == 3
    it.leave(NAME)
    it.clean(keep=frozenset())
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_listed_is_a_coded_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = store(folder)

    def no_descriptor(_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pieces.Path, "iterdir", no_descriptor)
    for work in (it.clean, lambda: it.begin(NAME, MANIFEST), lambda: store(folder)):
        with pytest.raises(QuStreamError, match="E-FILE"):
            work()
    monkeypatch.undo()
    assert it.begin(NAME, MANIFEST) == frozenset()  # and nothing is left of the attempt


def test_cleaning_takes_what_was_half_written_and_on_demand_the_rest(folder: Path) -> None:
    it = store(folder)
    it.begin(NAME, MANIFEST)
    it.leave(NAME)
    half = folder / f".{NAME.hex()}.manifest.0123456789abcdef"
    half.write_bytes(b"x")
    (folder / "of the operator").write_bytes(b"x")
    store(folder)
    assert not half.exists()
    assert it.manifest(NAME) == MANIFEST
    it.clean(keep=frozenset({NAME}))
    assert it.manifest(NAME) == MANIFEST
    it.clean(keep=frozenset())
    assert [path.name for path in folder.iterdir()] == ["of the operator"]


def test_dropping_takes_all_of_it(folder: Path) -> None:
    it = store(folder)
    it.begin(NAME, MANIFEST)
    it.drop(NAME)
    it.drop(NAME)
    assert list(folder.iterdir()) == []


def test_a_served_file_is_what_it_was_when_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"".join(DATA))
    thing = FileObject.open(path)
    assert (thing.id, thing.manifest) == (NAME, MANIFEST)
    assert thing.digest == hashlib.sha256(b"".join(DATA)).digest()
    newer = tmp_path / "newer"
    newer.write_bytes(b"other bytes")
    newer.rename(path)
    assert thing.read(0, 4) == DATA
    assert thing.read(2, 2) == DATA[2:]


def test_changed_in_place_it_is_served_no_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"".join(DATA))
    thing = FileObject.open(path)
    with path.open("r+b") as file:
        file.write(b"?")
    assert thing.read(1, 3) == DATA[1:]
    with pytest.raises(QuStreamError, match="E-NOT-HELD"):
        thing.read(0, 1)


@pytest.mark.parametrize("content", [b"", b"x" * 11], ids=["empty", "too long"])
def test_what_is_no_object_is_not_served(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(QuStreamError, match="E-FILE"):
        FileObject.open(path, most_bytes=10)
    with pytest.raises(QuStreamError, match="E-FILE"):
        FileObject.open(tmp_path / "none")
