"""HPKE to a user's key: opens for the right key and place alone, and hostile keys and seals are coded refusals."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.errors import QuStreamError
from qustream.identity.hpke import HPKE_OVERHEAD_BYTES, HpkeKey, hpke_seal
from qustream.model.keys import HPKE_PUBLIC_BYTES

ALICE = HpkeKey(bytes([1] * 32))
BOB = HpkeKey(bytes([2] * 32))


def refused(code, call, *arguments):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments)
    assert caught.value.code == code


@given(st.binary(max_size=3000), st.binary(max_size=200))
@settings(max_examples=30, deadline=None)
def test_what_is_sealed_opens(plaintext, info):
    sealed = hpke_seal(ALICE.public, plaintext, info)
    assert len(sealed) == len(plaintext) + HPKE_OVERHEAD_BYTES
    assert ALICE.open(sealed, info) == plaintext


def test_the_same_seed_is_the_same_key():
    again = HpkeKey(ALICE.seed)
    assert again.public == ALICE.public != BOB.public
    assert len(again.public) == HPKE_PUBLIC_BYTES
    assert again.open(hpke_seal(ALICE.public, b"x", b""), b"") == b"x"


def test_another_key_or_info_opens_nothing():
    sealed = hpke_seal(ALICE.public, b"secret", b"place")
    refused("E-NOT-RECIPIENT", BOB.open, sealed, b"place")
    refused("E-NOT-RECIPIENT", ALICE.open, sealed, b"another")
    refused("E-NOT-RECIPIENT", ALICE.open, sealed, b"")


def test_every_changed_byte_is_found():
    sealed = hpke_seal(ALICE.public, b"secret", b"place")
    for at in range(len(sealed)):
        refused("E-NOT-RECIPIENT", ALICE.open, sealed[:at] + bytes([sealed[at] ^ 0x40]) + sealed[at + 1 :], b"place")


@pytest.mark.parametrize("size", [0, 1, 31, 1088, 1119, 1120, 1135, 1141])
def test_every_cut_is_found(size):
    refused("E-NOT-RECIPIENT", ALICE.open, hpke_seal(ALICE.public, b"secret", b"")[:size], b"")


def test_a_low_order_point_in_a_seal_is_refused():
    sealed = hpke_seal(ALICE.public, b"secret", b"")
    refused("E-NOT-RECIPIENT", ALICE.open, sealed[:1088] + bytes(32) + sealed[1120:], b"")


@given(st.binary(max_size=2000))
@settings(max_examples=50, deadline=None)
def test_hostile_seals_are_refused(data):
    refused("E-NOT-RECIPIENT", ALICE.open, data, b"")


@pytest.mark.parametrize(
    "public",
    [b"", bytes(1215), bytes(1217), b"\xff" * 1216, ALICE.public[:1184] + bytes(32), b"\xff" * 1184 + ALICE.public[1184:]],
)
def test_hostile_keys_are_refused(public):
    refused("E-WIRE-MALFORMED", hpke_seal, public, b"secret", b"")


def test_nothing_of_the_key_is_shown():
    assert ALICE.seed.hex() not in repr(ALICE)
    with pytest.raises(TypeError):
        pickle.dumps(ALICE)
    with pytest.raises(ValueError, match="32 bytes"):
        HpkeKey(b"short")
