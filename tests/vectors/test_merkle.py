"""The known answers of `proto/vectors/merkle.json`: those of RFC 6962's reference implementation."""

import json
from pathlib import Path

import pytest

from qustream.errors import QuStreamError
from qustream.rules.merkle import leaf_hash, path, root, root_of_path

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/merkle.json").read_text())
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(each) for each in VECTORS["roots"]]


def walked(case: dict) -> bytes:
    leaf = leaf_hash(bytes.fromhex(case["leaf"]))
    return root_of_path(leaf, case["index"], case["size"], [bytes.fromhex(step) for step in case["path"]])


def test_roots() -> None:
    assert root([]).hex() == VECTORS["empty_root"]
    assert [root(LEAVES[: size + 1]) for size in range(len(LEAVES))] == ROOTS


@pytest.mark.parametrize("case", VECTORS["paths"], ids=lambda case: f"{case['index']} of {case['size']}")
def test_paths(case: dict) -> None:
    steps = tuple(bytes.fromhex(step) for step in case["path"])
    assert path(LEAVES[: case["size"]], case["index"]) == steps
    assert root_of_path(leaf_hash(LEAVES[case["index"]]), case["index"], case["size"], steps) == ROOTS[case["size"] - 1]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["why"])
def test_refused_paths(case: dict) -> None:
    with pytest.raises(QuStreamError) as caught:
        walked(case)
    assert caught.value.code == "E-PROOF"


@pytest.mark.parametrize("case", VECTORS["another_root"], ids=lambda case: case["why"])
def test_paths_to_another_root(case: dict) -> None:
    assert walked(case) != ROOTS[-1]
