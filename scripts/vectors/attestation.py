#!/usr/bin/env python3
"""Write `proto/vectors/attestation.json`: leaves, batches, proofs, attestations (`proto/spec/entropy-feed.md`, "Units, attestations").

Trees are computed by RFC 6962's recursive definition, bodies with the `msgpack` package; from the library comes the signature alone.

    scripts/vectors/attestation.py            write the file (the signature, which is hedged, is a new one every time)
    scripts/vectors/attestation.py --check    exit 1 if the file differs otherwise from what this program would write
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import msgpack

from qustream.identity.signing import SigningKey

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/attestation.json"
MATERIAL_BYTES = 262_270
SERVER_SEED = bytes(range(32))


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def material(label: str) -> bytes:
    return hashlib.shake_256(label.encode()).digest(MATERIAL_BYTES)


def leaf_data(node: bytes, sequence: int, label: str) -> bytes:
    return node + sequence.to_bytes(8, "big") + sha256(material(label))


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1."""
    if len(leaves) == 1:
        return sha256(b"\x00", leaves[0])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01", tree_hash(leaves[:split]), tree_hash(leaves[split:]))


def audit_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*audit_path(index, leaves[:split]), tree_hash(leaves[split:])]
    return [*audit_path(index - split, leaves[split:]), tree_hash(leaves[:split])]


def batch(size: int) -> dict[str, Any]:
    units = [{"node": bytes([0xA0 + i % 3] * 32).hex(), "sequence": 1000 * size + i, "material": f"unit {i % 4}"} for i in range(size)]
    leaves = [leaf_data(bytes.fromhex(unit["node"]), unit["sequence"], unit["material"]) for unit in units]
    for index, unit in enumerate(units):
        unit["leaf"] = sha256(b"\x00", leaves[index]).hex()
        unit["path"] = [step.hex() for step in audit_path(index, leaves)]
    return {"root": tree_hash(leaves).hex(), "units": units}


def cases() -> list[dict[str, Any]]:
    """Changes to the attestation, to what the registry says of its server, or to the moment, and the code of the refusal."""
    bad, stale, device = "E-ATTESTATION", "E-ATTESTATION-STALE", "E-ATTESTATION-DEVICE"
    rows: list[tuple[str, dict[str, Any], str | None]] = [
        ("as it is", {}, None),
        ("at the last moment", {"at_ms": 1_700_000_599_999}, None),
        ("at its expiry", {"at_ms": 1_700_000_600_000}, stale),
        ("a minute before its end: clocks differ", {"at_ms": 1_699_999_942_000}, None),
        ("more than a minute before its end", {"at_ms": 1_699_999_941_999}, bad),
        ("on another network", {"chain": "qustream-main"}, bad),
        ("of a server nobody registered", {"server": None}, bad),
        ("of a server that was taken out", {"server": {"emulated": False, "active": False}}, bad),
        ("of an emulator, from a server registered for none", {"device": {"emulated": True}}, device),
        ("of a registered emulator", {"device": {"emulated": True}, "server": {"emulated": True, "active": True}}, None),
        ("ends before it starts", {"attestation": {"start_ms": 1_700_000_002_001}}, bad),
        ("expires when it ends", {"attestation": {"expires_ms": 1_700_000_002_000}}, bad),
        ("no samples", {"health": {"samples": 0}}, bad),
        ("no window passed", {"health": {"windows_failed": 2048}}, bad),
        ("a repetition cutoff of one", {"health": {"rct_cutoff": 1}}, bad),
        ("a proportion cutoff above the window and one", {"health": {"apt_cutoff": 514}}, bad),
        ("less than n + 64 bits in for n out", {"conditioning": {"raw_bytes": 24}}, bad),
        ("more entropy a bit than the device claims", {"conditioning": {"min_entropy_millibits_per_bit": 1000}}, bad),
    ]  # fmt: skip
    return [{"why": why, **changes, "code": code} for why, changes, code in rows]


def fields() -> dict[str, Any]:
    return {
        "chain": "qustream-test",
        "server": SigningKey(SERVER_SEED).id.hex(),
        "batch": 9,
        "device": {
            "kind": "chardev", "model": "appliance", "serial": "1", "sample_bits": 8, "min_entropy_millibits": 7900,
            "nominal_rate_bps": 7_500_000_000, "conditioned": False, "emulated": False, "source": "", "evidence": None,
        },
        "health": {
            "samples": 1 << 20, "windows": 2048, "windows_failed": 1, "rct_cutoff": 7, "apt_cutoff": 24, "apt_window": 512,
            "alpha_exponents": [40, 60],
        },
        "conditioning": {"name": "aes-256-cbc-mac", "raw_bytes": 32, "out_bytes": 16, "min_entropy_millibits_per_bit": 987},
        "start_ms": 1_700_000_000_000,
        "end_ms": 1_700_000_002_000,
        "expires_ms": 1_700_000_600_000,
        "root": batch(5)["root"],
        "leaves": 5,
    }  # fmt: skip


def as_array(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return [as_array(item, key) for key, item in value.items()]
    return bytes.fromhex(value) if name in ("server", "root") else value


def main() -> int:
    body = msgpack.packb(as_array(fields()))
    vectors = {
        "about": "Units and attestations (proto/spec/entropy-feed.md). Hex. `material`: the first 262,270 bytes of SHAKE-256 of the ASCII "
        "label; `leaf`: RFC 6962 leaf hash. The attestation is over the batch of five; its signature is hedged: verify it. `cases` "
        "change the attestation's fields, the network, the server's record or the moment; code null: it holds.",
        "batches": [batch(size) for size in (1, 2, 3, 5, 8)],
        "attestation": fields(),
        "body": body.hex(),
        "server_seed": SERVER_SEED.hex(),
        "at_ms": 1_700_000_002_500,
        "cases": cases(),
        "signature": SigningKey(SERVER_SEED).sign("attestation", body).hex(),
    }
    if "--check" in sys.argv:
        there = json.loads(FILE.read_text())
        return 0 if there | {"signature": ""} == json.loads(json.dumps(vectors)) | {"signature": ""} else 1
    FILE.write_text(json.dumps(vectors, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
