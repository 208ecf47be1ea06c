"""The known answers of `proto/vectors/state.json`."""

import json
from pathlib import Path

import pytest
from support.radix_memory import MemoryTree

from qustream.errors import QuStreamError
from qustream.rules.radix import EMPTY_ROOT, Proof, require, verify
from qustream.wire.codec import decode

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/state.json").read_text())
PROOF_MAX_BYTES = 64 * 1024


def unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def proof_of(case: dict) -> Proof:
    return decode(bytes.fromhex(case["proof"]), Proof, max_bytes=PROOF_MAX_BYTES)


def test_empty_root():
    assert bytes.fromhex(VECTORS["empty_root"]) == EMPTY_ROOT


@pytest.mark.parametrize("case", VECTORS["trees"], ids=lambda case: case["name"])
def test_trees(case):
    tree = MemoryTree()
    for batch in case["batches"]:
        tree.apply({bytes.fromhex(key): unhex(value) for key, value in batch})
    assert tree.root == bytes.fromhex(case["root"])
    for said in case["proofs"]:
        assert tree.prove(bytes.fromhex(said["key"])) == proof_of(said)
        assert verify(tree.root, bytes.fromhex(said["key"]), unhex(said["value"]), proof_of(said))


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_refused(case):
    with pytest.raises(QuStreamError) as caught:
        require(bytes.fromhex(case["root"]), bytes.fromhex(case["key"]), unhex(case["value"]), proof_of(case))
    assert caught.value.code == "E-PROOF"
