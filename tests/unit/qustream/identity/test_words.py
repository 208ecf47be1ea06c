"""Words: the same words are the same user however they are typed, and a wrong one is found and not repeated."""

import pickle

import pytest
from mnemonic import Mnemonic

from qustream.errors import QuStreamError
from qustream.identity.words import UserSecrets, new_words

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
USER = UserSecrets.from_words(WORDS)


def refused(words):
    with pytest.raises(QuStreamError) as caught:
        UserSecrets.from_words(words)
    assert caught.value.code == "E-PASSPHRASE-WORDS"
    for word in words.lower().split()[:24]:
        if word not in ("is", "not", "in", "the", "word", "words", "a", "or", "two", "are", "list"):
            assert word not in caught.value.detail.split()
    return caught.value.detail


@pytest.mark.parametrize("count", [12, 24])
def test_new_words_are_words(count):
    words = new_words(count)
    assert len(words.split(" ")) == count
    assert words != new_words(count)
    assert UserSecrets.from_words(words).master.id == UserSecrets.from_words(words).master.id


@pytest.mark.parametrize("count", [0, 11, 15, 18, 21, 25])
def test_other_counts_are_not_offered(count):
    with pytest.raises(ValueError, match="12 or 24"):
        new_words(count)


@pytest.mark.parametrize("typed", [WORDS.upper(), f"  {WORDS}\n", WORDS.replace(" ", "\t \n")])
def test_case_and_spacing_do_not_matter(typed):
    assert UserSecrets.from_words(typed).master.id == USER.master.id


def test_every_key_is_another():
    keys = [USER.master.seed, USER.account.seed, USER.hpke.seed, *(USER.ruid_key_of(g) for g in range(3))]
    assert len(set(keys)) == 6
    assert USER.ruid_key == USER.ruid_key_of(0)


def test_a_word_outside_the_list_is_named_by_its_place():
    words = WORDS.split()
    words[2], words[10] = "thanx", "qustream"
    assert refused(" ".join(words)) == "not in the word list: word 3, 11"


def test_swapped_words_break_the_checksum():
    words = WORDS.split()
    words[0], words[1] = words[1], words[0]
    assert "checksum" in refused(" ".join(words))


@pytest.mark.parametrize("count", [0, 1, 11, 13, 15, 23, 25, 100])
def test_other_counts_are_refused(count):
    assert f"these are {count}" in refused(" ".join(["zoo"] * count))


def test_a_valid_phrase_of_another_length_is_refused():
    fifteen = Mnemonic("english").to_mnemonic(bytes(20))
    assert len(fifteen.split()) == 15
    refused(fifteen)


@pytest.mark.parametrize("text", ["", "\x00" * 100, "ünïcödé " * 12, "abandon " * 12, "a" * 10_000_000])
def test_hostile_text_is_refused(text):
    refused(text)


def test_nothing_secret_is_shown():
    assert USER.master.seed.hex() not in repr(USER)
    assert "legal" not in repr(USER)
    with pytest.raises(TypeError):
        pickle.dumps(USER)
