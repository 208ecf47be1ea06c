"""Sealing: what was sealed opens whole or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qustream.errors import QuStreamError
from qustream.identity.sealing import SEAL_OVERHEAD_BYTES, derive, seal, unseal

KEY = bytes(range(32))


@given(st.binary(max_size=500), st.binary(max_size=50))
def test_what_is_sealed_opens(plaintext, aad):
    sealed = seal(KEY, plaintext, aad)
    assert len(sealed) == len(plaintext) + SEAL_OVERHEAD_BYTES
    assert unseal(KEY, sealed, aad) == plaintext


def test_two_seals_of_one_value_differ():
    assert seal(KEY, b"value", b"") != seal(KEY, b"value", b"")


def refused(*arguments):
    with pytest.raises(QuStreamError) as caught:
        unseal(*arguments)
    assert caught.value.code == "E-DATA-CORRUPT"


def test_every_flipped_bit_is_found():
    sealed = seal(KEY, b"value", b"place")
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        refused(KEY, bytes(changed), b"place")


def test_every_cut_is_found():
    sealed = seal(KEY, b"value", b"place")
    for size in range(len(sealed)):
        refused(KEY, sealed[:size], b"place")
    refused(KEY, sealed + b"\x00", b"place")


def test_another_key_or_place_opens_nothing():
    sealed = seal(KEY, b"value", b"place")
    refused(bytes(32), sealed, b"place")
    refused(KEY, sealed, b"another place")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_our_own_bug(size):
    with pytest.raises(ValueError, match="32 bytes"):
        seal(bytes(size), b"", b"")
    with pytest.raises(ValueError, match="32 bytes"):
        unseal(bytes(size), bytes(40), b"")


def test_derived_keys_depend_on_everything():
    keys = {derive(KEY, "a"), derive(KEY, "b"), derive(bytes(32), "a")}
    assert len(keys) == 3
    assert all(len(key) == 32 for key in keys)
    assert derive(KEY, "a", 64)[:32] == derive(KEY, "a")
    with pytest.raises(ValueError, match="32 bytes"):
        derive(b"short", "a")
