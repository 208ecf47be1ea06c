"""The known answers of `proto/vectors/ruid.json`."""

import json
from pathlib import Path

import pytest

from qustream.rules.merkle import leaf_hash, root_of_path
from qustream.rules.ruid import ruid, ruid_tree, stripe_count, stripe_index

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/ruid.json").read_text())
KEY, NONCE = bytes.fromhex(VECTORS["key"]), bytes.fromhex(VECTORS["nonce"])


@pytest.mark.parametrize("case", VECTORS["identifiers"], ids=lambda case: str(case["j"]))
def test_identifiers(case: dict) -> None:
    assert ruid(KEY, NONCE, case["j"]).hex() == case["ruid"]


@pytest.mark.parametrize("case", VECTORS["grants"], ids=lambda case: str(case["count"]))
def test_grants(case: dict) -> None:
    tree = ruid_tree(KEY, NONCE, case["count"])
    assert tree.root.hex() == case["root"]
    for known in case["paths"]:
        steps = tree.path(known["j"])
        assert [step.hex() for step in steps] == known["path"]
        leaf = leaf_hash(bytes.fromhex(known["ruid"]))
        assert root_of_path(leaf, known["j"], case["count"], steps) == tree.root


@pytest.mark.parametrize("case", VECTORS["stripes"], ids=lambda case: f"{case['count']} in {case['stripes']}")
def test_stripes(case: dict) -> None:
    for stripe, indices in enumerate(case["indices"]):
        own = range(stripe_count(case["count"], case["stripes"], stripe))
        assert [stripe_index(case["stripes"], stripe, position) for position in own] == indices
