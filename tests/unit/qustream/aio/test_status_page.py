"""What a command gets where a daemon's pages are, or something else is."""

from __future__ import annotations

import pytest
from support.pages import garbled, pages

from qustream.aio.status_page import PAGE_MAX_BYTES, fetch, page_address
from qustream.errors import QuStreamError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7390", "http://127.0.0.1:7390"),
        ("127.0.0.1:7390/", "http://127.0.0.1:7390"),
        ("http://[::1]:7390/", "http://[::1]:7390"),
        ("https://example.org/node", "https://example.org/node"),
        ("ftp://127.0.0.1:1", None),
        ("file:///etc/passwd", None),
    ],
)
def test_addresses(text: str, address: str | None) -> None:
    assert page_address(text) == address


def test_a_page_whatever_its_status() -> None:
    with pages({"/a": (200, b"yes"), "/b": (503, b"no")}) as address:
        assert fetch(f"http://{address}/a") == (200, b"yes")
        assert fetch(f"http://{address}/b") == (503, b"no")
        assert fetch(f"http://{address}/c")[0] == 404


def test_a_page_without_end_is_cut() -> None:
    with pages({"/a": (200, bytes(PAGE_MAX_BYTES + 1))}) as address:
        assert len(fetch(f"http://{address}/a")[1]) == PAGE_MAX_BYTES


def refused(url: str) -> None:
    with pytest.raises(QuStreamError) as caught:
        fetch(url)
    assert caught.value.code == "E-PEER-UNREACHABLE"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 ok\r\n\r\n"])
def test_something_that_speaks_no_http(answer: bytes) -> None:
    with garbled(answer) as address:
        refused(f"http://{address}/a")


@pytest.mark.parametrize("url", ["http://127.0.0.1:none/a", "http://127.0.0.1:99999/a", "http://[::1/a", "http:///a"])
def test_an_address_that_is_none(url: str) -> None:
    refused(url)


def test_nobody_there() -> None:
    with pages({}) as address:
        pass
    refused(f"http://{address}/a")
