"""What a node answered, checked to the last byte before anything is made of it (`proto/spec/client.md`, "Checks")."""

from __future__ import annotations

import hashlib
from dataclasses import KW_ONLY, dataclass, field

from qustream import block
from qustream.entropy import CLOCK_SKEW_MAX_MS, check_attestation, check_leaf
from qustream.errors import CODES, QuStreamError, fault
from qustream.identity.device_evidence import check_evidence
from qustream.identity.signing import open_signed
from qustream.model.entropy import Attestation
from qustream.model.network import NodeRecord
from qustream.registry import Registry, if_known
from qustream.wire.codec import decode
from qustream.wire.keys import Acknowledged, Alert, AlertsAnswer, Erasure, KeyAnswer, Receipt, RevokeAnswer
from qustream.wire.rpc import BODY_MAX_BYTES

__all__ = ["CheckedBlock", "Expected", "Provenance", "check_acknowledged", "check_alerts", "check_erasure", "check_key_answer"]

# An answer may be a repeated one, ten minutes old (delivery.md), by a clock as wrong as one may be.
REPLAY_MAX_MS = 600_000 + CLOCK_SKEW_MAX_MS


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a block's randomness came from, proven: the QRNG server, its attestation, the unit's leaf in it.

    `maker_pinned`: the network says which maker's certificate the device must have, and it has it."""

    server: bytes
    server_name: str
    attestation: Attestation
    leaf: bytes
    maker_pinned: bool = False


@dataclass(frozen=True, slots=True)
class CheckedBlock:
    """An opened block that `node` signed for. `block_hash`: SHA-256(R' ‖ salt). `provenance` is None exactly if there is a `doubt`."""

    node: NodeRecord
    material: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    seed: bytes = field(repr=False)
    block_hash: bytes
    expires_ms: int
    provenance: Provenance | None
    doubt: QuStreamError | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What was asked: the answer must be to this. `lifetime_ms`: of a block that was just asked for; `block_hash`: of the envelope's
    header, when a block is collected."""

    grant: bytes
    index: int
    seed: bytes = field(repr=False)
    _: KW_ONLY
    lifetime_ms: int | None = None
    block_hash: bytes | None = None


def check_key_answer(data: bytes, *, node: NodeRecord, expected: Expected, registry: Registry, at_ms: int) -> CheckedBlock:
    """Decode and check a `KeyAnswer`. Cheap checks first; the block is opened only when the node has signed for these very bytes.

    `at_ms`: when the attestation must be good: now for a block just made, the envelope's `created_ms` for a collected one; never the
    receipt's own time, which is the node's word. A collected block is the one its sender checked and signed for (`block_hash`), so trouble
    with its attestation, such as a server retired since, becomes `doubt` and does not keep the recipient from his file.
    Errors: `E-WIRE-*`, `E-SIGNATURE`, `E-ANSWER-INVALID`, `E-BLOCK-OPEN`, `E-PROOF`, `E-ATTESTATION*`.
    """
    answer = decode(data, KeyAnswer, max_bytes=BODY_MAX_BYTES)
    block_hash = hashlib.sha256(answer.block + answer.salt).digest()
    if expected.block_hash is not None and block_hash != expected.block_hash:
        raise fault("E-ANSWER-INVALID", "another block than the envelope names")
    receipt = open_signed(answer.receipt, Receipt, node.key, "receipt")
    _check_receipt(receipt, node, expected, block_hash=block_hash, chain=registry.chain, at_ms=at_ms)
    material = block.open(answer.block, expected.seed)
    provenance, doubt = None, None
    try:
        provenance = _provenance(answer, material, receipt, node=node, registry=registry, at_ms=at_ms)
    except QuStreamError as error:
        if expected.block_hash is None:
            raise
        doubt = error
    return CheckedBlock(node, material, answer.salt, expected.seed, block_hash, receipt.expires_ms, provenance, doubt)


def _provenance(answer: KeyAnswer, material: bytes, receipt: Receipt, *, node: NodeRecord, registry: Registry, at_ms: int) -> Provenance:
    attestation = decode(answer.attestation.body, Attestation, max_bytes=len(answer.attestation.body))
    server = if_known(registry.qrng_server, attestation.server)
    if server is None:  # the node's doing, not this user's
        raise fault("E-ATTESTATION", "its QRNG server is not registered")
    open_signed(answer.attestation, Attestation, server.key, "attestation")
    check_attestation(attestation, chain=registry.chain, server=server, at_ms=at_ms)
    check_evidence(attestation.device, server.device_authorities)
    leaf = check_leaf(attestation, node.key.id, material, answer.proof)
    if leaf != receipt.leaf:
        raise fault("E-ANSWER-INVALID", "the receipt names another unit than the block was made of")
    return Provenance(attestation.server, server.name, attestation, leaf, maker_pinned=bool(server.device_authorities))


def _check_receipt(receipt: Receipt, node: NodeRecord, expected: Expected, *, block_hash: bytes, chain: str, at_ms: int) -> None:
    wrong = [
        name
        for name, holds in (
            ("network", receipt.chain == chain),
            ("node", receipt.node == node.key.id),
            ("grant", receipt.grant == expected.grant),
            ("index", receipt.index == expected.index),
            ("seed", receipt.seed_hash == hashlib.sha256(expected.seed).digest()),
            ("block", receipt.block_hash == block_hash),
            ("lifetime", expected.lifetime_ms in (None, receipt.expires_ms - receipt.issued_ms)),
            ("time", expected.lifetime_ms is None or -REPLAY_MAX_MS <= receipt.issued_ms - at_ms <= CLOCK_SKEW_MAX_MS),
        )
        if not holds
    ]
    if wrong:
        raise fault("E-ANSWER-INVALID", f"the receipt is for another {', '.join(wrong)}")


def check_acknowledged(data: bytes) -> bool:
    """Whether the node has erased the block with this acknowledgement."""
    return decode(data, Acknowledged, max_bytes=len(data)).erased


def check_erasure(data: bytes, *, node: NodeRecord, grant: bytes, index: int, chain: str) -> Erasure:
    """A node's signed statement of an erasure, for this very block. Errors: `E-WIRE-*`, `E-SIGNATURE`, `E-ANSWER-INVALID`."""
    erasure = open_signed(decode(data, RevokeAnswer, max_bytes=len(data)).erasure, Erasure, node.key, "erasure")
    if (erasure.chain, erasure.node, erasure.grant, erasure.index) != (chain, node.key.id, grant, index):
        raise fault("E-ANSWER-INVALID", "the erasure receipt is for another block")
    return erasure


def check_alerts(data: bytes) -> tuple[Alert, ...]:
    """What a node has noticed. Errors: `E-WIRE-*`; `E-ANSWER-INVALID` for a code that is none: codes are shown on terminals."""
    alerts = decode(data, AlertsAnswer, max_bytes=len(data)).alerts
    if any(alert.code not in CODES for alert in alerts):
        raise fault("E-ANSWER-INVALID", "an alert with a code this version does not know")
    return alerts
