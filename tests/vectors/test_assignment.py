"""The known answers of `proto/vectors/assignment.json`."""

import json
from pathlib import Path

import pytest

from qustream.model.keys import PublicKey
from qustream.model.network import Grant, NodeClass, NodeRecord
from qustream.rules.assignment import draw, is_assigned, ranked
from qustream.rules.rendezvous import minus_log2

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/assignment.json").read_text())
SEED = bytes.fromhex(VECTORS["epoch_seed"])


def filled(fill: int) -> PublicKey:
    return PublicKey(bytes([fill]) * 32, bytes([fill]) * 1952)


def granted(pinned: str | None) -> Grant:
    licence = None if pinned is None else bytes.fromhex(pinned)
    return Grant(bytes.fromhex(VECTORS["grant"]), bytes(32), bytes(32), 1 << 20, 1, 0, 0, licence)


NODES = [
    NodeRecord(
        filled(node["fill"]),
        NodeClass(node["class"]),
        node["operator"],
        bytes.fromhex(node["licence"]),
        (),
        node["weight"],
        node["active"],
    )
    for node in VECTORS["nodes"]
]


def test_ids() -> None:
    assert [node.key.id.hex() for node in NODES] == [node["id"] for node in VECTORS["nodes"]]


@pytest.mark.parametrize("case", VECTORS["logarithms"], ids=lambda case: case["draw"])
def test_logarithms(case: dict) -> None:
    assert minus_log2(int(case["draw"])) == int(case["minus_log2"])


@pytest.mark.parametrize("case", VECTORS["draws"], ids=lambda case: f"{case['j']} {case['class']} {case['fill']}")
def test_draws(case: dict) -> None:
    drawn = draw(granted(None), case["j"], NodeClass(case["class"]), SEED, filled(case["fill"]).id)
    assert drawn == int(case["draw"])


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['j']} {case['class']} {case['pinned']}")
def test_ranks(case: dict) -> None:
    grant, node_class = granted(case["pinned"]), NodeClass(case["class"])
    winners = ranked(NODES, grant, case["j"], node_class, SEED)
    assert [node.key.ed25519[0] for node in winners] == case["ranks"]
    for node in NODES:
        if node.node_class is node_class:
            assert is_assigned(NODES, grant, case["j"], node.key.id, SEED) == (node in winners)
