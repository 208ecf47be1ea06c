"""The leaf log on a real disk: what is there after every way of stopping."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
from support.leaf_logs import CHAIN, Writer

from qrngd.leaflog import log as module
from qrngd.leaflog.log import LeafLog, SegmentInfo
from qustream.errors import QuStreamError, fault
from qustream.leaflog.audit import AuditedLog, audit
from qustream.leaflog.segment import SEGMENT_MAX_BYTES, read_segment, segment_name
from qustream.leaflog.source import DirectorySource

WRITER = Writer()


def opened(folder: Path, **options: int) -> LeafLog:
    return LeafLog(folder, CHAIN, WRITER.key.id, **options)


def filled(folder: Path, numbers: range, **options: int) -> None:
    with opened(folder, **options) as log:
        for number in numbers:
            log.append(*WRITER.batch(number))


def audited(folder: Path) -> AuditedLog:
    (log,) = audit([DirectorySource(folder)], chain=CHAIN, server_of={WRITER.key.id: WRITER.record}.get)
    return log


def refusal(folder: Path) -> str:
    with pytest.raises(QuStreamError) as caught:
        opened(folder).open()
    assert caught.value.code == "E-DATA-CORRUPT"
    return caught.value.detail


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches of one unit a segment."""
    monkeypatch.setattr(module, "SEGMENT_MAX_BYTES", 12_000)


def test_what_is_appended_is_there_for_readers_and_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path / "leaves") as log:
        assert (log.last_batch, log.index()[0].number, log.index()[0].is_open) == (-1, 0, True)
        for number in (3, 4, 7):
            log.append(*WRITER.batch(number))
            data = log.read(0)
            assert data == (tmp_path / "leaves" / segment_name(0)).read_bytes()
        assert len(read_segment(data or b"").entries) == 3
    with opened(tmp_path / "leaves") as log:
        assert (log.last_batch, log.cut_bytes) == (7, 0)
        log.append(*WRITER.batch(8))
    assert (audited(tmp_path / "leaves").entries, audited(tmp_path / "leaves").last_batch) == (4, 8)


def test_segments_follow_each_other_and_never_change(tmp_path: Path, small_segments: None) -> None:
    with opened(tmp_path) as log:
        seen: dict[int, bytes] = {}
        for number in range(20):
            log.append(*WRITER.batch(number))
            for info in log.index():
                data = log.read(info.number)
                assert data is not None
                assert len(data) == info.size_bytes <= 12_000
                assert data.startswith(seen.get(info.number, b"")), "only ever more"
                if info.number in seen and not info.is_open:
                    assert data == seen[info.number] or info.number == log.index()[-2].number
                seen[info.number] = data
    assert len(seen) == 7
    assert audited(tmp_path).entries == 20
    # A restart in an old segment and at the brink of a new one.
    filled(tmp_path, range(20, 25))
    assert (audited(tmp_path).entries, audited(tmp_path).last_batch) == (25, 24)


