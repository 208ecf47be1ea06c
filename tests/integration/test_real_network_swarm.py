"""Two hundred licensed peers want links to one node: it keeps its bounds, its memory, and the links of those who were there before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from support.lan.hosts import Lan
from support.lan.nodes import PORT, Nodes, key_of
from support.lan.swarm import Swarm

from qnode.core.peers_limits import INBOUND_MAX, INBOUND_OPERATOR_MAX
from qnode.net.hub import SESSIONS_PEER_MAX
from qustream.model.ids import IdKind, from_text
from qustream.model.network import NodeClass
from qustream.registry import NetworkFileRegistry
from qustream.rules.peering import assigned_peers, assigning_peers, ring

pytestmark = [pytest.mark.e2e, pytest.mark.needs("netns")]

NODES = ["ann", "ben", "cat", "dan"]
PREFIXES = 50
HOSTS = {name: [f"45.{number}.0.1"] for number, name in enumerate(NODES, 1)} | {
    "crowd": ["46.0.0.1", *(f"46.{number}.0.0/16" for number in range(1, PREFIXES + 1))]
}
MEMBERS = {f"member{number}": f"46.{number % PREFIXES + 1}.0.{number // PREFIXES + 1}" for number in range(200)}
OPERATORS = 40  # five members each
# What 200 connections may cost: each has TLS, a session and its queues, about a tenth of this.
GROWTH_MAX_KIB = 200 * 400


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Lan(HOSTS, seed="swarm") as lan, Nodes(tmp_path_factory.mktemp("nodes"), lan, NODES) as nodes:
        nodes.publish()
        lan.change(HOSTS, delay_ms=5, jitter_ms=2)
        nodes.start()
        nodes.until_linked()
        for number, (name, address) in enumerate(MEMBERS.items()):
            nodes.license(name, [f"{address}:{PORT}"], operator=f"crowd{number % OPERATORS}")
        version = nodes.publish()
        nodes.until(lambda: all(node.status().height == version for node in nodes.nodes.values()))
        yield nodes


def assigned_to(nodes: Nodes, name: str) -> set[bytes]:
    """Who has this node assigned in the epochs that count, or is assigned to it in this one."""
    registry = NetworkFileRegistry(nodes.writer.path, key_of("keeper").id, chain=nodes.writer.contents.chain)
    registry.load(nodes[name].status().now_ms)
    ids = [node.key.id for each in NodeClass for node in registry.nodes(each)]
    seed, next_seed = (registry.epoch_at(number).seed for number in (0, 1))
    own = nodes[name].key.id
    assigning = {peer for each in (seed, next_seed) for peer in assigning_peers(each, ring(each, ids), own)}
    return assigning | set(assigned_peers(seed, ring(seed, ids), own))


def test_a_crowd_gets_the_places_it_may_have_and_no_more(nodes: Nodes) -> None:
    ann = nodes["ann"]
    honest = {node.id for name, node in nodes.nodes.items() if name != "ann"}
    before_kib = ann.rss_kib()
    since_s = ann.since_s(honest)
    assert since_s.keys() == honest
    with Swarm(nodes.lan["crowd"], ann, MEMBERS) as swarm:
        nodes.until(lambda: everybody_asked(swarm), swarm.told)
        told = swarm.told()
        links = ann.network().links
        after_s = ann.since_s(honest)
        growth_kib = ann.rss_kib() - before_kib
    assert set(told["refused"]) == {"E-PEER-LIMIT"}
    assert unbroken(since_s, after_s)  # nobody who was there has lost a link
    always = assigned_to(nodes, "ann")
    placed = [link for link in links if link.direction == "in" and from_text(link.node, IdKind.NODE) not in always]
    assert len(placed) == INBOUND_MAX
    assert max(Counter(link.operator for link in placed).values()) <= INBOUND_OPERATOR_MAX
    assert growth_kib < GROWTH_MAX_KIB
    nodes.until_linked()
    nodes.until(lambda: len(ann.network().links) < 10)  # they are gone


def test_one_peer_has_few_connections_however_many_it_makes(nodes: Nodes) -> None:
    ann = nodes["ann"]
    nodes.until_linked()
    since_s = ann.since_s([node.id for node in nodes.nodes.values()])
    few = dict(list(MEMBERS.items())[:5])
    with Swarm(nodes.lan["crowd"], ann, few, each=8) as swarm:
        nodes.until(lambda: swarm.told()["made"] >= 60, swarm.told)  # those that were shown out have come again
        told = swarm.told()
        links = ann.network().links
        after_s = ann.since_s(since_s)
    assert told["ended"].keys() <= {"E-PEER-LIMIT", "E-PEER-CLOSED"}
    assert told["connected"] <= len(few) * (SESSIONS_PEER_MAX + 1)  # one more has not heard yet that it has to go
    assert max(Counter(link.node for link in links).values()) == 1
    assert unbroken(since_s, after_s)


def unbroken(before_s: dict[str, int], after_s: dict[str, int]) -> bool:
    return before_s.keys() == after_s.keys() and all(abs(after_s[node] - since_s) <= 1 for node, since_s in before_s.items())


def everybody_asked(swarm: Swarm) -> bool:
    told = swarm.told()
    return len(told["linked"]) + sum(told["refused"].values()) >= len(MEMBERS)
