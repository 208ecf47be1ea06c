"""The network of peers as metrics. Labels are ways, topics, results, and codes of the error table: no peer can add one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from qnode.api.peers import GossipCounts, PeersStatus, TopicCounts, code_shown
from qustream.wire.gossip import Topic

__all__ = ["REACHES", "peer_metrics"]

REACHES = ("reached", "unreachable", "unknown")
_MS_PER_S = 1000  # a second, for metrics in base units


def peer_metrics(network: PeersStatus) -> Iterator[Metric]:
    """All families about peers; each is there from the first scrape on."""
    yield _gauge("links", "Links that stand, by who opened them: out, we; in, the peer", {"direction": network.ways()})
    yield _single("mesh_links", "Links that gossip is passed on to at once", sum(link.in_mesh for link in network.links))
    yield _single("known_nodes", "Other nodes of the network", network.known)
    yield _single("unreached_nodes", "Of these, nodes to which the last dial failed", network.unreached)
    yield _single("wanted_links", "Links that are wanted and do not stand", network.wanted)
    yield _counter("dials", "Dials, by what came of them: reached, or a code", {"outcome": _outcomes(network.dialled)})
    yield _counter("refused_links", "Links that peers asked for and were refused, by code", {"code": _codes(network.refused)})
    yield _single("greylisted_peers", "Peers that we want nothing of for a while", network.greylisted)
    yield _gauge("reach", "1 for whether other nodes reach this one", {"state": {state: int(network.reach == state) for state in REACHES}})
    yield _single("reached_time_seconds", "Unix time at which a known node last connected; 0: none has", network.reached_ms / _MS_PER_S)
    yield _single("linked_registry_height", "Highest version of the network file that a link speaks of", network.height_max)
    yield from _gossip(network.gossip)
    bulk = network.bulk
    yield _counter(
        "bulk_transfers", "Transfers in bulk", {"result": {"served": bulk.served, "fetched": bulk.fetched, "failed": bulk.failed}}
    )
    yield _counter("bulk_bytes", "Bytes of transfers in bulk", {"direction": {"in": bulk.bytes_in, "out": bulk.bytes_out}})


def _gossip(gossip: GossipCounts) -> Iterator[Metric]:
    messages = CounterMetricFamily("qnode_gossip_messages", "Bodies of gossip, by topic", labels=["topic", "direction"])
    sizes = CounterMetricFamily("qnode_gossip_bytes", "Bytes of these bodies", labels=["topic", "direction"])
    for topic in (each.name.lower() for each in Topic):
        counts = gossip.topics.get(topic, TopicCounts())
        messages.add_metric([topic, "in"], counts.messages_in)
        messages.add_metric([topic, "out"], counts.messages_out)
        sizes.add_metric([topic, "in"], counts.bytes_in)
        sizes.add_metric([topic, "out"], counts.bytes_out)
    yield messages
    yield sizes
    for name, text, value in (
        ("duplicate_messages", "Bodies that were here already", gossip.duplicates),
        ("dropped_messages", "Messages for which there was no room, here or on the way out", gossip.dropped),
        ("bad_messages", "Bodies that did not check", gossip.bad),
        ("expelled_peers", "Peers shown out for what they sent", gossip.expelled),
    ):
        yield CounterMetricFamily(f"qnode_gossip_{name}", text, value=value)


def _outcomes(dialled: Mapping[str, int]) -> dict[str, int]:
    return {"reached": dialled.get("reached", 0)} | _codes({code: count for code, count in dialled.items() if code != "reached"})


def _codes(counts: Mapping[str, int]) -> dict[str, int]:
    """What is no code of ours is counted under one that is."""
    found: Counter[str] = Counter()
    for code, count in sorted(counts.items()):
        found[code_shown(code)] += count
    return dict(found)


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"qnode_{name}", text, value=value)


def _gauge(name: str, text: str, values: Mapping[str, Mapping[str, int]]) -> GaugeMetricFamily:
    [(label, by_value)] = values.items()
    family = GaugeMetricFamily(f"qnode_{name}", text, labels=[label])
    for value, number in by_value.items():
        family.add_metric([value], number)
    return family


def _counter(name: str, text: str, values: Mapping[str, Mapping[str, int]]) -> CounterMetricFamily:
    [(label, by_value)] = values.items()
    family = CounterMetricFamily(f"qnode_{name}", text, labels=[label])
    for value, number in by_value.items():
        family.add_metric([value], number)
    return family
