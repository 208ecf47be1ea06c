"""The TOML writer against the standard library's reader."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qustream.errors import QuStreamError
from qustream.registry.emit import emit

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALAR = st.one_of(TEXT, st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.lists(TEXT, max_size=3))
NAME = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
TABLE = st.dictionaries(NAME, SCALAR, max_size=4)
NESTED = st.dictionaries(NAME, st.one_of(SCALAR, st.lists(TABLE, min_size=1, max_size=3)), max_size=4)
WHOLE = st.dictionaries(NAME, st.one_of(SCALAR, st.lists(NESTED, min_size=1, max_size=3)), max_size=5)


@given(WHOLE)
def test_tomllib_reads_back_the_same(table):
    assert tomllib.loads(emit(table)) == table


@given(WHOLE)
def test_equal_tables_give_equal_text(table):
    assert emit(dict(table)) == emit(table)


def test_none_and_empty_arrays_of_tables():
    assert emit({"a": 1, "b": None, "c": []}) == "a = 1\nc = []\n"


def test_plain_text_is_literal_and_the_rest_is_escaped():
    assert emit({"a": "plain 'no'", "b": 'say "hi"', "c": "tab\t"}) == (
        "a = \"plain 'no'\"\n" + "b = 'say \"hi\"'\n" + 'c = "tab\\U00000009"\n'
    )


def test_what_a_network_file_never_holds():
    with pytest.raises(TypeError):
        emit({"a": 1.5})
    with pytest.raises(QuStreamError) as caught:
        emit({"a": "\ud800"})
    assert caught.value.code == "E-REGISTRY-FORMAT"
