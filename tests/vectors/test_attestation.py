"""Leaves, batches, proofs and attestations against the published vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from qustream.entropy import build_batch, check_attestation, check_leaf, leaf_hash
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey, open_signed, verify
from qustream.model.base import Signed
from qustream.model.entropy import MATERIAL_BYTES, Attestation, Conditioning, DeviceDescriptor, HealthReport, LeafProof
from qustream.model.network import QrngServerRecord
from qustream.wire.codec import encode

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/attestation.json").read_text())
KEY = SigningKey(bytes.fromhex(VECTORS["server_seed"]))
CHANGED = {"attestation", "device", "health", "conditioning"}


def material(label: str) -> bytes:
    return hashlib.shake_256(label.encode()).digest(MATERIAL_BYTES)


def attestation(changes: dict | None = None) -> Attestation:
    given = VECTORS["attestation"] | {
        "server": bytes.fromhex(VECTORS["attestation"]["server"]),
        "root": bytes.fromhex(VECTORS["attestation"]["root"]),
    }
    changes = changes or {}
    fields = given | changes.get("attestation", {})
    fields["device"] = DeviceDescriptor(**given["device"] | changes.get("device", {}))
    fields["health"] = HealthReport(
        **given["health"] | {"alpha_exponents": tuple(given["health"]["alpha_exponents"])} | changes.get("health", {})
    )
    fields["conditioning"] = Conditioning(**given["conditioning"] | changes.get("conditioning", {}))
    return Attestation(**fields)


@pytest.mark.parametrize("batch", VECTORS["batches"], ids=lambda batch: f"{len(batch['units'])} units")
def test_batches(batch):
    rows = [(bytes.fromhex(u["node"]), u["sequence"], hashlib.sha256(material(u["material"])).digest()) for u in batch["units"]]
    root, proofs = build_batch(rows)
    assert root.hex() == batch["root"]
    stated = msgspec.structs.replace(attestation(), root=root, leaves=len(rows))
    for index, (unit, proof) in enumerate(zip(batch["units"], proofs, strict=True)):
        assert proof == LeafProof(unit["sequence"], index, tuple(map(bytes.fromhex, unit["path"])))
        node = bytes.fromhex(unit["node"])
        assert leaf_hash(node, unit["sequence"], material(unit["material"])).hex() == unit["leaf"]
        assert check_leaf(stated, node, material(unit["material"]), proof).hex() == unit["leaf"]


def test_the_signed_body():
    body, signature = bytes.fromhex(VECTORS["body"]), bytes.fromhex(VECTORS["signature"])
    assert encode(attestation()) == body
    assert open_signed(Signed(body, signature), Attestation, KEY.public, "attestation") == attestation()
    assert not verify(KEY.public, "receipt", body, signature)
    assert not verify(KEY.public, "attestation", body[:-1], signature)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["why"])
def test_cases(case):
    record = case.get("server", {"emulated": False, "active": True})
    server = record and QrngServerRecord(KEY.public, "", record["emulated"], record["active"])
    options = {"chain": case.get("chain", "qustream-test"), "server": server, "at_ms": case.get("at_ms", VECTORS["at_ms"])}
    stated = attestation({name: case[name] for name in CHANGED & case.keys()})
    if case["code"] is None:
        check_attestation(stated, **options)
        return
    with pytest.raises(QuStreamError) as caught:
        check_attestation(stated, **options)
    assert caught.value.code == case["code"]
