"""Nodes on hosts of their own, far from each other: how they find each other, and what comes of it when the network between them fails."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import pytest
from support.lan.hosts import Lan
from support.lan.nodes import NO_WAY_IN, PATIENCE_S, PORT, Nodes, key_of
from support.lan.probe import Probe
from support.lan.swarm import Swarm

from qnode.core.peers_limits import INBOUND_MAX, INBOUND_OPERATOR_MAX
from qnode.net.hub import SESSIONS_PEER_MAX
from qnode.store.peers import PeerStore
from qustream.model.ids import IdKind, from_text
from qustream.model.network import NodeClass
from qustream.registry import NetworkFileRegistry
from qustream.rules.peering import assigned_peers, assigning_peers, ring

pytestmark = [pytest.mark.e2e, pytest.mark.needs("netns", "nft")]

# Each host in a prefix of its own. Eve has no IPv4, Fay no IPv6 and a packet filter before her, and Gil is cut off until a test heals it.
HOSTS = {
    "ann": ["45.1.0.1", "2a01:1::1"],
    "ben": ["45.2.0.1", "2a01:2::1"],
    "cat": ["45.3.0.1", "2a01:3::1"],
    "dan": ["45.4.0.1", "2a01:4::1"],
    "eve": ["2a01:5::1"],
    "fay": ["45.6.0.1"],
    "gil": ["45.7.0.1", "2a01:7::1"],
    "town": ["45.99.0.1", "2a01:99::1"],
}
NODES = [name for name in HOSTS if name != "town"]
OPEN = ["ann", "ben", "cat", "dan", "eve"]  # whoever anybody reaches
HERALDS = [f"herald{number}" for number in range(9)]  # peers that tests play, in town; each says one thing
HERALD_AT = f"45.99.0.1:{PORT + 1}"
_draw = random.Random("distances")
DISTANCES_MS = {pair: _draw.randint(2, 60) for pair in combinations(HOSTS, 2)}  # one way

# Another network, of few nodes and of a crowd that wants links to one of them.
BESET = ["ann", "ben", "cat", "dan"]
PREFIXES = 50
BESET_HOSTS = {name: [f"45.{number}.0.1"] for number, name in enumerate(BESET, 1)} | {
    "crowd": ["46.0.0.1", *(f"46.{number}.0.0/16" for number in range(1, PREFIXES + 1))]
}
MEMBERS = {f"member{number}": f"46.{number % PREFIXES + 1}.0.{number // PREFIXES + 1}" for number in range(200)}
OPERATORS = 40  # five members each
# What 200 connections may cost: each has TLS, a session and its queues, about half of this.
GROWTH_MAX_KIB = 200 * 200


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Lan(HOSTS, seed="real network") as lan, Nodes(tmp_path_factory.mktemp("nodes"), lan, NODES) as nodes:
        for name in HERALDS:
            nodes.license(name, [f"45.99.0.1:{PORT}"])
        nodes.publish()
        for (one, other), distance_ms in DISTANCES_MS.items():
            lan.change([one], [other], delay_ms=distance_ms, jitter_ms=4)
        lan["fay"].nft(NO_WAY_IN)
        lan.partition([name for name in HOSTS if name != "gil"])
        nodes.start()
        yield nodes


def unbroken(before_s: dict[str, int], after_s: dict[str, int]) -> bool:
    return before_s.keys() == after_s.keys() and all(abs(after_s[node] - since_s) <= 1 for node, since_s in before_s.items())


def comes_to(nodes: Nodes, herald: str, by: str, names: list[str]) -> None:
    """What the herald says to one node comes to all of these."""
    Probe(herald, nodes.lan["town"]).publish(nodes[by], HERALD_AT)
    has_come_to(nodes, herald, names)


def has_come_to(nodes: Nodes, herald: str, names: list[str]) -> None:
    """What the herald has said comes to all of these."""
    probe = Probe(herald, nodes.lan["town"])
    assert not probe.await_record([nodes[name] for name in names], probe.key.id, (HERALD_AT,), PATIENCE_S)


def test_nodes_find_each_other(nodes: Nodes) -> None:
    nodes.until_linked(OPEN)
    nodes.until(lambda: nodes.linked("fay") >= {"ann", "ben", "cat", "dan"}, lambda: nodes.linked("fay"))
    assert "eve" not in nodes.linked("fay")  # there is no way from one to the other
    assert all(link.address.startswith("[") for link in nodes["eve"].network().links)
    assert all(link.direction == "out" for link in nodes["fay"].network().links)
    assert not nodes.linked("gil")
    # As far as they are: twice the way, whatever the machine adds to it.
    names = {node.id: name for name, node in nodes.nodes.items()}
    nodes.until(lambda: all(link.rtt_ms >= 0 for link in nodes["ann"].network().links))
    for link in nodes["ann"].network().links:
        assert link.rtt_ms >= 2 * DISTANCES_MS["ann", names[link.node]] - 1


def test_what_one_says_comes_to_all(nodes: Nodes) -> None:
    nodes.until_linked(OPEN)
    comes_to(nodes, "herald0", "ben", OPEN)
    assert nodes["eve"].network().gossip.topics["address"].messages_in > 0


def test_news_pass_a_line_that_loses_much_one_way(nodes: Nodes) -> None:
    nodes.until_linked(OPEN)
    ids = [nodes[name].id for name in OPEN]
    since_s = nodes["ann"].since_s(ids)
    nodes.lan.change(["ann"], OPEN, back=False, loss=0.3)
    try:
        comes_to(nodes, "herald1", "ann", OPEN)
        comes_to(nodes, "herald2", "eve", OPEN)
        nodes.license("late", [f"45.99.0.1:{PORT}"])
        version = nodes.publish(to=["ann"])  # to a single operator, and it travels
        nodes.until(lambda: all(nodes[name].status().height == version for name in OPEN))
    finally:
        nodes.lan.change(["ann"], OPEN, back=False, loss=0.0)
    assert nodes.lan.counts("ann", "ben")["lost"] > 0
    after_s = nodes["ann"].since_s(ids)
    assert unbroken(since_s, after_s)


def test_a_node_on_a_slow_line_holds_up_nobody(nodes: Nodes) -> None:
    nodes.until_linked(OPEN)
    lan = nodes.lan
    lan.change(["dan"], rate_mbit=1.0, queue_bytes=20_000)
    try:
        with lan["town"].socket() as flood:  # and what there is of it is taken by somebody else
            for _ in range(200):
                flood.sendto(bytes(1400), (lan["dan"].address, 9))
            comes_to(nodes, "herald3", "cat", ["ann", "ben", "cat", "eve"])
        assert lan.counts("town", "dan")["overflowed"] > 0
        comes_to(nodes, "herald4", "dan", OPEN)
    finally:
        lan.change(["dan"], rate_mbit=0.0)


def test_halves_that_are_cut_from_each_other_come_together_again(nodes: Nodes) -> None:
    nodes.until_linked(OPEN)
    lan, ours, theirs = nodes.lan, ["ann", "ben", "fay"], ["cat", "dan", "eve"]
    for side, other in ((ours, theirs), (theirs, ours)):
        for name in side:
            lan[name].nft(("" if name != "fay" else NO_WAY_IN) + reject([a for each in other for a in HOSTS[each]]))
    # Whoever says something across notices; what a herald says to one half, everybody there says to everybody.
    comes_to(nodes, "herald5", "ann", ["ann", "ben"])
    comes_to(nodes, "herald8", "cat", theirs)
    nodes.until(lambda: not any(other in nodes.linked(name) for name in ours for other in theirs))
    nodes.until(lambda: not any(other in nodes.linked(name) for name in theirs for other in ours))
    assert nodes.linked("ann") & set(NODES) == {"ben", "fay"}
    for name in (*ours, *theirs):
        lan[name].flush()
    lan["fay"].nft(NO_WAY_IN)
    nodes.until_linked(OPEN)
    has_come_to(nodes, "herald5", theirs)  # and what was said in one half meanwhile comes to the other
    has_come_to(nodes, "herald8", ["ann", "ben"])
    comes_to(nodes, "herald6", "dan", OPEN)


def reject(addresses: list[str]) -> str:
    """A packet filter that ends every connection to these at the next word."""
    rules = "".join(f" ip{'6' if ':' in each else ''} daddr {each} meta l4proto tcp reject with tcp reset\n" for each in addresses)
    return f"table inet halves {{\n chain out {{\n type filter hook output priority 0\n{rules} }}\n}}\n"


def test_whoever_is_cut_off_knows_it_and_comes_back(nodes: Nodes) -> None:
    nodes.until(lambda: "E-NO-PEERS" in nodes["gil"].codes())
    assert "E-NO-PEERS" not in nodes["ann"].codes()
    nodes.lan.heal()
    nodes.until_linked([*OPEN, "gil"])
    nodes.until(lambda: "E-NO-PEERS" not in nodes["gil"].codes())


@pytest.fixture(scope="module")
def beset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with Lan(BESET_HOSTS, seed="swarm") as lan, Nodes(tmp_path_factory.mktemp("nodes"), lan, BESET) as nodes:
        nodes.publish()
        lan.change(BESET_HOSTS, delay_ms=5, jitter_ms=2)
        nodes.start()
        nodes.until_linked()
        for number, (name, address) in enumerate(MEMBERS.items()):
            nodes.license(name, [f"{address}:{PORT}"], operator=f"crowd{number * OPERATORS // len(MEMBERS)}")
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


def test_a_crowd_gets_the_places_it_may_have_and_no_more(beset: Nodes) -> None:
    ann = beset["ann"]
    honest = {node.id for name, node in beset.nodes.items() if name != "ann"}
    before_kib = ann.rss_kib()
    since_s = ann.since_s(honest)
    assert since_s.keys() == honest
    with Swarm(beset.lan["crowd"], ann, MEMBERS) as swarm:
        beset.until(lambda: everybody_asked(swarm), swarm.told)
        told = swarm.told()
        links = ann.network().links
        after_s = ann.since_s(honest)
        growth_kib = ann.rss_kib() - before_kib
    assert set(told["refused"]) == {"E-PEER-LIMIT"}
    assert unbroken(since_s, after_s)  # nobody who was there has lost a link
    always = assigned_to(beset, "ann")
    placed = [link for link in links if link.direction == "in" and from_text(link.node, IdKind.NODE) not in always]
    assert len(placed) == INBOUND_MAX
    assert max(Counter(link.operator for link in placed).values()) <= INBOUND_OPERATOR_MAX
    assert growth_kib < GROWTH_MAX_KIB
    beset.until_linked()
    beset.until(lambda: len(ann.network().links) < 10)  # they are gone


def test_one_peer_has_few_connections_however_many_it_makes(beset: Nodes) -> None:
    ann = beset["ann"]
    beset.until_linked()
    since_s = ann.since_s([node.id for node in beset.nodes.values()])
    few = dict(list(MEMBERS.items())[:5])
    with Swarm(beset.lan["crowd"], ann, few, each=8) as swarm:
        beset.until(lambda: swarm.told()["made"] >= 60, swarm.told)  # those that were shown out have come again
        # One more of each has not heard yet that it has to go; several for as long as a loaded machine has not read it.
        beset.until(lambda: swarm.told()["connected"] <= len(few) * (SESSIONS_PEER_MAX + 1), swarm.told)
        told = swarm.told()
        links = ann.network().links
        after_s = ann.since_s(since_s)
    assert told["ended"].keys() <= {"E-PEER-LIMIT", "E-PEER-CLOSED"}
    assert max(Counter(link.node for link in links).values()) == 1
    assert unbroken(since_s, after_s)


def everybody_asked(swarm: Swarm) -> bool:
    told = swarm.told()
    return len(told["linked"]) + sum(told["refused"].values()) >= len(MEMBERS)


def test_whoever_nobody_reaches_is_told_so(nodes: Nodes) -> None:
    fay = nodes["fay"]
    nodes.until(lambda: "E-UNREACHABLE" in fay.codes())
    assert fay.network().reach == "unreachable"
    assert {each.address for each in fay.network().tried} == {f"45.6.0.1:{PORT}"}
    assert nodes.linked("fay") >= {"ann", "ben"}
    assert "E-UNREACHABLE" not in nodes["ann"].codes()
    nodes.lan["fay"].flush()
    Probe("herald0", nodes.lan["town"]).link(fay)  # somebody comes in
    nodes.until(lambda: "E-UNREACHABLE" not in fay.codes())


# -- what a node says of itself a minute after it said something else: so these come last


def test_a_node_that_moved_is_found_where_it_says(nodes: Nodes) -> None:
    nodes.until_linked(OPEN)
    cat, lan = nodes["cat"], nodes.lan
    cat.stop()
    lan.move("cat", ["45.33.0.1", "2a01:33::1"])
    cat.configure(addresses=list(cat.public_addresses))
    # It comes to Ann alone. The others come to it, because Ann passes on what it says; the registry still has the old addresses.
    lan["cat"].nft(no_way_out_but(HOSTS["ann"]))
    cat.start()
    others = [nodes[name] for name in OPEN if name != "cat"]
    assert not Probe("herald7", lan["town"]).await_record(others, cat.key.id, cat.public_addresses, PATIENCE_S)
    nodes.until_linked(OPEN)
    lan["cat"].flush()
    ours = {link.node for link in cat.network().links if link.direction == "out"}
    assert ours <= {nodes["ann"].id}
    assert all(link.direction == "in" for link in cat.network().links if link.node == nodes["eve"].id)


def no_way_out_but(addresses: list[str]) -> str:
    rules = "".join(f" ip{'6' if ':' in each else ''} daddr {each} accept\n" for each in addresses)
    drop = " oif != lo tcp flags & (syn | ack) == syn drop\n"
    return f"table inet filter {{\n chain out {{\n type filter hook output priority 0\n{rules}{drop} }}\n}}\n"


def test_a_node_that_was_killed_goes_to_its_anchors_first(nodes: Nodes) -> None:
    nodes.until_linked(OPEN)
    dan, lan = nodes["dan"], nodes.lan
    disk = dan.data_dir / "peers" / "data.mdb"
    before_ns = disk.stat().st_mtime_ns
    comes_to(nodes, "herald7", "dan", OPEN)
    nodes.until(lambda: disk.stat().st_mtime_ns > before_ns)
    dan.kill()
    anchors = [name for name in OPEN if name != "dan"]
    with PeerStore.open(dan.data_dir / "peers") as store:  # a link is an anchor when it has stood for ten minutes; they have not
        store.keep_anchors([nodes[name].key.id for name in anchors])
        kept = {node for node, _ in store.records()}
    lan["dan"].nft(NO_WAY_IN)  # so that whoever it talks to, it has dialled
    lan.watch()
    dan.start()
    nodes.until_linked(OPEN)
    assert set(lan.dialled("dan")[: len(anchors)]) == set(anchors)
    lan["dan"].flush()
    assert kept
    assert kept <= Probe("herald7", lan["town"]).records(dan).keys()  # and it knows what it was told before
