"""Ids of messages, the epoch's ring and assigned peers against the published vectors."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qustream.rules.peering import ASSIGNED_LINKS, assigned_peers, message_id, offsets, ring

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "proto/vectors/gossip.json").read_text())


def test_the_file_is_what_its_generator_writes() -> None:
    assert subprocess.run([sys.executable, ROOT / "scripts/vectors/gossip.py", "--check"], check=False).returncode == 0


@pytest.mark.parametrize("vector", VECTORS["messages"])
def test_message_ids(vector: dict[str, Any]) -> None:
    body = bytes([vector["body"]["fill"]]) * vector["body"]["bytes"]
    assert message_id(vector["topic"], body).hex() == vector["id"]


@pytest.mark.parametrize("vector", VECTORS["rings"], ids=lambda vector: str(vector["nodes"]))
def test_rings(vector: dict[str, Any]) -> None:
    seed = bytes.fromhex(vector["seed"])
    nodes = [hashlib.sha256(f"node {number}".encode()).digest() for number in range(vector["nodes"])]
    standing = ring(seed, reversed(nodes))
    assert hashlib.sha256(b"".join(standing)).hexdigest() == vector["ring_sha256"]
    assert offsets(seed, len(nodes)) == vector["offsets"]
    assert [peer.hex() for peer in assigned_peers(seed, standing, nodes[0])] == vector["assigned_to_node_0"]


def test_everybody_is_the_end_of_as_many_links_as_he_opens() -> None:
    nodes = [bytes([number]) * 32 for number in range(50)]
    standing = ring(bytes(32), nodes)
    ends = [peer for node in nodes for peer in assigned_peers(bytes(32), standing, node)]
    assert all(ends.count(node) == ASSIGNED_LINKS for node in nodes)
    assert assigned_peers(bytes(32), standing, b"x" * 32) == []
    assert assigned_peers(bytes(32), [nodes[0]], nodes[0]) == []
