"""A copy of a published log that grows with it, and servers that publish another past."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.leaf_logs import CHAIN, Writer
from support.pages import Pages, pages

from qrngd.leaflog import LeafLog
from qrngd.leaflog import log as module
from qustream.errors import QuStreamError
from qustream.leaflog.audit import audit
from qustream.leaflog.keep import Fetched, fetch_closed
from qustream.leaflog.segment import segment_name
from qustream.leaflog.source import DirectorySource, LogPages
from qustream.model.ids import IdKind, to_text

WRITER = Writer()


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches of one unit a segment."""
    monkeypatch.setattr(module, "SEGMENT_MAX_BYTES", 12_000)


def grow(folder: Path, batches: range, writer: Writer = WRITER, *, keep_bytes: int = 1 << 30) -> None:
    with LeafLog(folder, CHAIN, writer.key.id, keep_bytes=keep_bytes) as log:
        for number in batches:
            log.append(*writer.batch(number))


def shown(folder: Path, writer: Writer = WRITER) -> Pages:
    """The pages of the log in `folder`."""
    found = dict(DirectorySource(folder).segments())
    index = {"chain": CHAIN, "server": to_text(IdKind.QRNG, writer.key.id), "first": min(found), "last": max(found), "bytes": 0}
    return {"/v1/log": (200, json.dumps(index).encode()), **{f"/v1/log/{number}": (200, data) for number, data in found.items()}}


def fetched(published: Pages, copy: Path) -> Fetched:
    with pages(published) as address:
        return fetch_closed(LogPages(f"http://{address}"), copy)


def refusal(published: Pages, copy: Path) -> str:
    with pytest.raises(QuStreamError) as caught:
        fetched(published, copy)
    assert caught.value.code == "E-LEAF-LOG"
    return caught.value.detail


def test_what_is_closed_is_fetched_once_and_kept_when_the_server_forgets(tmp_path: Path) -> None:
    origin, copy = tmp_path / "origin", tmp_path / "copy"
    grow(origin, range(2))
    assert fetched(shown(origin), copy) == Fetched(0, -1)
    grow(origin, range(2, 8))
    assert fetched(shown(origin), copy) == Fetched(0, 1)
    published = shown(origin)
    del published["/v1/log/0"]  # what is there is not asked for again
    assert fetched(published, copy) == Fetched(2, 1)
    grow(origin, range(8, 14), keep_bytes=30_000)
    assert fetched(shown(origin), copy) == Fetched(2, 3)
    (log,) = audit([DirectorySource(copy)], chain=CHAIN, server_of={WRITER.key.id: WRITER.record}.get)
    assert (log.first_segment, log.last_segment, log.entries) == (0, 3, 12)
    assert not (origin / segment_name(0)).exists()


def test_another_past_is_refused(tmp_path: Path) -> None:
    origin, copy = tmp_path / "origin", tmp_path / "copy"
    grow(origin, range(7))
    fetched(shown(origin), copy)
    before = sorted(copy.iterdir())
    grow(tmp_path / "rewritten", range(100, 113))
    assert "published before" in refusal(shown(tmp_path / "rewritten"), copy)
    other = Writer(b"\x09" * 32)
    grow(tmp_path / "other", range(13), other)
    assert "another server than the copy" in refusal(shown(tmp_path / "other", other), copy)
    assert "than its list says" in refusal(shown(tmp_path / "other"), tmp_path / "fresh")
    for name, batches in (("anew", range(2)), ("as long", range(5))):
        grow(tmp_path / name, batches)
        assert "begun anew" in refusal(shown(tmp_path / name), copy)
    grow(origin, range(7, 30), keep_bytes=20_000)
    assert "went before they were fetched" in refusal(shown(origin), copy)
    assert sorted(copy.iterdir()) == before


def test_what_is_no_closed_segment_is_not_kept(tmp_path: Path) -> None:
    origin, copy = tmp_path / "origin", tmp_path / "copy"
    grow(origin, range(7))
    good = shown(origin)
    data = good["/v1/log/0"][1]
    for wrong in (data[:-1], data + bytes(10), WRITER.header(), good["/v1/log/1"][1], b"", b"<html>"):
        refusal(good | {"/v1/log/0": (200, wrong)}, copy)
    assert list(copy.iterdir()) == []
    with pytest.raises(QuStreamError) as caught:
        fetched(good | {"/v1/log/1": (404, b"")}, copy)
    assert caught.value.code == "E-PEER-UNREACHABLE"
    assert fetched(good, copy) == Fetched(1, 1), "goes on where it was interrupted"


def test_a_place_where_no_copy_can_be(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    grow(origin, range(7))
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "no" / "such"):
        with pytest.raises(QuStreamError) as caught:
            fetched(shown(origin), folder)
        assert caught.value.code == "E-FILE"