def test_a_real_segment_is_filled_to_its_maximum(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        for number in range(4):
            names = [f"{number} {place}" for place in range(4096)]
            log.append(*WRITER.batch(number, WRITER.units(*names)))
        assert [info.number for info in log.index()] == [0, 1]
        assert SEGMENT_MAX_BYTES - 310_000 < log.index()[0].size_bytes <= SEGMENT_MAX_BYTES
    assert audited(tmp_path).leaves == 4 * 4096


def test_a_torn_end_is_cut_off_wherever_it_is_torn(tmp_path: Path) -> None:
    filled(tmp_path, range(2))
    file = tmp_path / segment_name(0)
    whole, torn = file.read_bytes(), WRITER.entry(2)
    for length in (1, 3, 4, 30, 36, 1000, len(torn) - 1):
        for end in (torn[:length], torn[:length] + bytes(len(torn) - length)):
            file.write_bytes(whole + end)
            with opened(tmp_path) as log:
                assert (log.cut_bytes, log.last_batch) == (len(end), 1)
                assert log.read(0) == whole
            assert file.read_bytes() == whole
    filled(tmp_path, range(2, 4))
    assert audited(tmp_path).entries == 4


def test_damage_stops_the_server(tmp_path: Path, small_segments: None) -> None:
    filled(tmp_path, range(8))
    oldest, before, newest = (tmp_path / segment_name(number) for number in range(3))
    kept = {file: file.read_bytes() for file in (oldest, before, newest)}

    def restored() -> None:
        for file, data in kept.items():
            file.write_bytes(data)

    newest.write_bytes(kept[newest][:500] + b"\xff" + kept[newest][501:])
    assert "does not check" in refusal(tmp_path)
    restored()
    newest.write_bytes(kept[newest][:20])
    assert "whole record" in refusal(tmp_path)
    restored()
    before.write_bytes(kept[before][:-1] + bytes([kept[before][-1] ^ 1]))
    assert "has been changed" in refusal(tmp_path)
    restored()
    before.unlink()
    assert "missing between 0 and 2" in refusal(tmp_path)
    restored()
    newest.write_bytes(kept[before])
    assert "another QRNG server, network or place" in refusal(tmp_path)
    restored()
    filled(tmp_path, range(8, 9))


def test_another_servers_log_is_not_continued(tmp_path: Path) -> None:
    filled(tmp_path, range(1))
    for log in (LeafLog(tmp_path, "elsewhere", WRITER.key.id), LeafLog(tmp_path, CHAIN, bytes(32))):
        with pytest.raises(QuStreamError) as caught:
            log.open()
        assert caught.value.code == "E-DATA-CORRUPT"


def test_after_a_crash_between_two_segments_the_newest_batch_is_still_known(tmp_path: Path, small_segments: None) -> None:
    filled(tmp_path, range(3))
    previous = hashlib.sha256((tmp_path / segment_name(0)).read_bytes()).digest()
    (tmp_path / segment_name(1)).write_bytes(WRITER.header(1, previous))
    with opened(tmp_path) as log:
        assert log.last_batch == 2
        log.append(*WRITER.batch(3))
    assert audited(tmp_path).entries == 4


def test_the_oldest_go_as_wholes_and_the_rest_still_holds(tmp_path: Path, small_segments: None) -> None:
    with opened(tmp_path, keep_bytes=40_000) as log:
        for number in range(30):
            log.append(*WRITER.batch(number))
            assert sum(info.size_bytes for info in log.index()) <= 40_000 + 12_000
        first = log.index()[0].number
        assert first > 3
        assert log.read(first - 1) is None
        assert log.read(99) is None
    assert (audited(tmp_path).first_segment, audited(tmp_path).last_batch) == (first, 29)
    with opened(tmp_path, keep_bytes=0) as log:
        for number in range(30, 40):
            log.append(*WRITER.batch(number))
        assert len(log.index()) == 2


def test_a_disk_that_takes_no_more_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real thing on a small disk is in tests/integration/test_leaf_log_kill.py; here each call that may fail does so."""
    filled(tmp_path, range(1))
    real_pwrite, real_sync = os.pwrite, os.fdatasync

    def half_written(handle: int, data: memoryview, offset: int) -> int:
        if len(data) < 2000:
            raise OSError(errno.ENOSPC, "full")
        return real_pwrite(handle, data[:1000], offset)

    def unsynced(handle: int) -> None:
        raise OSError(errno.EIO, "broken")

    with opened(tmp_path) as log:
        before = log.read(0)
        for name, failing, code in (("pwrite", half_written, "E-DISK-FULL"), ("fdatasync", unsynced, "E-FILE")):
            monkeypatch.setattr(os, name, failing)
            for _ in range(2):
                with pytest.raises(QuStreamError) as caught:
                    log.append(*WRITER.batch(5))
                assert caught.value.code == code
                assert (log.read(0), log.last_batch) == (before, 0)
                assert (tmp_path / segment_name(0)).read_bytes() == before
            monkeypatch.setattr(os, "pwrite", real_pwrite)
            monkeypatch.setattr(os, "fdatasync", real_sync)
        log.append(*WRITER.batch(5))
    assert (audited(tmp_path).entries, audited(tmp_path).last_batch) == (2, 5)


def test_what_could_not_be_cut_back_is_before_the_next_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_sync, real_cut = os.fdatasync, os.ftruncate

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    with opened(tmp_path) as log:
        before = log.read(0)
        monkeypatch.setattr(os, "fdatasync", broken)
        monkeypatch.setattr(os, "ftruncate", broken)
        for _ in range(2):
            with pytest.raises(QuStreamError):
                log.append(*WRITER.batch(1))
        assert log.read(0) == before
        monkeypatch.setattr(os, "fdatasync", real_sync)
        monkeypatch.setattr(os, "ftruncate", real_cut)
        log.append(*WRITER.batch(2))
    assert (audited(tmp_path).entries, audited(tmp_path).last_batch) == (1, 2)


def test_a_segment_that_could_not_be_opened_is_taken_up_again(
    tmp_path: Path, small_segments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = LeafLog._opened

    def broken(self: LeafLog, number: int) -> int:
        raise QuStreamError("E-FILE", "too many open files")

    with opened(tmp_path) as log:
        for number in range(3):
            log.append(*WRITER.batch(number))
        monkeypatch.setattr(LeafLog, "_opened", broken)
        with pytest.raises(QuStreamError):
            log.append(*WRITER.batch(3))
        assert log.index() == [SegmentInfo(0, log.index()[0].size_bytes, True)]
        monkeypatch.setattr(LeafLog, "_opened", real_open)
        log.append(*WRITER.batch(3))
    assert (audited(tmp_path).last_segment, audited(tmp_path).last_batch) == (1, 3)


def test_a_place_where_no_log_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "no" / "such"):
        with pytest.raises(QuStreamError) as caught:
            opened(path).open()
        assert caught.value.code == "E-FILE"


def test_batches_rise(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append(*WRITER.batch(5))
        before = log.read(0)
        for number in (4, 5):
            with pytest.raises(QuStreamError) as caught:
                log.append(*WRITER.batch(number))
            assert caught.value.code == "E-DATA-CORRUPT"
        assert log.read(0) == before


def test_readers_see_whole_entries_while_one_thread_appends(tmp_path: Path, small_segments: None) -> None:
    done, torn = threading.Event(), []

    def read(log: LeafLog) -> None:
        while not done.is_set():
            for info in log.index():
                data = log.read(info.number)
                if data is not None and read_segment(data).whole_bytes != len(data):
                    torn.append(info)

    with opened(tmp_path, keep_bytes=30_000) as log:
        readers = [threading.Thread(target=read, args=(log,)) for _ in range(2)]
        for reader in readers:
            reader.start()
        for number in range(60):
            log.append(*WRITER.batch(number))
        done.set()
        for reader in readers:
            reader.join(timeout=60)
    assert not torn


def test_looking_whether_the_disk_takes_anything_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as log:
        before = sorted(entry.name for entry in tmp_path.iterdir())
        log.probe()
        assert sorted(entry.name for entry in tmp_path.iterdir()) == before

        def full(*_: object, **__: object) -> None:
            raise fault("E-DISK-FULL", "no space")

        monkeypatch.setattr("qustream.identity.files.replace", full)
        with pytest.raises(QuStreamError, match="E-DISK-FULL"):
            log.probe()
