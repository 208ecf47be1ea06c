"""The views of a node's network, as those who show it see them."""

from __future__ import annotations

from pathlib import Path

from support.peers_town import town, until

from qnode.service.gossip import Verdict
from qustream.wire.gossip import Topic


async def test_a_link_as_it_is_seen(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        one, other = t.nodes
        for node in t.nodes:
            node.judges[Topic.ANNOUNCEMENT] = lambda _body, _peer: Verdict.GOOD
        started_ms = t.clock_ms()
        await t.start()
        await t.linked()
        await until(lambda: [len(node.service.hub) for node in t.nodes] == [1, 1])
        await until(lambda: all(view.in_mesh for node in t.nodes for view in node.service.network.links))
        one.service.gossip.publish(Topic.ANNOUNCEMENT, b"news")
        await until(lambda: other.service.network.topics[Topic.ANNOUNCEMENT].messages_in == 1)
        [ours], [theirs] = one.service.network.links, other.service.network.links
        assert (ours.peer, theirs.peer) == (other.id, one.id)
        assert ours.record == t.registry.node(other.id)
        assert ours.ours != theirs.ours
        assert ours.reason == "assigned"  # two nodes: the epoch assigns each to the other
        assert (ours.spare, ours.anchor, ours.height) == (False, False, 1)
        assert started_ms <= ours.since_ms <= t.clock_ms()
        assert ours.messages_out >= 1
        assert ours.bytes_out >= len(b"news")
        assert theirs.score == 1
        topic = one.service.network.topics[Topic.ANNOUNCEMENT]
        assert (topic.messages_out, topic.bytes_out, topic.messages_in) == (1, 4, 0)


async def test_a_network_as_it_is_seen(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        one, other = t.nodes
        await t.start(one)
        network = one.service.network
        await until(lambda: network.dialled["E-PEER-UNREACHABLE"] == 1)
        assert (network.known, network.unreached, network.links) == (1, 1, ())
        [wanted] = network.wanted
        assert (wanted.peer, wanted.failures, wanted.code) == (other.id, 1, "E-PEER-UNREACHABLE")
        assert t.clock_ms() < wanted.next_ms <= t.clock_ms() + 10_000
        assert (network.reach, network.reached_ms, network.is_lonely) == ("unknown", 0, False)
        await other.start()
        await t.linked()
        await until(lambda: network.reach == "reached" or other.service.network.reach == "reached")
        assert network.unreached == 0
        opener = one if next(iter(one.service.hub.links)).ours else other
        assert opener.service.network.seen_at[0].startswith("127.")
        assert network.sizes["sessions"] == network.sizes["links"] == network.sizes["gossip_links"] == 1
        assert (network.duplicates, network.dropped, network.bad, network.expelled, network.greylisted) == (0, 0, 0, 0, 0)
        assert (dict(network.refused), network.dialled_back) == ({}, ())
