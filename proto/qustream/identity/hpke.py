"""Sealing to a user: HPKE with X-Wing (`proto/spec/identity.md`, "HPKE key").

Sources: RFC 9180, draft-connolly-cfrg-xwing-kem, draft-ietf-hpke-pq.

KEM MLKEM768-X25519, KDF HKDF-SHA256, AEAD AES-256-GCM, base mode, one message a seal. The private key is the 32-byte X-Wing seed.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from qustream.errors import fault
from qustream.model.keys import HPKE_PUBLIC_BYTES

__all__ = ["HPKE_OVERHEAD_BYTES", "HPKE_SEED_BYTES", "HpkeKey", "hpke_seal"]

# Sizes of FIPS 203 and X-Wing.
HPKE_SEED_BYTES = 32
MLKEM_PUBLIC_BYTES = 1184
MLKEM_SEED_BYTES = 64
# The KEM's 1,120 bytes (ML-KEM-768 ciphertext 1,088, X25519 key 32) and the tag.
HPKE_OVERHEAD_BYTES = 1136

_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class HpkeKey:
    """A private HPKE key. Its repr shows nothing of it; the seed is never shown, logged or pickled."""

    __slots__ = ("_key", "_seed", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != HPKE_SEED_BYTES:
            raise ValueError("an HPKE seed is 32 bytes")
        halves = hashlib.shake_256(seed).digest(MLKEM_SEED_BYTES + 32)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(halves[:MLKEM_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(halves[MLKEM_SEED_BYTES:])
        self._seed = seed
        self._key = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public: bytes = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()

    @property
    def seed(self) -> bytes:
        """The secret seed, for a keystore alone."""
        return self._seed

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return what `hpke_seal` sealed to this key with the same `info`.

        Errors: `E-NOT-RECIPIENT` for anything sealed to another key, with another `info`, cut, or changed: HPKE cannot tell
        these apart.
        """
        try:
            return _SUITE.decrypt(sealed, self._key, info)
        except (InvalidTag, ValueError):
            raise fault("E-NOT-RECIPIENT", "this seal does not open with this user's key") from None

    def __repr__(self) -> str:
        return f"<HpkeKey {hashlib.sha256(self.public).hexdigest()[:12]}>"

    def __reduce__(self) -> str:
        raise TypeError("HPKE keys are not pickled")


def hpke_seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal `plaintext` to the 1,216-byte key `public`; 1,136 bytes longer. `info` binds the seal to its place.

    Errors: `E-WIRE-MALFORMED` for bytes that are no such key.
    """
    if len(public) != HPKE_PUBLIC_BYTES:
        raise fault("E-WIRE-MALFORMED", f"an HPKE key is {HPKE_PUBLIC_BYTES} bytes, not {len(public)}")
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(public[:MLKEM_PUBLIC_BYTES])
        x25519 = X25519PublicKey.from_public_bytes(public[MLKEM_PUBLIC_BYTES:])
        return _SUITE.encrypt(plaintext, hpke.MLKEM768X25519PublicKey(mlkem, x25519), info)
    except ValueError:
        raise fault("E-WIRE-MALFORMED", "not an HPKE key: a half of it is no valid public key") from None
