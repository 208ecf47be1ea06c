"""Addresses."""

import pytest

from qustream.errors import QuStreamError
from qustream.transport.address import Address, parse_address, show_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7400", Address("127.0.0.1", 7400)),
        ("node.example:1", Address("node.example", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        ("unix:/run/qrngd/feed", Address(path="/run/qrngd/feed")),
    ],
)
def test_an_address_is_read_and_shown_alike(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "host", "host:", ":7400", "::1:7400", "host:x", "host:65536", "host:-1", "host:٣", "host:000001", "a b:1", "a\n:1",
        "x" * 254 + ":1", "unix:", "unix:relative", "unix:/" + "x" * 107, "unix:/a\0b",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(QuStreamError) as caught:
        parse_address(text)
    assert caught.value.code == "E-PEER-UNREACHABLE"
    assert caught.value.detail.isprintable()


def test_v6_is_shown_in_brackets() -> None:
    assert show_address("fe80::1", 1) == "[fe80::1]:1"
