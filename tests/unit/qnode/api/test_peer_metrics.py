"""Peers as metrics: every number is the picture's, and no peer can add a label."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from support.snapshots import snapshot

from qnode.api.metrics import MetricsPage
from qnode.api.peers import GossipCounts, PeersStatus, TopicCounts


def samples(network: PeersStatus) -> dict[tuple[str, ...], float]:
    text = MetricsPage(lambda: snapshot(network=network)).render().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items())))] = sample.value
    return found


def test_every_number_is_the_pictures() -> None:
    found = samples(snapshot().network)
    expected = {
        ("qnode_links", "direction=out"): 2,
        ("qnode_links", "direction=in"): 1,
        ("qnode_mesh_links",): 2,
        ("qnode_known_nodes",): 41,
        ("qnode_unreached_nodes",): 3,
        ("qnode_wanted_links",): 2,
        ("qnode_dials_total", "outcome=reached"): 12,
        ("qnode_dials_total", "outcome=E-PEER-UNREACHABLE"): 5,
        ("qnode_refused_links_total", "code=E-PEER-LIMIT"): 6,
        ("qnode_greylisted_peers",): 1,
        ("qnode_reach", "state=reached"): 1,
        ("qnode_reach", "state=unreachable"): 0,
        ("qnode_reach", "state=unknown"): 0,
        ("qnode_reached_time_seconds",): 9_800,
        ("qnode_linked_registry_height",): 8,
        ("qnode_gossip_messages_total", "direction=in", "topic=address"): 30,
        ("qnode_gossip_messages_total", "direction=out", "topic=address"): 60,
        ("qnode_gossip_bytes_total", "direction=in", "topic=address"): 12_000,
        ("qnode_gossip_bytes_total", "direction=out", "topic=address"): 24_000,
        ("qnode_gossip_bytes_total", "direction=out", "topic=block"): 0,
        ("qnode_gossip_duplicate_messages_total",): 9,
        ("qnode_gossip_dropped_messages_total",): 2,
        ("qnode_gossip_bad_messages_total",): 1,
        ("qnode_gossip_expelled_peers_total",): 1,
        ("qnode_bulk_transfers_total", "result=served"): 4,
        ("qnode_bulk_transfers_total", "result=fetched"): 1,
        ("qnode_bulk_transfers_total", "result=failed"): 2,
        ("qnode_bulk_bytes_total", "direction=in"): 3_000,
        ("qnode_bulk_bytes_total", "direction=out"): 9_000_000,
    }
    assert {name: found[name] for name in expected} == expected


def test_a_node_that_has_seen_nobody_shows_the_same_series() -> None:
    """Rules that compare with nothing would never fire."""
    alone = samples(PeersStatus())
    for name in ("qnode_links", "qnode_dials_total", "qnode_reach", "qnode_gossip_messages_total", "qnode_bulk_transfers_total"):
        assert any(each[0] == name for each in alone), name
    assert alone["qnode_reach", "state=unknown"] == 1


def test_peers_cannot_add_labels() -> None:
    invented = PeersStatus(
        dialled={"E-MADE-UP": 1, 'x"} 1\n': 2, "reached": 3},
        refused={"E-OTHER": 4},
        reach="of a later version",
        gossip=GossipCounts({"rumour": TopicCounts(1, 1, 1, 1)}),
    )
    ours = samples(PeersStatus(dialled={"E-ANSWER-INVALID": 3, "reached": 3}, refused={"E-ANSWER-INVALID": 4}, reach=""))
    found = samples(invented)
    assert {name: value for name, value in found.items() if name[0].startswith("qnode_")} == {
        name: value for name, value in ours.items() if name[0].startswith("qnode_")
    }
