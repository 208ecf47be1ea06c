"""The table of a local network: a line a node, and who opened which link."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from msgspec.structs import replace
from support.snapshots import link, snapshot

from qnode.api.peers import GossipCounts, PeerLink, PeersPage, PeersStatus, TopicCounts

PATH = Path(__file__).parents[4] / "scripts/localnet/peers.py"
SPEC = importlib.util.spec_from_file_location("localnet_peers", PATH)
assert SPEC is not None
assert SPEC.loader is not None
localnet_peers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(localnet_peers)
MAP_MAX, peers_table = localnet_peers.MAP_MAX, localnet_peers.peers_table


def page(name: str, *links: PeerLink, **changes: object) -> PeersPage:
    network = replace(PeersStatus(known=2, links=links, reach="reached", reached_ms=9_990_000, height_max=7), **changes)
    return replace(snapshot().peers_page(), node=name, network=network)


def test_both_ends_of_a_link_are_told_apart() -> None:
    first = page("qn1a", link("qn1b", reason="assigned"), link("qn1c", reason="spare", in_mesh=False))
    second = page("qn1b", link("qn1a", direction="in", in_mesh=False), link("qn1c", reason="chosen"))
    third = page("qn1c", link("qn1a", direction="in"), link("qn1b", direction="in"), unreached=1)
    lines = peers_table({"node1": first, "node2": second, "node10": third}).splitlines()
    assert lines[0].split() == ["out", "in", "mesh", "known", "away", "heard", "said", "file", "1", "2", "10"]
    assert lines[1].split() == ["node1", "2", "0", "1", "2", "0", "0", "0", "7", "reached", "10", "s", "ago", "\\", "A", "s"]
    assert lines[2].split() == ["node2", "1", "1", "1", "2", "0", "0", "0", "7", "reached", "10", "s", "ago", "-", "\\", "C"]
    assert lines[3].split() == ["node10", "0", "2", "2", "2", "1", "0", "0", "7", "reached", "10", "s", "ago", "=", "=", "\\"]
    assert lines[4].startswith("3 links of 3 nodes; a assigned")


def test_a_node_that_does_not_answer_has_its_line_and_its_column() -> None:
    counts = GossipCounts({"address": TopicCounts(3, 4, 0, 0), "block": TopicCounts(10, 20, 0, 0)})
    lines = peers_table({"node1": page("qn1a", gossip=counts), "node2": None}).splitlines()
    assert lines[1].split()[6:8] == ["13", "24"]
    assert lines[1].endswith("\\ .")
    assert lines[2] == "node2    does not answer"
    assert lines[3].startswith("0 links of 1 nodes")


def test_a_link_of_a_later_version_or_to_somebody_else_is_no_trouble() -> None:
    lines = peers_table({"node1": page("qn1a", link("qn1b", reason="new"), link("qn1stranger")), "node2": page("qn1b")}).splitlines()
    assert lines[1].endswith("\\ ?")


def test_a_large_network_has_no_map() -> None:
    pages = {f"node{number}": page(f"qn1{number}") for number in range(1, MAP_MAX + 2)}
    lines = peers_table(dict(pages)).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1] == f"0 links of {MAP_MAX + 1} nodes"
