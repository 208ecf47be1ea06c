"""Real peer services shown as the one picture shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.peers_town import TownNode, town, until

from qnode.api.peers import BulkCounts, PeersStatus
from qnode.service.peers_status import peers_status
from qustream.model.ids import IdKind, to_text

BULK = BulkCounts(served=1, fetched=2, failed=3, bytes_in=4, bytes_out=5)


def status(node: TownNode) -> PeersStatus:
    return peers_status(node.service.network, node.service.known, BULK)


def name(node: TownNode) -> str:
    return to_text(IdKind.NODE, node.id)


async def test_links_are_shown_from_both_ends(tmp_path: Path) -> None:
    async with town(tmp_path, 4) as t:
        await t.start()
        await t.linked()
        await until(lambda: all(link.rtt_ms >= 0 for node in t.nodes for link in status(node).links))
        # Two that opened a link to each other at once take a moment to agree which of them stays.
        await until(lambda: sum(status(node).ways()["out"] for node in t.nodes) == sum(status(node).ways()["in"] for node in t.nodes) == 6)
        shown = {name(node): status(node) for node in t.nodes}
        for node in t.nodes:
            mine = shown[name(node)]
            assert {link.node for link in mine.links} == set(shown) - {name(node)}
            assert (mine.known, mine.unreached, mine.wanted, mine.lonely, mine.height_max) == (3, 0, 0, False, t.registry.height)
            assert sum(mine.ways().values()) == 3
            assert mine.bulk == BULK
            for link in mine.links:
                [other] = [each for each in shown[link.node].links if each.node == name(node)]
                assert {link.direction, other.direction} == {"out", "in"}
                assert link.operator == next(each.operator for each in t.nodes if name(each) == link.node)
                assert link.node_class == "community"
                assert link.since_ms <= t.clock_ms()
            assert mine.dialled.get("reached", 0) >= mine.ways()["out"]
        assert {status(node).reach for node in t.nodes} <= {"reached", "unknown"}
        reached = [mine for mine in shown.values() if mine.ways()["in"]]
        assert all(mine.reach == "reached" and mine.reached_ms > 0 for mine in reached)
        opened = [mine for mine in shown.values() if mine.ways()["out"]]
        assert all(len(mine.seen_at) >= 1 and all(":" not in host for host in mine.seen_at) for mine in opened)


async def test_what_is_wanted_and_not_there_says_why(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        [node, *others] = t.nodes
        await t.start(node)
        await until(lambda: status(node).dialled.get("E-PEER-UNREACHABLE", 0) >= 2)
        mine = status(node)
        assert mine.links == ()
        assert mine.unreached == 2
        assert mine.wanted == len(mine.dials) == 2
        for dial in mine.dials:
            assert dial.node in {name(other) for other in others}
            assert (dial.purpose, dial.code) == ("assigned", "E-PEER-UNREACHABLE")
            assert dial.addresses == next((other.listen,) for other in others if name(other) == dial.node)
            assert dial.tries >= 1
        assert mine.reach == "unknown"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (["192.0.2.7:1", "192.0.2.8:1", "192.0.2.8:2"], ("192.0.2.8", "192.0.2.7")),
        (["[2001:db8::7]:50000", "192.0.2.7:1"], ("2001:db8::7", "192.0.2.7")),
        (["", "nonsense", "\x1b[2J", "192.0.2.7:99999"], ()),
    ],
)
async def test_where_peers_see_us_is_hosts_and_most_say_so_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], shown: tuple[str, ...]
) -> None:
    async with town(tmp_path, 1) as t:
        await t.start()
        service = t.nodes[0].service
        monkeypatch.setattr(service, "seen", {bytes([number]): text for number, text in enumerate(said)})
        assert status(t.nodes[0]).seen_at == shown
