"""Paths and queries: whatever is asked is read or refused, and nothing else comes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ledger_world import key, licence_id

from qnode.api.chain import PAGES
from qnode.api.chain_asked import BadRequest, Query, Template, read_height, read_query
from qustream.errors import QuStreamError
from qustream.model.ids import IdKind, account_id, licence_text, to_text
from qustream.model.state import Table

NODE = to_text(IdKind.NODE, key("node").id)


def test_a_query_is_read() -> None:
    assert read_query("") == Query(50)
    assert read_query("limit=7&after=00ff") == Query(7, "00ff")
    assert read_query("after=00ff").after_name == b"\x00\xff"
    assert read_query("before=12").before_height == 12
    assert read_query("before=12.3").before_place == (12, 3)
    assert read_query("").before_height is read_query("").before_place is read_query("").owner_account is None


@given(st.text(max_size=80))
def test_any_query_is_read_or_refused(text: str) -> None:
    try:
        query = read_query(text)
        for name in ("after_name", "owner_account", "before_height", "before_place"):
            getattr(query, name)
    except (BadRequest, QuStreamError):
        return
    assert 1 <= query.limit <= 100


@given(st.lists(st.one_of(st.text(max_size=30), st.sampled_from([part for text in PAGES for part in text.split("/")])), max_size=4))
def test_any_path_is_read_or_refused(parts: list[str]) -> None:
    for text in PAGES:
        try:
            names = Template(text).match(parts)
        except (BadRequest, QuStreamError):
            continue
        assert names is None or len(names) == text.count("<")


@pytest.mark.parametrize("text", ["", "-1", "+1", "01", "1.0", "1e3", "٣", "1_0", " 1", "9007199254740992", "9" * 30])
def test_what_is_no_height(text: str) -> None:
    with pytest.raises(BadRequest):
        read_height(text)


@pytest.mark.parametrize(
    ("table", "name", "expected"),
    [
        ("5", "00" * 20, (Table.ACCOUNT, bytes(20))),
        ("unbond-batch", "-", (Table.UNBOND_BATCH, b"")),
        ("account", to_text(IdKind.ACCOUNT, bytes(20)), (Table.ACCOUNT, bytes(20))),
        ("licence", licence_text(licence_id(1)), (Table.LICENCE, licence_id(1))),
        ("node", NODE, (Table.NODE, key("node").id)),
        ("account-key", to_text(IdKind.ACCOUNT, account_id(key("node").id)), (Table.ACCOUNT_KEY, account_id(key("node").id))),
    ],
)
def test_tables_and_names(table: str, name: str, expected: tuple[Table, bytes]) -> None:
    assert Template("proof/<table>/<name>").match(["proof", table, name]) == expected


@pytest.mark.parametrize(
    ("table", "name"), [("account", NODE[:-1]), ("Account", "-"), ("05", "-"), ("account", "abc"), ("", ""), ("account", "0X00")]
)
def test_what_is_neither_table_nor_name(table: str, name: str) -> None:
    with pytest.raises((BadRequest, QuStreamError)):
        Template("proof/<table>/<name>").match(["proof", table, name])
