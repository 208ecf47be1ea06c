"""The leaf of a unit, the tree over a batch, and the check of one leaf (`proto/spec/entropy-feed.md`, "Units, attestations").

A leaf says: this material was made for this node, under this sequence number. Scatter is outside it, so whoever opens a block can
compute the leaf again from the material he found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from qustream.errors import fault
from qustream.model.entropy import MATERIAL_BYTES, Attestation, LeafProof
from qustream.rules import merkle

__all__ = ["BATCH_UNITS_MAX", "LEAF_DATA_BYTES", "build_batch", "check_leaf", "leaf_data", "leaf_data_of_hash", "leaf_hash"]

# A batch of 4,096 units is 1 GiB of material: whoever needs more at once signs two attestations.
BATCH_UNITS_MAX = 4096
LEAF_DATA_BYTES = 72  # node id 32, sequence 8, SHA-256 32
HASH_BYTES = 32  # ids and SHA-256 alike


def leaf_data_of_hash(node: bytes, sequence: int, material_sha256: bytes) -> bytes:
    """The 72 bytes of a leaf: node id (32) ‖ sequence (8, big endian) ‖ SHA-256 of the material (32)."""
    assert len(node) == HASH_BYTES, "a node id has 32 bytes"
    assert len(material_sha256) == HASH_BYTES, "a SHA-256 has 32 bytes"
    return node + sequence.to_bytes(8, "big") + material_sha256


def leaf_data(node: bytes, sequence: int, material: bytes | memoryview) -> bytes:
    """The 72 bytes of the leaf of `material` (R ‖ kGen, 262,270 bytes)."""
    return leaf_data_of_hash(node, sequence, hashlib.sha256(material).digest())


def leaf_hash(node: bytes, sequence: int, material: bytes | memoryview) -> bytes:
    """The RFC 6962 hash of the unit's leaf, 32 bytes: what a receipt names."""
    return merkle.leaf_hash(leaf_data(node, sequence, material))


def build_batch(units: Sequence[tuple[bytes, int, bytes]]) -> tuple[bytes, list[LeafProof]]:
    """The root over a batch and each unit's proof, in order.

    `units`: (node id, sequence, SHA-256 of the material), 1 to 4,096 of them.
    """
    assert 1 <= len(units) <= BATCH_UNITS_MAX, "a batch has 1 to 4,096 units"
    tree = merkle.Tree(leaf_data_of_hash(node, sequence, digest) for node, sequence, digest in units)
    proofs = [LeafProof(sequence, index, tree.path(index)) for index, (_, sequence, _) in enumerate(units)]
    return tree.root, proofs


def check_leaf(attestation: Attestation, node: bytes, material: bytes | memoryview, proof: LeafProof) -> bytes:
    """Check that `material`, made for `node`, stands in the attestation's batch; return its leaf hash (32 bytes).

    `material` and `proof` may be hostile; `attestation` must have passed `check_attestation`. Errors: `E-PROOF`.
    """
    if len(material) != MATERIAL_BYTES:
        raise fault("E-PROOF", f"material of {len(material)} bytes where {MATERIAL_BYTES} belong")
    leaf = leaf_hash(node, proof.sequence, material)
    if merkle.root_of_path(leaf, proof.index, attestation.leaves, proof.path) != attestation.root:
        raise fault("E-PROOF", "the material is not in the batch that the QRNG server attested, or was made for another node")
    return leaf
