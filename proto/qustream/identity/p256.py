"""ECDSA over P-256 with SHA-256 (FIPS 186-5 §6), as the makers of devices use it; nothing of QuStream's own is signed so.

Keys and signatures are raw: two 32-byte numbers, big endian. Private keys are those of emulated devices alone.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

__all__ = ["P256Key", "is_p256_key", "verify_p256"]

# The order of the curve's group (SP 800-186 §3.2.1.3).
_ORDER = 0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551
NUMBER_BYTES = 32  # a coordinate, r or s


def _public_key(key: bytes) -> EllipticCurvePublicKey | None:
    """None if the 64 bytes are no point of the curve."""
    x, y = int.from_bytes(key[:NUMBER_BYTES], "big"), int.from_bytes(key[NUMBER_BYTES:], "big")
    try:
        return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
    except ValueError:
        return None


def is_p256_key(key: bytes) -> bool:
    """Whether 64 hostile bytes x ‖ y are a point of P-256."""
    return len(key) == 2 * NUMBER_BYTES and _public_key(key) is not None


def verify_p256(key: bytes, message: bytes | bytearray, signature: bytes) -> bool:
    """Whether `signature` (r ‖ s, 64 bytes) over `message` holds under `key` (x ‖ y, 64 bytes); never raises on hostile input."""
    if len(key) != 2 * NUMBER_BYTES or len(signature) != 2 * NUMBER_BYTES:
        return False
    public = _public_key(key)
    if public is None:
        return False
    r, s = int.from_bytes(signature[:NUMBER_BYTES], "big"), int.from_bytes(signature[NUMBER_BYTES:], "big")
    try:
        public.verify(encode_dss_signature(r, s), message, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


class P256Key:
    """A private key made from a seed: the same seed and purpose give the same key. Its repr shows nothing."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes, purpose: str) -> None:
        # 512 bits reduced: the bias against a uniform scalar is below 2^-255.
        wide = hashlib.sha512(b"qustream/1/p256/" + purpose.encode("ascii") + b"\x00" + seed).digest()
        self._key = derive_private_key(int.from_bytes(wide, "big") % (_ORDER - 1) + 1, SECP256R1())
        numbers = self._key.public_key().public_numbers()
        self.public = numbers.x.to_bytes(NUMBER_BYTES, "big") + numbers.y.to_bytes(NUMBER_BYTES, "big")

    def sign(self, message: bytes) -> bytes:
        """r ‖ s, 64 bytes. Randomised: two signatures of one message differ."""
        r, s = decode_dss_signature(self._key.sign(message, ECDSA(SHA256())))
        return r.to_bytes(NUMBER_BYTES, "big") + s.to_bytes(NUMBER_BYTES, "big")
