"""Signatures of emulated devices hold under their own key, and under no other."""

from __future__ import annotations

from qustream.identity.device_evidence import is_p256_key, verify_p256
from qustream.identity.p256 import P256Key


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
