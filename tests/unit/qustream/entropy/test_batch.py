"""Leaves, batches and their proofs."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from qustream.entropy import build_batch, check_leaf, leaf_data, leaf_data_of_hash, leaf_hash
from qustream.entropy.batch import BATCH_UNITS_MAX, LEAF_DATA_BYTES
from qustream.errors import QuStreamError
from qustream.model.entropy import MATERIAL_BYTES, Attestation, Conditioning, DeviceDescriptor, HealthReport, LeafProof

NODES = [bytes([i]) * 32 for i in range(3)]
MATERIAL = [hashlib.shake_256(bytes([i])).digest(MATERIAL_BYTES) for i in range(5)]


def attestation_of(root: bytes, leaves: int) -> Attestation:
    device = DeviceDescriptor("chardev", "", "", 8, 8000, 0, False, False, "")
    return Attestation(
        "c", bytes(32), 0, device, HealthReport(1, 1, 0, 6, 30, 512, (40, 60)), Conditioning("x", 32, 16, 1000), 0, 1, 2, root, leaves
    )


def batch_of(count: int):
    units = [(NODES[i % 3], 100 + i, hashlib.sha256(MATERIAL[i % 5]).digest()) for i in range(count)]
    root, proofs = build_batch(units)
    return attestation_of(root, count), proofs


def refused(*args) -> None:
    with pytest.raises(QuStreamError) as caught:
        check_leaf(*args)
    assert caught.value.code == "E-PROOF"


def test_the_leaf_is_node_sequence_hash():
    data = leaf_data(NODES[1], 258, MATERIAL[0])
    assert data == NODES[1] + b"\0\0\0\0\0\0\x01\x02" + hashlib.sha256(MATERIAL[0]).digest()
    assert len(data) == LEAF_DATA_BYTES
    assert leaf_data_of_hash(NODES[1], 258, hashlib.sha256(MATERIAL[0]).digest()) == data
    assert leaf_hash(NODES[1], 258, MATERIAL[0]) == hashlib.sha256(b"\0" + data).digest()


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.data())
def test_every_unit_of_a_batch_proves_itself_and_no_other(count, data):
    attestation, proofs = batch_of(count)
    i = data.draw(st.integers(0, count - 1))
    node, material = NODES[i % 3], MATERIAL[i % 5]
    assert proofs[i].index == i
    assert check_leaf(attestation, node, material, proofs[i]) == leaf_hash(node, 100 + i, material)
    refused(attestation, NODES[(i + 1) % 3], material, proofs[i])
    refused(attestation, node, MATERIAL[(i + 1) % 5], proofs[i])
    refused(attestation, node, material, replace(proofs[i], sequence=99))
    refused(attestation, node, material, replace(proofs[i], index=count))
    refused(attestation, node, material, replace(proofs[i], path=(*proofs[i].path, bytes(32))))
    refused(replace(attestation, root=bytes(32)), node, material, proofs[i])
    if proofs[i].path:
        refused(attestation, node, material, replace(proofs[i], path=proofs[i].path[1:]))
        refused(attestation, node, material, replace(proofs[i], path=(bytes(32), *proofs[i].path[1:])))
        other = (i + 1) % count
        refused(attestation, node, material, replace(proofs[i], index=other))


@given(
    st.binary(max_size=64),
    st.integers(0, (1 << 63) - 1),
    st.integers(0, (1 << 32) - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=32),
)
def test_hostile_material_and_proofs_are_refused(material, sequence, index, path):
    attestation, _ = batch_of(3)
    proof = LeafProof(sequence, index, tuple(path))
    refused(attestation, NODES[0], material, proof)
    refused(attestation, NODES[0], MATERIAL[4], proof)


def test_the_largest_batch():
    units = [(NODES[0], i, i.to_bytes(32, "big")) for i in range(BATCH_UNITS_MAX)]
    _, proofs = build_batch(units)
    assert all(len(proof.path) == 12 for proof in proofs)
    with pytest.raises(AssertionError):
        build_batch([*units, units[0]])
    with pytest.raises(AssertionError):
        build_batch([])
