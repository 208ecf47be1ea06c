"""The hybrid signature: both halves or nothing, for one purpose and one key pair."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.errors import QuStreamError
from qustream.identity.signing import SIGNATURE_BYTES, SigningKey, open_signed, verify, verify_ed25519
from qustream.model.base import Signed
from qustream.model.keys import HpkeKeyStatement, PublicKey
from qustream.wire.codec import encode

KEY, OTHER = SigningKey(bytes(range(32))), SigningKey(bytes(32))
SIGNATURE = KEY.sign("test", b"message")


def test_a_signature_holds():
    assert len(SIGNATURE) == SIGNATURE_BYTES
    assert verify(KEY.public, "test", b"message", SIGNATURE)


def test_one_seed_is_one_key():
    again = SigningKey(KEY.seed)
    assert again.public == KEY.public
    assert again.id == KEY.id == KEY.public.id != OTHER.id
    assert verify(again.public, "test", b"message", again.sign("test", b"message"))


def test_signatures_are_hedged_and_all_hold():
    second = KEY.sign("test", b"message")
    assert second[:64] == SIGNATURE[:64]
    assert second != SIGNATURE
    assert verify(KEY.public, "test", b"message", second)


def test_another_key_message_or_purpose_holds_nothing():
    assert not verify(OTHER.public, "test", b"message", SIGNATURE)
    assert not verify(KEY.public, "test", b"massage", SIGNATURE)
    assert not verify(KEY.public, "tess", b"message", SIGNATURE)


def test_the_end_of_a_purpose_is_not_the_beginning_of_a_message():
    assert not verify(KEY.public, "testm", b"essage", SIGNATURE)
    assert not verify(KEY.public, "tes", b"tmessage", SIGNATURE)


def test_both_halves_are_needed():
    theirs = OTHER.sign("test", b"message")
    assert not verify(KEY.public, "test", b"message", SIGNATURE[:64] + theirs[64:])
    assert not verify(KEY.public, "test", b"message", theirs[:64] + SIGNATURE[64:])
    assert not verify(KEY.public, "test", b"message", SIGNATURE[:64] + bytes(3309))
    assert not verify(KEY.public, "test", b"message", bytes(64) + SIGNATURE[64:])


def test_a_half_cannot_be_lifted_into_another_pair():
    mixed = PublicKey(KEY.public.ed25519, OTHER.public.mldsa)
    assert not verify_ed25519(mixed, "test", b"message", KEY.sign_ed25519("test", b"message"))


@given(st.integers(0, SIGNATURE_BYTES * 8 - 1))
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_found(bit):
    changed = bytearray(SIGNATURE)
    changed[bit // 8] ^= 1 << bit % 8
    assert not verify(KEY.public, "test", b"message", bytes(changed))


@pytest.mark.parametrize("signature", [b"", bytes(64), SIGNATURE[:-1], SIGNATURE + b"\x00", bytes(SIGNATURE_BYTES)])
def test_other_lengths_hold_nothing(signature):
    assert not verify(KEY.public, "test", b"message", signature)


@pytest.mark.parametrize("ed25519", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
@pytest.mark.parametrize("mldsa", [bytes(1952), b"\xff" * 1952])
def test_hostile_keys_hold_nothing_and_crash_nothing(ed25519, mldsa):
    hostile = PublicKey(ed25519, mldsa)
    assert not verify(hostile, "test", b"message", SIGNATURE)
    assert not verify(hostile, "test", b"message", bytes(SIGNATURE_BYTES))
    assert not verify(hostile, "test", b"message", b"\x01" + bytes(SIGNATURE_BYTES - 1))


@pytest.mark.parametrize("public", [PublicKey(b"", bytes(1952)), PublicKey(KEY.public.ed25519, b"short")])
def test_keys_of_other_sizes_hold_nothing(public):
    assert not verify(public, "test", b"message", SIGNATURE)


def test_the_classical_half_alone():
    half = KEY.sign_ed25519("hello", b"exporter")
    assert len(half) == 64
    assert verify_ed25519(KEY.public, "hello", b"exporter", half)
    assert not verify_ed25519(KEY.public, "hello", b"importer", half)
    assert not verify_ed25519(KEY.public, "hello", b"exporter", b"")
    assert not verify_ed25519(KEY.public, "hello", b"exporter", half + b"\x00")


def test_signed_nouns_come_back():
    noun = HpkeKeyStatement(KEY.id, bytes(1216))
    signed = KEY.sign_noun("hpke-key", noun)
    assert signed.body == encode(noun)
    assert open_signed(signed, HpkeKeyStatement, KEY.public, "hpke-key") == noun


def test_a_signed_noun_is_checked_before_it_is_read():
    signed = KEY.sign_noun("hpke-key", HpkeKeyStatement(KEY.id, bytes(1216)))
    for public, purpose, body in (
        (OTHER.public, "hpke-key", signed.body),
        (KEY.public, "receipt", signed.body),
        (KEY.public, "hpke-key", signed.body[:-1]),
        (KEY.public, "hpke-key", b"\xff"),
    ):
        with pytest.raises(QuStreamError) as caught:
            open_signed(Signed(body, signed.signature), HpkeKeyStatement, public, purpose)
        assert caught.value.code == "E-SIGNATURE"


def test_signed_bytes_that_are_no_such_noun_are_refused():
    with pytest.raises(QuStreamError) as caught:
        open_signed(Signed(b"\x90", KEY.sign("hpke-key", b"\x90")), HpkeKeyStatement, KEY.public, "hpke-key")
    assert caught.value.code == "E-WIRE-MALFORMED"


def test_nothing_of_the_seed_is_shown():
    shown = repr(KEY) + str(KEY)
    assert KEY.seed.hex() not in shown
    assert repr(KEY.seed) not in shown
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    for size in (0, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            SigningKey(bytes(size))
