"""Signatures of devices hold under their own key, and under no other; hostile keys and signatures are refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qustream.identity.p256 import P256Key, is_p256_key, verify_p256

KEY = P256Key(bytes(32), "device")
SIGNATURE = KEY.sign(b"light")


def test_a_signature_holds_for_its_message_and_key_alone() -> None:
    key, other = P256Key(bytes(32), "device"), P256Key(bytes(32), "authority")
    signature = key.sign(b"light")
    assert is_p256_key(key.public)
    assert len(signature) == 64
    assert verify_p256(key.public, b"light", signature)
    assert not verify_p256(key.public, b"lamp", signature)
    assert not verify_p256(other.public, b"light", signature)


def test_the_same_seed_and_purpose_give_the_same_key() -> None:
    assert P256Key(b"\x01" * 32, "device").public == P256Key(b"\x01" * 32, "device").public
    assert P256Key(b"\x01" * 32, "device").public != P256Key(b"\x02" * 32, "device").public


def test_a_key_shows_nothing_of_itself() -> None:
    assert "object at" in repr(P256Key(bytes(32), "device"))


def test_a_key_is_a_point_of_the_curve() -> None:
    assert is_p256_key(KEY.public)
    for wrong in (bytes(64), b"\xff" * 64, KEY.public[:63], KEY.public + b"\0", b"", KEY.public[32:] + KEY.public[:32]):
        assert not is_p256_key(wrong)
        assert not verify_p256(wrong, b"light", SIGNATURE)


@given(st.binary(max_size=130), st.binary(max_size=130))
def test_no_bytes_make_it_fail_otherwise_than_by_saying_no(key: bytes, signature: bytes) -> None:
    assert not verify_p256(key, b"message", signature)
    assert not verify_p256(KEY.public, b"message", signature)


def test_a_signature_of_another_length_is_none() -> None:
    assert verify_p256(KEY.public, b"light", SIGNATURE)
    assert not verify_p256(KEY.public, b"light", SIGNATURE + b"\0")
    assert not verify_p256(KEY.public, b"light", SIGNATURE[:-1])
