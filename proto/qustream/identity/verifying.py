"""Checking many signatures of few keys (`proto/spec/mempool.md`, §4): what follows from a public key alone is kept, within bounds.

For a process that does nothing else; `qustream.identity.signing.verify` is for everybody else and says the same.
"""

from __future__ import annotations

from functools import lru_cache

import nacl.exceptions
import nacl.signing
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey, MLDSA65PublicKey

from qustream.identity.signing import ED25519_SIGNATURE_BYTES, SIGNATURE_BYTES, purpose_text

__all__ = ["HYBRID_PUBLIC_BYTES", "verify_hybrid", "verify_vote_key"]

# The Ed25519 half, then ML-DSA-65's.
ED25519_PUBLIC_BYTES, HYBRID_PUBLIC_BYTES = 32, 32 + 1952
# Accounts that send more than once while their key is remembered: a parsed key has 14 KB, and saves a twentieth of a verification.
ACCOUNT_KEYS_MAX = 256
# The validators of this rotation and of the next.
VOTE_KEYS_MAX = 256


@lru_cache(ACCOUNT_KEYS_MAX)
def _halves(public: bytes) -> tuple[nacl.signing.VerifyKey, MLDSA65PublicKey]:
    """Errors: ValueError, and nacl's own."""
    return nacl.signing.VerifyKey(public[:ED25519_PUBLIC_BYTES]), MLDSA65PublicKey.from_public_bytes(public[ED25519_PUBLIC_BYTES:])


@lru_cache(VOTE_KEYS_MAX)
def _vote_key(public: bytes) -> MLDSA44PublicKey:
    """Errors: ValueError."""
    return MLDSA44PublicKey.from_public_bytes(public)


def verify_hybrid(public: bytes, purpose: str, message: bytes, signature: bytes) -> bool:
    """As `signing.verify`; `public`: both raw halves, one behind the other. Never raises on hostile input."""
    if len(signature) != SIGNATURE_BYTES or len(public) != HYBRID_PUBLIC_BYTES:
        return False
    full = purpose_text(purpose)
    statement = b"".join((bytes([len(full)]), full, public, message))
    try:
        ed25519, mldsa = _halves(public)
        ed25519.verify(statement, signature[:ED25519_SIGNATURE_BYTES])  # four times cheaper, so it goes first
        mldsa.verify(signature[ED25519_SIGNATURE_BYTES:], statement)
    except (InvalidSignature, nacl.exceptions.CryptoError, ValueError, TypeError):
        return False
    return True


def verify_vote_key(public: bytes, context: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ML-DSA-44 under a raw vote key holds, with this context string. Never raises on hostile input."""
    try:
        _vote_key(public).verify(signature, message, context)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
