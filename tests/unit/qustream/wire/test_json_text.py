"""Hostile JSON is the value it should be, or one kind of error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from qustream.wire.json_text import decode_json


class Page(Struct):
    name: str
    count: int = 0


def test_a_value() -> None:
    assert decode_json(b'{"name": "a", "other": [1, {"x": null}]}', Page) == Page("a")
    assert decode_json(bytearray(b'{"count": 2, "name": "\xc3\xa9"}'), Page) == Page("é", 2)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"null", b'{"name": 1}', b'{"name": "a"', b'{"name": "a"} x', b'{"name": "\xff"}',
        b'{"name": "a", "other": "\xff"}', b'{"name": "a", "\xff": 1}', b'{"name": "a", "other": ' + b"[" * 100_000,
        b'{"name": "a", "other": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"name": "\\ud800"}',
    ],
)  # fmt: skip
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        decode_json(data, Page)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        decode_json(b"\x00" + data, Page)
