"""The signing half of ECDSA over P-256 with SHA-256 (FIPS 186-5 §6): for emulated devices alone. Verifying is `device_evidence`'s.

Nothing of QuStream's own is signed so. Keys and signatures are raw: two 32-byte numbers, big endian.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

__all__ = ["P256Key"]

# The order of the curve's group (SP 800-186 §3.2.1.3).
_ORDER = 0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551
NUMBER_BYTES = 32  # a coordinate, r or s


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
