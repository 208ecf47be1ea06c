"""Where logs are read from: directories that are none, servers that mean harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.leaf_logs import CHAIN, Writer
from support.pages import garbled, pages

from qustream.errors import QuStreamError
from qustream.leaflog.segment import SEGMENT_MAX_BYTES, segment_name
from qustream.leaflog.source import INDEX_MAX_BYTES, SEGMENTS_MAX, DirectorySource, LogPages, LogSource, open_source

WRITER = Writer()
SEGMENT = WRITER.header()


def index(**changes: Any) -> tuple[int, bytes]:
    return 200, json.dumps({"chain": CHAIN, "server": "qr1", "first": 0, "last": 0, "bytes": 100} | changes).encode()


def code_of(source: LogSource) -> str:
    with pytest.raises(QuStreamError) as caught:
        list(source.segments())
    assert caught.value.detail
    return caught.value.code


def test_an_address_or_a_directory() -> None:
    for address in ("http://127.0.0.1:7391", "https://example.org/qrng/"):
        source = open_source(address)
        assert isinstance(source, LogPages)
        assert source.name == address
    for path in ("leaves", "/var/lib/x", "127.0.0.1:7391", "file:///etc", "ftp://x"):
        assert isinstance(open_source(path), DirectorySource)


def test_a_directory_is_read_in_order_and_other_files_are_not(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        (tmp_path / segment_name(number)).write_bytes(WRITER.header(number))
    (tmp_path / "notes.txt").write_bytes(b"x")
    (tmp_path / ".0000000003.leaves.ab").write_bytes(b"x")
    assert [number for number, _ in DirectorySource(tmp_path).segments()] == [1, 2, 10]


def test_a_directory_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        assert code_of(DirectorySource(path)) == "E-FILE"
    (tmp_path / segment_name(0)).mkdir()
    assert code_of(DirectorySource(tmp_path)) == "E-FILE"
    (tmp_path / segment_name(0)).rmdir()
    (tmp_path / segment_name(0)).write_bytes(bytes(SEGMENT_MAX_BYTES + 1))
    assert code_of(DirectorySource(tmp_path)) == "E-FILE"
    monkeypatch.setattr("qustream.leaflog.source.SEGMENTS_MAX", 0)
    assert code_of(DirectorySource(tmp_path)) == "E-LEAF-LOG"


def test_pages_are_read_as_the_index_says() -> None:
    shown = {"/v1/log": index(first=3, last=5), **{f"/v1/log/{number}": (200, bytes([number])) for number in (3, 4, 5)}}
    with pages(shown) as address:
        for base in (f"http://{address}", f"http://{address}/"):
            assert list(open_source(base).segments()) == [(3, b"\x03"), (4, b"\x04"), (5, b"\x05")]
        del shown["/v1/log/3"]  # went between the index and the request: the log begins later
        assert [number for number, _ in LogPages(f"http://{address}").segments()] == [4, 5]
        shown["/v1/log/3"], _ = (200, b"\x03"), shown.pop("/v1/log/4")
        assert code_of(LogPages(f"http://{address}")) == "E-PEER-UNREACHABLE"
        del shown["/v1/log/3"], shown["/v1/log/5"]
        assert code_of(LogPages(f"http://{address}")) == "E-PEER-UNREACHABLE"


@pytest.mark.parametrize(
    "answer",
    [
        (200, b""),
        (200, b"[]"),
        (200, b"\xff\xfe"),
        (200, b"[" * 2000),
        (200, bytes(INDEX_MAX_BYTES + 1)),
        index(first=-1),
        index(first="0"),
        index(first=1),
        index(last=1 << 32),
        index(last=SEGMENTS_MAX),
        index(chain="x" * 65),
    ],
)
def test_an_index_that_is_none(answer: tuple[int, bytes]) -> None:
    with pages({"/v1/log": answer, "/v1/log/0": (200, SEGMENT)}) as address:
        assert code_of(LogPages(f"http://{address}")) == "E-LEAF-LOG"


def test_a_segment_without_end_is_not_read_to_its_end() -> None:
    with pages({"/v1/log": index(), "/v1/log/0": (200, bytes(SEGMENT_MAX_BYTES + 1))}) as address:
        assert code_of(LogPages(f"http://{address}")) == "E-LEAF-LOG"


@pytest.mark.parametrize("status", [204, 301, 404, 500, 503])
def test_a_server_that_has_no_log(status: int) -> None:
    with pages({"/v1/log": (status, b"")}) as address:
        assert code_of(LogPages(f"http://{address}")) == "E-PEER-UNREACHABLE"
    with pages({"/v1/log": index(), "/v1/log/0": (status, b"")}) as address:
        assert code_of(LogPages(f"http://{address}")) == "E-PEER-UNREACHABLE"


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00\xff", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz"],
)
def test_a_server_that_does_not_speak_http(answer: bytes) -> None:
    with garbled(answer) as address:
        assert code_of(LogPages(f"http://{address}")) in ("E-PEER-UNREACHABLE", "E-LEAF-LOG")


def test_nobody_is_there() -> None:
    with garbled(b"") as address, pytest.raises(QuStreamError):
        LogPages(f"http://{address}").index()
    assert code_of(LogPages(f"http://{address}")) == "E-PEER-UNREACHABLE"
    assert code_of(LogPages("http://")) == "E-PEER-UNREACHABLE"
