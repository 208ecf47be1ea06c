"""Making an answer: block, salt, receipt, seal (`proto/spec/delivery.md` §4). For a worker thread: milliseconds of arithmetic."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

from qnode.service.pool import PooledUnit
from qnode.store import SealedAnswer, Store
from qustream import block
from qustream.identity.signing import SigningKey
from qustream.wire.codec import encode
from qustream.wire.keys import KeyAnswer, KeyBody, Receipt

__all__ = ["Built", "build_answer"]

SALT_BYTES = 32  # as much as the keys drawn from it hold


@dataclass(frozen=True, slots=True)
class Built:
    """An answer that nobody has seen yet: as it will leave, and as it will be stored."""

    answer: bytes = field(repr=False)
    sealed: SealedAnswer = field(repr=False)


def build_answer(unit: PooledUnit, seed: bytes, body: KeyBody, *, at: bytes, key: SigningKey, store: Store, issued_ms: int) -> Built:
    """Make the answer to `body` from `unit` and `seed`, sealed for index `at`, with a receipt signed by `key`.

    The salt comes from this machine's own operating system, so that the QRNG server alone knows no key. Errors: `E-SCATTER-SHORT`."""
    # The device that asked opens the block at once: adr/0002.
    made = block.build(bytes(unit.material), unit.scatter, seed, read_back=False)
    salt = os.urandom(SALT_BYTES)
    digest = hashlib.sha256(made)
    digest.update(salt)
    receipt = Receipt(
        chain=body.binding.chain,
        node=key.id,
        grant=body.grant,
        index=body.index,
        seed_hash=body.seed_hash,
        block_hash=digest.digest(),
        leaf=unit.leaf,
        issued_ms=issued_ms,
        expires_ms=issued_ms + body.lifetime_ms,
    )
    answer = encode(KeyAnswer(made, salt, unit.attestation, unit.proof, key.sign_noun("receipt", receipt)))
    return Built(answer, store.seal_answer(at, answer))
