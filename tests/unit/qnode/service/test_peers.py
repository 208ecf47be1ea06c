"""Peer services of several nodes in one process: links by themselves, records, requests, striking off, coming back."""

from __future__ import annotations

from pathlib import Path

from support.peers_town import town, until

from qustream.wire.gossip import Topic


async def test_nodes_link_up_by_themselves(tmp_path: Path) -> None:
    async with town(tmp_path, 4) as t:
        await t.start()
        await t.linked()
        for node in t.nodes:
            views = node.service.network.links
            assert {view.peer for view in views} == {other.id for other in t.nodes} - {node.id}
