"""Sealing under a key one already holds, and deriving keys (`proto/spec/identity.md`, "Sealing").

AES-256-GCM with a random 12-byte nonce: at most 2^32 seals a key (SP 800-38D §8.3), which is why long-lived keys derive one
key a use.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qustream.errors import fault
from qustream.identity.signing import purpose_text

__all__ = ["KEY_BYTES", "SEAL_OVERHEAD_BYTES", "derive", "seal", "unseal"]

# AES-256-GCM, SP 800-38D.
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
SEAL_OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Return nonce ‖ ciphertext ‖ tag, 28 bytes more than `plaintext`. `key`: 32 bytes; `aad`: where the value belongs."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + _cipher(key).encrypt(nonce, plaintext, aad)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Return the plaintext of `sealed`. Errors: `E-DATA-CORRUPT` for a wrong key, other `aad`, or any changed bit."""
    cipher = _cipher(key)
    if len(sealed) < SEAL_OVERHEAD_BYTES:
        raise fault("E-DATA-CORRUPT", "a sealed value is too short")
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
    except InvalidTag:
        raise fault("E-DATA-CORRUPT", "a sealed value does not open under its key") from None


def derive(key: bytes, purpose: str, length: int = KEY_BYTES) -> bytes:
    """`length` bytes of HKDF-SHA-512 (RFC 5869), no salt, info = `qustream/1/` ‖ `purpose`. `key`: at least 32 secret bytes."""
    if len(key) < KEY_BYTES:
        raise ValueError("keys are derived from 32 bytes or more")
    return HKDF(algorithm=SHA512(), length=length, salt=None, info=purpose_text(purpose)).derive(key)


def _cipher(key: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise ValueError("a sealing key is 32 bytes")
    return AESGCM(key)
