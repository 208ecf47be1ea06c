"""The vote key: what a validator signs with, each second and as one of a hundred (`proto/spec/consensus.md`, §1).

ML-DSA-44 alone: half the bytes of the hybrid signature, and a twelfth of a round's time. It signs statements and its registration, each
under a context string of its own, and nothing else. It is hedged, as all our ML-DSA is: two signatures of one statement differ.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from msgspec import Meta

from qustream.errors import QuStreamError, fault
from qustream.identity import keystore
from qustream.identity.reveals import LINKS_MAX, HashChain
from qustream.model.base import Bytes32, Noun
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import VOTE_SIGNATURE_BYTES, Statement
from qustream.wire.transactions import ValidatorStatement

__all__ = [
    "CHAINS_MAX", "REGISTRATION_CONTEXT", "SEED_BYTES", "VOTE_CONTEXT", "RevealSeed", "VoteKey", "VoteSecrets", "read", "replace",
    "verify_registration", "verify_under", "verify_vote", "write",
]  # fmt: skip

SEED_BYTES = 32  # FIPS 204: of a key pair
VOTE_CONTEXT, REGISTRATION_CONTEXT = b"qustream/1/vote", b"qustream/1/validator"
KIND = "vote"
# The chain that is in use and one that was registered before: an edit counts from when it is executed, so both are needed for a while.
CHAINS_MAX = 4
SECRETS_MAX_BYTES = 512  # five seeds and their lengths


class VoteKey:
    """A private vote key. Its repr shows the public half's hash; the seed is never shown, logged or pickled."""

    __slots__ = ("_mldsa", "_seed", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError("a vote key's seed is 32 bytes")
        self._seed = seed
        self._mldsa = MLDSA44PrivateKey.from_seed_bytes(seed)
        self.public = self._mldsa.public_key().public_bytes_raw()

    @property
    def id(self) -> bytes:
        """What a seat calls it: SHA-256 of the public half."""
        return hashlib.sha256(self.public).digest()

    @property
    def seed(self) -> bytes:
        """The secret seed, for a keystore alone."""
        return self._seed

    def sign(self, statement: Statement) -> bytes:
        """The 2,420-byte signature of a statement. Whoever calls has written into the sign-state that it may be signed."""
        return self._mldsa.sign(encode(statement), VOTE_CONTEXT)

    def sign_registration(self, statement: ValidatorStatement) -> bytes:
        """The proof that whoever registers this key holds it."""
        return self._mldsa.sign(encode(statement), REGISTRATION_CONTEXT)

    def __repr__(self) -> str:
        return f"<VoteKey {self.id.hex()[:12]}>"

    def __reduce__(self) -> str:
        raise TypeError("vote keys are not pickled")


def verify_under(public: bytes, context: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a vote key signed `message` under this context string; never raises on hostile input."""
    if len(signature) != VOTE_SIGNATURE_BYTES:
        return False
    try:
        MLDSA44PublicKey.from_public_bytes(public).verify(signature, message, context)
    except (InvalidSignature, ValueError):
        return False
    return True


def verify_vote(public: bytes, statement: Statement, signature: bytes) -> bool:
    """Whether a vote key signed a statement; never raises on hostile input."""
    return verify_under(public, VOTE_CONTEXT, encode(statement), signature)


def verify_registration(public: bytes, statement: ValidatorStatement, signature: bytes) -> bool:
    """Whether a vote key signed its registration; never raises on hostile input."""
    return verify_under(public, REGISTRATION_CONTEXT, encode(statement), signature)


class RevealSeed(Noun, frozen=True):
    """What a hash chain is made of."""

    seed: Bytes32
    links: Annotated[int, Meta(ge=1, le=LINKS_MAX)]

    def __repr__(self) -> str:
        return f"<RevealSeed, {self.links} links>"


class VoteSecrets(Noun, frozen=True):
    """What a validator's keystore holds. `reveals`: its hash chains, the newest last."""

    seed: Bytes32
    reveals: Annotated[tuple[RevealSeed, ...], Meta(min_length=1, max_length=CHAINS_MAX)]

    def chains(self) -> list[HashChain]:
        """The hash chains, the newest first; takes seconds for a million links."""
        return [HashChain(each.seed, each.links) for each in reversed(self.reveals)]

    def with_chain(self, chain: RevealSeed) -> VoteSecrets:
        """The same with a further hash chain; the oldest goes if there are too many."""
        return VoteSecrets(self.seed, (*self.reveals, chain)[-CHAINS_MAX:])

    def __repr__(self) -> str:
        return "<VoteSecrets>"


def write(path: Path, secrets: VoteSecrets, passphrase: bytes) -> None:
    """Seal into a new keystore. Errors: those of `keystore.write`."""
    keystore.write(path, KIND, encode(secrets), passphrase)


def replace(path: Path, secrets: VoteSecrets, passphrase: bytes) -> None:
    """Seal in place of what is there. Errors: those of `keystore.replace`."""
    keystore.replace(path, KIND, encode(secrets), passphrase)


def read(path: Path, passphrase: bytes) -> VoteSecrets:
    """What a vote keystore holds. Errors: those of `keystore.read`."""
    try:
        return decode(keystore.read(path, KIND, passphrase), VoteSecrets, max_bytes=SECRETS_MAX_BYTES)
    except QuStreamError as error:
        if error.code.startswith("E-WIRE"):
            raise fault("E-KEYSTORE-OPEN", f"{path} holds no vote key") from None
        raise
