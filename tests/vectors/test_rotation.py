"""Quorums, leaders, evidence, sets, folds and reveals against the published vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qustream.identity.reveals import HashChain
from qustream.model.state import IncidentKind, Seat
from qustream.rules.evidence import contradicts
from qustream.rules.rotation import anchor_of, leaders, quorum
from qustream.wire.chain import grant_id, incident_id, leaders_seed, next_fold, rolled_id, rotation_set_hash

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "proto/vectors/rotation.json").read_text())


def test_the_file_is_what_its_generator_writes() -> None:
    assert subprocess.run([sys.executable, ROOT / "scripts/vectors/rotation.py", "--check"], check=False).returncode == 0


@pytest.mark.parametrize("vector", VECTORS["quorums"])
def test_quorums(vector: dict[str, Any]) -> None:
    assert quorum(vector["weights"]) == vector["quorum"]


@pytest.mark.parametrize("vector", VECTORS["leaders"])
def test_orders_of_leaders(vector: dict[str, Any]) -> None:
    leads = [number not in vector["silent"] for number in range(len(vector["weights"]))]
    assert leaders(vector["weights"], bytes.fromhex(vector["seed"]), leads) == vector["order"]
    if not vector["silent"]:
        assert leaders(vector["weights"], bytes.fromhex(vector["seed"])) == vector["order"]


@pytest.mark.parametrize("vector", VECTORS["pairs"])
def test_evidence(vector: dict[str, Any]) -> None:
    (one, other), (first, second) = vector["kinds"], [bytes.fromhex(digest) for digest in vector["digests"]]
    assert contradicts(one, first, other, second) is vector["evidence"]


@pytest.mark.parametrize("vector", VECTORS["sets"])
def test_sets(vector: dict[str, Any]) -> None:
    seats = [Seat(bytes.fromhex(licence), bytes.fromhex(key), weight, leads) for licence, key, weight, leads in vector["seats"]]
    assert rotation_set_hash(vector["rotation"], seats, bytes.fromhex(vector["seed"])).hex() == vector["hash"]


@pytest.mark.parametrize("vector", VECTORS["folds"])
def test_folds(vector: dict[str, Any]) -> None:
    fold = bytes.fromhex(vector["fold"])
    assert next_fold(fold, bytes.fromhex(vector["reveal"])).hex() == vector["next"]
    assert leaders_seed(fold).hex() == vector["leaders_seed"]


@pytest.mark.parametrize("vector", VECTORS["chains"])
def test_hash_chains(vector: dict[str, Any]) -> None:
    chain = HashChain(bytes.fromhex(vector["seed"]), vector["links"])
    anchor = chain.anchor
    assert anchor.hex() == vector["anchor"]
    for expected in vector["reveals"]:
        reveal = chain.reveal(anchor)
        assert reveal is not None
        assert reveal.hex() == expected
        assert anchor_of(reveal) == anchor
        anchor = reveal
    assert chain.reveal(anchor) is None


@pytest.mark.parametrize("vector", VECTORS["incidents"])
def test_incidents(vector: dict[str, Any]) -> None:
    found = incident_id(IncidentKind(vector["kind"]), bytes.fromhex(vector["licence"]), vector["rotation"])
    assert found.hex() == vector["id"]


@pytest.mark.parametrize("vector", VECTORS["grants"])
def test_names_of_grants(vector: dict[str, Any]) -> None:
    assert grant_id(bytes.fromhex(vector["of"])).hex() == vector["bought"]
    assert rolled_id(bytes.fromhex(vector["of"])).hex() == vector["rolled"]
