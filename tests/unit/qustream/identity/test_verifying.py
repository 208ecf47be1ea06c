"""Checking with remembered keys says what checking without says."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from qustream.identity import verifying
from qustream.identity.signing import SigningKey, verify
from qustream.identity.verifying import HYBRID_PUBLIC_BYTES, verify_hybrid, verify_vote_key

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
PUBLIC = KEY.public.ed25519 + KEY.public.mldsa
MESSAGE = b"to whom it may concern"
SIGNATURE = KEY.sign("receipt", MESSAGE)
VOTE = MLDSA44PrivateKey.from_seed_bytes(b"v" * 32)
VOTE_PUBLIC = VOTE.public_key().public_bytes_raw()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("public", "purpose", "message", "signature"),
    [
        (KEY.public, "receipt", MESSAGE, SIGNATURE),
        (OTHER.public, "receipt", MESSAGE, SIGNATURE),
        (KEY.public, "transaction", MESSAGE, SIGNATURE),
        (KEY.public, "receipt", MESSAGE + b"!", SIGNATURE),
        (KEY.public, "receipt", MESSAGE, flipped(SIGNATURE, 3)),  # the Ed25519 half
        (KEY.public, "receipt", MESSAGE, flipped(SIGNATURE, 2000)),  # the ML-DSA half
        (KEY.public, "receipt", MESSAGE, SIGNATURE[:-1]),
        (KEY.public, "receipt", MESSAGE, b""),
    ],
)
def test_hybrid_signatures_as_the_plain_way(public, purpose, message, signature):
    expected = verify(public, purpose, message, signature)
    for _ in range(2):  # the second time the key is remembered
        assert verify_hybrid(public.ed25519 + public.mldsa, purpose, message, signature) is expected
    assert expected is ((public, purpose, message, signature) == (KEY.public, "receipt", MESSAGE, SIGNATURE))


@pytest.mark.parametrize("public", [b"", PUBLIC[:-1], PUBLIC + b"!", bytes(HYBRID_PUBLIC_BYTES), bytes([0xFF]) * HYBRID_PUBLIC_BYTES])
def test_what_is_no_key_holds_nothing(public):
    assert verify_hybrid(public, "receipt", MESSAGE, SIGNATURE) is False
    assert verify_vote_key(public, b"qustream/1/vote", MESSAGE, bytes(2420)) is False


def test_votes():
    signature = VOTE.sign(MESSAGE, b"qustream/1/vote")
    assert verify_vote_key(VOTE_PUBLIC, b"qustream/1/vote", MESSAGE, signature)
    assert not verify_vote_key(VOTE_PUBLIC, b"qustream/1/validator", MESSAGE, signature)
    assert not verify_vote_key(VOTE_PUBLIC, b"qustream/1/vote", MESSAGE, flipped(signature, 7))
    assert not verify_vote_key(VOTE_PUBLIC, b"qustream/1/vote", MESSAGE, b"short")
    assert not verify_vote_key(VOTE_PUBLIC, bytes(256), MESSAGE, signature)


def test_keys_that_are_remembered_are_bounded():
    assert verifying._halves.cache_info().maxsize == verifying.ACCOUNT_KEYS_MAX
    assert verifying._vote_key.cache_info().maxsize == verifying.VOTE_KEYS_MAX
