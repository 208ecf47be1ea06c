"""The checks of peers: beside a running node by its word, alone by real nodes that answer, do not, or do not get through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from support.peers_town import Town, TownNode, town, until
from support.snapshots import NETWORK

from qnode.api.peers import AddressTried, PeersStatus
from qnode.api.sync_status import SyncStatus
from qnode.cli import doctor_peers
from qnode.cli.doctor_peers import PeerSurvey, asks_of, peers_of, reach_of
from qustream.aio.listener import open_listener
from qustream.errors import QuStreamError

NOW_MS = 10_000_000


def refused(check: Callable[[], str]) -> str:
    with pytest.raises(QuStreamError) as caught:
        check()
    return f"{caught.value.code} {caught.value.detail}"


# -- beside a running node


def test_a_running_node_says_whether_it_is_reached() -> None:
    assert reach_of(NETWORK, NOW_MS) == "reached 3 min ago, seen at 192.0.2.7"
    assert reach_of(PeersStatus(), NOW_MS) == "not known whether reached"
    lost = replace(NETWORK, reach="unreachable", tried=(AddressTried("192.0.2.7:7400", "E-DEADLINE"), AddressTried("\x1b[2J", "x")))
    assert refused(lambda: reach_of(lost, NOW_MS)) == "E-UNREACHABLE 192.0.2.7:7400 E-DEADLINE; ?[2J E-ANSWER-INVALID"
    assert "no address" in refused(lambda: reach_of(replace(lost, tried=()), NOW_MS))


def test_a_running_node_says_whom_it_is_linked_to() -> None:
    assert peers_of(NETWORK) == "linked: 2 out, 1 in; 41 nodes known, the last dial to 3 of them failed"
    alone = replace(NETWORK, links=(), lonely=True)
    why = "none of 41 known nodes is linked; the last dials ended with: E-PEER-UNREACHABLE 1"
    assert refused(lambda: peers_of(alone)) == f"E-NO-PEERS {why}"
    assert peers_of(PeersStatus(lonely=True)) == "linked: 0 out, 0 in; 0 nodes known, the last dial to 0 of them failed"


def test_a_running_node_without_links_by_its_configuration_says_so() -> None:
    assert peers_of(PeersStatus(enabled=False)) == "none, for the configuration says peers = false"
    assert reach_of(PeersStatus(enabled=False), NOW_MS) == "not known without links to other nodes"


# -- alone


def survey(town_: Town, node: TownNode, listen: str = "") -> PeerSurvey:
    return PeerSurvey(node.key, town_.registry, chain="town", listen=[listen or node.listen])


async def inside(check: Callable[[], str]) -> str:
    """Make a check, which has an event loop of its own."""
    return await trio.to_thread.run_sync(check)


async def inside_refused(check: Callable[[], str]) -> str:
    return await trio.to_thread.run_sync(refused, check)


async def test_three_of_several_nodes_are_asked_and_get_through(tmp_path: Path) -> None:
    async with town(tmp_path, 6) as t:
        node, *others = t.nodes
        await t.start(*others)
        examined = survey(t, node)
        assert await inside(examined.peers) == "5 of 5 known nodes were tried, 5 answered"
        assert await inside(examined.reachable) == f"{node.listen} reached by 3 of 3"
        with open_listener(node.listen):
            pass  # the address is free again
        # The node itself has its place afterwards.
        await t.start(node)
        await t.linked()


async def test_nodes_that_do_not_answer_are_counted_and_named_by_code(tmp_path: Path) -> None:
    async with town(tmp_path, 4) as t:
        node, here, *_ = t.nodes
        await t.start(here)
        examined = survey(t, node)
        assert await inside(examined.peers) == "3 of 3 known nodes were tried, 1 answered; E-PEER-UNREACHABLE 2"
        assert await inside(examined.reachable) == f"{node.listen} reached by 1 of 1"


async def test_a_network_that_is_not_there(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        examined = survey(t, t.nodes[0])
        assert await inside_refused(examined.peers) == (
            "E-NO-PEERS 2 of 2 known nodes were tried, and none answered; E-PEER-UNREACHABLE 2"
        )  # fmt: skip
        assert await inside(examined.reachable) == "not known: no other node could be asked to connect"


async def test_nothing_local_is_knocked_at_that_nobody_vouches_for(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        node, vouched, other = t.nodes
        t.cut([vouched], [other])  # a town's node knocks by itself
        await t.start(vouched, other)
        local = {vouched.id: (vouched.listen,)}
        examined = PeerSurvey(node.key, t.registry, chain="town", listen=[node.listen], local=lambda each: local.get(each, ()))
        assert await inside(examined.peers) == "2 of 2 known nodes were tried, 1 answered; E-PEER-UNREACHABLE 1"
        assert not other.stats.accepted


def test_a_running_node_without_a_licence_says_whom_it_asks() -> None:
    sync = SyncStatus(licensed=False, behind=3, nodes={"stranger": 4}, known=9)
    assert "it asks 4 of 9 nodes as a stranger, 3 blocks behind them" in asks_of(sync)
    assert refused(lambda: asks_of(SyncStatus(licensed=False, known=9))).startswith("E-NO-PEERS none of the 9 nodes")


async def test_a_network_of_one(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as t:
        examined = survey(t, t.nodes[0])
        assert await inside(examined.peers) == "the network has no other active node"
        assert await inside(examined.reachable) == "not known: no other node could be asked to connect"


async def test_an_address_that_leads_elsewhere_is_named_with_what_it_gave(tmp_path: Path) -> None:
    async with town(tmp_path, 4) as t:
        node, *others = t.nodes
        host = node.listen.rpartition(":")[0]
        t.writer.set_node_addresses(node.id, (f"{host}:1", others[0].listen))
        t.write()
        await t.start(*others)
        said = await inside_refused(survey(t, node).reachable)
    assert said == (
        f"E-UNREACHABLE {host}:1 reached by 0 of 3 (E-PEER-UNREACHABLE 3); {others[0].listen} reached by 0 of 3 (E-PEER-IDENTITY 3)"
    )


async def test_one_address_of_two_is_enough(tmp_path: Path) -> None:
    async with town(tmp_path, 4) as t:
        node, *others = t.nodes
        host = node.listen.rpartition(":")[0]
        t.writer.set_node_addresses(node.id, (node.listen, f"{host}:1"))
        t.write()
        await t.start(*others)
        said = await inside(survey(t, node).reachable)
    assert said == f"{node.listen} reached by 3 of 3; {host}:1 reached by 0 of 3 (E-PEER-UNREACHABLE 3)"


async def test_an_address_that_nobody_has_heard_of_yet_is_neither_good_nor_bad(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        node, *others = t.nodes
        host = node.listen.rpartition(":")[0]
        t.writer.set_node_addresses(node.id, (f"{host}:1",))
        t.write()
        await t.start(*others)
        examined = PeerSurvey(node.key, t.registry, chain="town", listen=[node.listen], told=[node.listen, f"{host}:1"])
        said = await inside(examined.reachable)
    assert said == (
        f"not known: {host}:1 reached by 0 of 2 (E-PEER-UNREACHABLE 2); not tried: {node.listen}, of which others hear when the node runs"
    )


async def test_an_address_that_is_taken_is_said_to_be_and_peers_are_tried_all_the_same(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        node, *others = t.nodes
        await t.start(*others)
        with open_listener(node.listen):
            examined = survey(t, node)
            assert await inside(examined.peers) == "2 of 2 known nodes were tried, 2 answered"
            assert (await inside_refused(examined.reachable)).startswith("E-ADDRESS-IN-USE")


async def test_nobody_is_asked_twice_a_minute_and_that_is_no_fault_of_ours(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        node, *others = t.nodes
        await t.start(*others)
        assert (await inside(survey(t, node).reachable)).endswith("reached by 2 of 2")
        why = "no other node could be asked to connect (E-PEER-LIMIT 2); each can be asked once a minute"
        assert await inside(survey(t, node).reachable) == f"not known: {why}"


async def test_one_operator_is_asked_once(tmp_path: Path) -> None:
    async with town(tmp_path, operators=["mine", "his", "his", "his", "hers"]) as t:
        node, *others = t.nodes
        await t.start(*others)
        assert await inside(survey(t, node).reachable) == f"{node.listen} reached by 2 of 2"


async def test_a_node_that_is_not_listed_learns_that_nobody_tells_it_anything(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        node, *others = t.nodes
        t.writer.set_node_active(node.id, False)
        t.write()
        await t.start(*others)
        await until(lambda: all(node.id not in other.service.known for other in others))
        assert await inside(survey(t, node).reachable) == (
            "not known: no other node could be asked to connect (E-PEER-UNLICENSED 2)"
        )  # fmt: skip


async def test_a_large_network_is_tried_in_part_and_no_operator_twice_before_all_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_peers, "TRIED_MAX", 3)
    async with town(tmp_path, operators=["mine", "his", "his", "hers", "theirs"]) as t:
        node, *others = t.nodes
        await t.start(*others)
        examined = survey(t, node)
        assert await inside(examined.peers) == "3 of 4 known nodes were tried, 3 answered"
        assert (await inside(examined.reachable)).endswith("reached by 3 of 3")


async def test_nodes_that_take_everything_and_say_nothing_do_not_hold_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_peers, "DIALS_S", 0.3)
    async with town(tmp_path, 3) as t:
        node, *others = t.nodes
        with open_listener(others[0].listen), open_listener(others[1].listen):
            said = await inside_refused(survey(t, node).peers)
    assert said == "E-NO-PEERS 2 of 2 known nodes were tried, and none answered; E-DEADLINE 2"
