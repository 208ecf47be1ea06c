"""The hybrid signing key: Ed25519 and ML-DSA-65 from one 32-byte seed (`proto/spec/identity.md`, "Signing").

Both halves sign `len(purpose) (1 byte) ‖ purpose ‖ Ed25519 key ‖ ML-DSA key ‖ message`; a signature is valid only if both are.
Binding both public keys keeps one half from being lifted into another pair. ML-DSA is hedged (FIPS 204 §3.4): two signatures of
one message differ.
"""

from __future__ import annotations

from typing import TypeVar

import nacl.exceptions
import nacl.signing
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qustream.errors import fault
from qustream.model.base import Noun, Signed
from qustream.model.keys import PublicKey
from qustream.wire.codec import decode, encode

__all__ = ["SEED_BYTES", "SIGNATURE_BYTES", "SigningKey", "open_signed", "verify"]

SEED_BYTES = 32  # one seed for both halves
ED25519_SIGNATURE_BYTES = 64  # RFC 8032
SIGNATURE_BYTES = 3373  # and ML-DSA-65's 3,309 (FIPS 204)
_T = TypeVar("_T", bound=Noun)


def purpose_text(name: str) -> bytes:
    """The full purpose of a short name: `receipt` is signed as `qustream/1/receipt`."""
    return b"qustream/1/" + name.encode("ascii")


def _statement(purpose: str, public: PublicKey, message: bytes) -> bytes:
    full = purpose_text(purpose)
    return bytes([len(full)]) + full + public.ed25519 + public.mldsa + message


class SigningKey:
    """A private hybrid key. Its repr shows the id only; the seed is never shown, logged or pickled."""

    __slots__ = ("_ed25519", "_mldsa", "_seed", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError("a signing seed is 32 bytes")
        halves = HKDF(algorithm=SHA512(), length=64, salt=None, info=purpose_text("signing-key")).derive(seed)
        self._seed = seed
        self._ed25519 = nacl.signing.SigningKey(halves[:32])
        self._mldsa = MLDSA65PrivateKey.from_seed_bytes(halves[32:])
        self.public = PublicKey(bytes(self._ed25519.verify_key), self._mldsa.public_key().public_bytes_raw())

    @property
    def id(self) -> bytes:
        """The 32-byte id of this key (`PublicKey.id`)."""
        return self.public.id

    @property
    def seed(self) -> bytes:
        """The secret seed, for a keystore alone."""
        return self._seed

    @property
    def mldsa(self) -> MLDSA65PrivateKey:
        """The ML-DSA half, for the TLS certificate alone."""
        return self._mldsa

    def sign(self, purpose: str, message: bytes) -> bytes:
        """Return the 3,373-byte hybrid signature of `message` for `purpose` (a short name such as `receipt`)."""
        statement = _statement(purpose, self.public, message)
        return self._ed25519.sign(statement).signature + self._mldsa.sign(statement)

    def sign_ed25519(self, purpose: str, message: bytes) -> bytes:
        """The 64-byte classical half alone: only where the ML-DSA half is proven by the TLS certificate (`Hello.proof`)."""
        return self._ed25519.sign(_statement(purpose, self.public, message)).signature

    def sign_noun(self, purpose: str, noun: Noun) -> Signed:
        """Encode and sign `noun`."""
        body = encode(noun)
        return Signed(body, self.sign(purpose, body))

    def __repr__(self) -> str:
        return f"<SigningKey {self.id.hex()[:12]}>"

    def __reduce__(self) -> str:
        raise TypeError("signing keys are not pickled")


def verify_ed25519(public: PublicKey, purpose: str, message: bytes, signature: bytes) -> bool:
    """Whether the classical half holds; never raises on hostile input."""
    try:
        nacl.signing.VerifyKey(public.ed25519).verify(_statement(purpose, public, message), signature)
    except (nacl.exceptions.CryptoError, ValueError, TypeError):
        return False
    return True


def verify(public: PublicKey, purpose: str, message: bytes, signature: bytes) -> bool:
    """Whether both halves of `signature` hold. Ed25519 goes first: it is four times cheaper. Never raises on hostile input."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    if not verify_ed25519(public, purpose, message, signature[:ED25519_SIGNATURE_BYTES]):
        return False
    try:
        key = MLDSA65PublicKey.from_public_bytes(public.mldsa)
        key.verify(signature[ED25519_SIGNATURE_BYTES:], _statement(purpose, public, message))
    except (InvalidSignature, ValueError):
        return False
    return True


def open_signed(signed: Signed, kind: type[_T], public: PublicKey, purpose: str) -> _T:
    """Verify `signed` and decode its body as `kind`. Errors: `E-SIGNATURE`, and those of `decode`."""
    if not verify(public, purpose, signed.body, signed.signature):
        raise fault("E-SIGNATURE", f"the signature on a {purpose} does not hold")
    return decode(signed.body, kind, max_bytes=len(signed.body))
