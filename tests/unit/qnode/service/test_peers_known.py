"""Whom a node knows, told to the core when it is news."""

from __future__ import annotations

from pathlib import Path

from support.peers_town import EPOCH_MS, town

from qnode.service.peers_known import KnownNodes
from qustream.identity.signing import SigningKey
from qustream.registry import NetworkFileRegistry


async def test_what_the_registry_and_the_epoch_say(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        own, other, third = t.nodes
        known = KnownNodes(t.registry, own.id)
        assert (known.epoch, len(known)) == (-1, 0)
        now_ms = t.clock_ms()
        news = known.look(now_ms)
        assert news is not None
        assert set(news.nodes) == {node.id for node in t.nodes}
        assert news.nodes[other.id].addresses == (other.listen,)
        assert (news.epoch, sorted(news.seeds)) == (10, [9, 10, 11])
        assert news.seeds[11] == t.registry.epoch_at(11).seed
        assert news.records_from_ms == known.records_from_ms == t.registry.epoch_at(6).boundary_ms
        assert known.own is not None
        assert other.id in known
        assert own.id not in known
        assert known.get(third.id) == t.registry.node(third.id)
        assert known.look(now_ms) is None
        assert known.look(now_ms + 1000) is None


async def test_a_new_epoch_and_a_new_file_are_news(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        own, other, _ = t.nodes
        known = KnownNodes(t.registry, own.id)
        known.look(t.clock_ms())
        later = known.look(t.clock_ms() + EPOCH_MS)
        assert later is not None
        assert later.epoch == 11
        t.writer.set_node_active(other.id, False)
        t.write()
        news = known.look(t.clock_ms() + EPOCH_MS)
        assert news is not None
        assert other.id not in news.nodes
        assert other.id not in known
        t.writer.set_node_active(own.id, False)
        t.write()
        news = known.look(t.clock_ms() + EPOCH_MS)
        assert news is not None
        assert own.id not in news.nodes
        assert known.own is None


async def test_without_a_view_or_before_genesis_nothing_is_news(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as t:
        nothing = NetworkFileRegistry(tmp_path / "none.toml", SigningKey(bytes(32)).public)
        assert KnownNodes(nothing, t.nodes[0].id).look(t.clock_ms()) is None
        known = KnownNodes(t.registry, t.nodes[0].id)
        assert known.look(1) is None
        assert known.look(t.clock_ms()) is not None


async def test_the_first_epoch_has_none_before_it(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as t:
        news = KnownNodes(t.registry, t.nodes[0].id).look(t.registry.epoch_at(0).boundary_ms)
        assert news is not None
        assert (sorted(news.seeds), news.records_from_ms) == ([0, 1], max(0, t.registry.epoch_at(0).boundary_ms - 4 * EPOCH_MS))
