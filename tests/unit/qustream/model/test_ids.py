"""Identifiers: what goes out comes back, and nothing else is accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qustream.errors import QuStreamError
from qustream.model import ids
from qustream.model.ids import IdKind, bech32m_encode, from_text, licence_from_text, licence_text, to_text

RAW = bytes(range(32))


def raw_of(kind):
    return RAW[:20] if kind is IdKind.ACCOUNT else RAW


def refused(call, *arguments):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments)
    assert caught.value.code == "E-ID-TEXT"
    return caught.value.detail


@pytest.mark.parametrize("kind", IdKind)
@given(data=st.data())
def test_every_id_comes_back(kind, data):
    raw = data.draw(st.binary(min_size=len(raw_of(kind)), max_size=len(raw_of(kind))))
    text = to_text(kind, raw)
    assert text.startswith(kind.value + "1")
    assert text == text.lower()
    assert from_text(text, kind) == raw


@pytest.mark.parametrize("kind", IdKind)
def test_an_id_of_another_kind_is_refused(kind):
    text = to_text(kind, raw_of(kind))
    for other in IdKind:
        if other is not kind:
            assert "wanted" in refused(from_text, text, other)


@given(place=st.integers(0, 60), letter=st.sampled_from(ids.BECH32_CHARACTERS))
def test_a_wrong_character_is_found(place, letter):
    text = to_text(IdKind.NODE, RAW)
    wrong = text[:place] + letter + text[place + 1 :]
    if wrong != text:
        refused(from_text, wrong, IdKind.NODE)


def test_every_swap_of_neighbours_is_found():
    text = to_text(IdKind.NODE, RAW)
    for at in range(len(text) - 1):
        swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        if swapped != text:
            refused(from_text, swapped, IdKind.NODE)


def test_upper_case_is_refused_though_the_standard_allows_it():
    assert "lower case" in refused(from_text, to_text(IdKind.NODE, RAW).upper(), IdKind.NODE)


@pytest.mark.parametrize("size", [0, 1, 19, 20, 31, 33, 48])
def test_another_length_is_refused(size):
    text = bech32m_encode("qn", ids._regroup(bytes(size), 8, 5))
    assert "length" in refused(from_text, text, IdKind.NODE)


def test_bits_left_over_must_be_zero_and_few():
    values = ids._regroup(RAW, 8, 5)
    refused(from_text, bech32m_encode("qn", [*values[:-1], values[-1] | 1]), IdKind.NODE)
    refused(from_text, bech32m_encode("qn", [*values, 0]), IdKind.NODE)


@given(st.text(max_size=120))
def test_hostile_text_is_refused(text):
    refused(from_text, text, IdKind.USER)
    refused(licence_from_text, text)


def test_long_text_is_refused_before_it_is_read():
    assert "longer" in refused(from_text, "q" * 10_000_000, IdKind.USER)
    refused(licence_from_text, "0" * 10_000_000)


@pytest.mark.parametrize("kind", IdKind)
def test_our_own_wrong_length_is_our_own_bug(kind):
    with pytest.raises(ValueError, match="bytes"):
        to_text(kind, RAW[:5])


@given(st.binary(min_size=16, max_size=16))
def test_licences_come_back_however_they_are_typed(raw):
    text = licence_text(raw)
    assert [len(group) for group in text.split("-")] == [5] * 6
    assert licence_from_text(text) == raw
    assert licence_from_text(text.lower().replace("-", " ")) == raw
    assert licence_from_text(text.replace("-", "").replace("1", "l").replace("0", "o")) == raw
    assert licence_from_text(text.replace("1", "I")) == raw


def test_wrong_letters_of_a_licence_are_found():
    text = licence_text(RAW[:16]).replace("-", "")
    for at in range(30):
        for letter in ids.LICENCE_CHARACTERS:
            if letter != text[at]:
                refused(licence_from_text, text[:at] + letter + text[at + 1 :])
    refused(licence_from_text, text[:-1])
    refused(licence_from_text, text + "0")
    assert "character 3 " in refused(licence_from_text, text[:2] + "U" + text[3:])


def test_our_own_wrong_licence_is_our_own_bug():
    with pytest.raises(ValueError, match="16 bytes"):
        licence_text(RAW)


def test_the_account_is_the_first_twenty_bytes():
    assert ids.account_id(RAW) == RAW[:20]
