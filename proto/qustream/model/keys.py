"""Public keys and what a master key says of its devices (`proto/spec/identity.md`)."""

from __future__ import annotations

import hashlib
from typing import Annotated

from msgspec import Meta

from qustream.model.base import U16, U63, Bytes32, Label, Noun

__all__ = ["HPKE_PUBLIC_BYTES", "DeviceCertificate", "HpkeKeyStatement", "HpkePublic", "PublicKey"]

MLDSA65_PUBLIC_BYTES = 1952  # FIPS 204
# Raw ML-KEM-768 encapsulation key (1,184 bytes) followed by the raw X25519 public key (32 bytes).
HPKE_PUBLIC_BYTES = 1216
HpkePublic = Annotated[bytes, Meta(min_length=HPKE_PUBLIC_BYTES, max_length=HPKE_PUBLIC_BYTES)]


class PublicKey(Noun, frozen=True):
    """A hybrid verification key: raw Ed25519 and raw ML-DSA-65 halves."""

    ed25519: Bytes32
    mldsa: Annotated[bytes, Meta(min_length=MLDSA65_PUBLIC_BYTES, max_length=MLDSA65_PUBLIC_BYTES)]

    @property
    def id(self) -> bytes:
        """The 32-byte id of whoever holds this key: BLAKE2b-256 over both raw halves."""
        return hashlib.blake2b(self.ed25519 + self.mldsa, digest_size=32).digest()


class DeviceCertificate(Noun, frozen=True):
    """A user master's statement about one of its devices; travels as `Signed`, purpose `qustream/1/device-certificate`.

    `stripe` is the device's place among the user's devices: it takes the indices j of a grant with
    j mod stripes == stripe, so that two devices never race for one index.
    """

    user: Bytes32
    device_key: PublicKey
    stripe: U16
    label: Label
    issued_ms: U63
    expires_ms: U63


class HpkeKeyStatement(Noun, frozen=True):
    """A user master's statement of the user's HPKE key; travels as `Signed`, purpose `qustream/1/hpke-key`."""

    user: Bytes32
    hpke: HpkePublic
