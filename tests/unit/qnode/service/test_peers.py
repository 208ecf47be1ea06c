"""Peer services of several nodes in one process: links by themselves, striking off, coming back, requests beside, hostile peers."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from support.peers_town import CHAIN, TownNode, town, until
from support.stepwise import moments

from qnode.net.session import NODE_CHANNELS
from qnode.service.gossip import Verdict
from qnode.service.peers import PeerService
from qustream.aio.connection import Connection, connect
from qustream.aio.listener import ListenerLimits
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import Channel
from qustream.wire.codec import Message, decode, encode
from qustream.wire.consensus import NO_DIGEST, VOTE_SIGNATURE_BYTES, Kind, Vote
from qustream.wire.gossip import GossipGraft, GossipPush, Topic
from qustream.wire.hello import Role
from qustream.wire.peers import (
    AddressAnswer,
    AddressAsk,
    DialBackAnswer,
    DialBackAsk,
    HeightHeard,
    HeightTold,
    LinkAccepted,
    LinkOpen,
    LinkReason,
)

STRANGER = SigningKey(b"stranger" * 4)
HELLO = LocalHello(CHAIN, (Role.NODE,))


async def dial(node: TownNode, key: SigningKey) -> Connection:
    return await connect(node.listen, key=key, hello=HELLO, expect=node.id, permit=lambda _: NODE_CHANNELS)


async def ask(connection: Connection, message: Message) -> bytes:
    return await connection.call(encode(message), deadline_ms=60_000)


async def refusal(connection: Connection, message: Message) -> str:
    with pytest.raises(QuStreamError) as caught:
        await ask(connection, message)
    return caught.value.code


def chosen() -> LinkOpen:
    return LinkOpen(LinkReason.CHOSEN, 0)


async def test_nodes_link_up_by_themselves(tmp_path: Path) -> None:
    async with town(tmp_path, 4) as t:
        await t.start()
        await t.linked()
        for node in t.nodes:
            views = node.service.network.links
            assert {view.peer for view in views} == {other.id for other in t.nodes} - {node.id}
            assert all(view.rtt_ms >= 0 and view.address.startswith("127.") and view.height == 1 for view in views)
            assert not node.service.network.is_lonely
            assert node.service.network.reach in ("reached", "unknown")
        await until(lambda: sum(link.ours for node in t.nodes for link in node.service.network.links) == 6, "one link a pair")
        await until(lambda: all(len(node.service.hub) == 3 for node in t.nodes), "no second connection stays")


async def test_one_link_a_pair_though_both_dial(tmp_path: Path) -> None:
    """Two nodes that start together dial each other at once; one link stays, and both agree which."""
    async with town(tmp_path, 2) as t:
        await t.start()
        await t.linked()
        one, other = t.nodes
        await until(lambda: [len(node.service.hub) for node in t.nodes] == [1, 1], "no second connection stays")
        assert [link.ours for link in one.service.hub.links] != [link.ours for link in other.service.hub.links]


async def test_what_one_says_all_hear_once(tmp_path: Path) -> None:
    async with town(tmp_path, 4) as t:
        heard: list[tuple[int, bytes]] = []
        for number, node in enumerate(t.nodes):
            node.judges[Topic.TRANSACTION] = lambda body, _, number=number: heard.append((number, body)) or Verdict.GOOD  # type: ignore[misc]
        await t.start()
        await t.linked()
        bodies = [bytes([number]) * (100 + 2000 * (number % 2)) for number in range(100)]
        for body in bodies:
            t.nodes[0].service.gossip.publish(Topic.TRANSACTION, body)
        await until(lambda: len(heard) == 300)
        assert sorted(heard) == sorted((number, body) for number in (1, 2, 3) for body in bodies)
        topic = t.nodes[1].service.network.topics[Topic.TRANSACTION]
        assert topic.messages_in >= 100
        assert t.nodes[1].service.network.bad == 0


async def test_who_was_killed_is_linked_again(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        await t.start()
        await t.linked()
        await t.nodes[2].stop()
        await until(lambda: t.nodes[2].id not in t.nodes[0].links | t.nodes[1].links)
        await t.nodes[2].start()
        await t.linked()


async def test_the_network_may_change_at_any_moment_of_an_ending(tmp_path: Path) -> None:
    """A newer file is taken over by a task that is not stopped in the middle of it, so perhaps when the links end."""
    async with town(tmp_path, 1) as t:
        for moment in moments():
            await t.start()
            service = t.nodes[0].service

            def change(service: PeerService = service) -> None:
                service.known.height = 0  # what it knows is an older one
                service.network_changed()

            with moment.happens(change):
                await t.nodes[0].stop()


async def test_who_is_struck_off_is_hung_up_and_refused(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        await t.start()
        await t.linked()
        gone = t.nodes[2]
        async with await dial(t.nodes[0], gone.key) as beside:  # a connection that is no link goes as well
            await until(lambda: len(t.nodes[0].service.hub) == 3)
            t.writer.set_node_active(gone.id, False)
            t.write()
            for node in t.nodes[:2]:
                node.service.network_changed()
            assert gone.id not in t.nodes[0].links | t.nodes[1].links
            assert (await beside.wait_closed()).code == "E-PEER-UNLICENSED"
        async with await dial(t.nodes[0], gone.key) as connection:
            assert await refusal(connection, chosen()) == "E-PEER-UNLICENSED"
        assert t.nodes[1].id in t.nodes[0].links


async def test_a_vote_is_dropped_taken_or_refused_as_the_chain_has_this_node_at_the_moment(tmp_path: Path) -> None:
    vote = Vote(3, 7, Kind.SKIP, NO_DIGEST, 1, bytes(VOTE_SIGNATURE_BYTES))
    async with town(tmp_path, 2) as t:
        await t.start()
        await t.linked()
        (one, two), heard = t.nodes, list[object]()
        one.service.take_consensus = lambda _session, _messages: None
        two.service.take_consensus = lambda _session, messages: heard.extend(messages)
        one.service.mesh(frozenset({one.id, two.id}), frozenset({two.id}))
        link = one.service.hub.link_to(two.id)
        assert link is not None
        two.service.mesh(frozenset(), None)  # no validator, as far as it knows: beside what is asked, nothing comes of it
        for _ in range(3):
            assert link.vote(encode(vote))
            await link.call(encode(HeightTold(1)), 10_000, max_answer_bytes=64)
        assert heard == []
        two.service.mesh(frozenset({one.id, two.id}), frozenset({one.id}))
        assert link.vote(encode(vote))
        await until(lambda: heard == [vote])
        two.service.mesh(frozenset(), None)
        assert link.vote(encode(vote))
        await link.call(encode(HeightTold(1)), 10_000, max_answer_bytes=64)
        assert heard == [vote]
        assert not two.service.ended
        two.service.mesh(frozenset({two.id}), frozenset())  # a validator, and the other none
        assert link.vote(encode(vote))
        await until(lambda: two.service.ended)
        assert set(two.service.ended) == {"E-PEER-UNLICENSED"}
        assert heard == [vote]


async def test_strangers_are_answered_as_devices_and_refused_as_nodes(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as t:
        await t.start()
        async with await dial(t.nodes[0], STRANGER) as connection:
            assert await connection.call(b"a key, please", deadline_ms=60_000) == b"answer to a key, please"
            for message in (chosen(), AddressAsk(bytes(32), 0), DialBackAsk(), HeightTold(1)):
                assert await refusal(connection, message) == "E-PEER-UNLICENSED"
            await connection.send(Channel.GOSSIP, encode(GossipGraft()))
            assert (await connection.wait_closed()).code == "E-PEER-UNLICENSED"
        assert len(t.nodes[0].service.hub) == 0


async def test_a_known_node_may_ask_without_being_linked(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        await t.start(t.nodes[0])
        async with await dial(t.nodes[0], t.nodes[1].key) as connection:
            assert await connection.call(b"a key, please", deadline_ms=60_000) == b"answer to a key, please"
            assert decode(await ask(connection, HeightTold(1)), HeightHeard, max_bytes=99).height == 1
            assert decode(await ask(connection, AddressAsk(bytes(32), 0)), AddressAnswer, max_bytes=99).records == ()
            assert t.nodes[1].id not in t.nodes[0].links


async def test_gossip_before_a_link_is_dropped_and_after_it_heard(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        t.nodes[0].told = t.nodes[1].told = ()
        await t.start(t.nodes[0])
        async with await dial(t.nodes[0], t.nodes[1].key) as connection:
            await connection.send(Channel.GOSSIP, encode(GossipGraft()))
            await connection.call(b"that one is through", deadline_ms=60_000)
            assert not t.nodes[0].service.gossip.core.mesh
            accepted = decode(await ask(connection, chosen()), LinkAccepted, max_bytes=999)
            assert accepted.seen.startswith("127.0.0.1:")
            assert t.nodes[0].links == {t.nodes[1].id}
            await connection.send(Channel.GOSSIP, encode(GossipGraft()))
            await until(lambda: t.nodes[0].service.gossip.core.mesh)
            assert decode(await ask(connection, chosen()), LinkAccepted, max_bytes=999) == accepted  # again: it is one
        await until(lambda: not t.nodes[0].links)


async def test_a_peer_that_is_not_understood_is_cut_off(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        await t.start(t.nodes[0])
        async with await dial(t.nodes[0], t.nodes[1].key) as connection:
            await ask(connection, chosen())
            await connection.send(Channel.GOSSIP, b"\xc1")
            assert (await connection.wait_closed()).code == "E-WIRE-MALFORMED"
        await until(lambda: t.nodes[0].service.network.ended["E-WIRE-MALFORMED"] == 1)
        assert not t.nodes[0].links


async def test_one_node_gets_four_connections_and_its_link_is_not_displaced_by_others(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        await t.start(t.nodes[0])
        hub = t.nodes[0].service.hub
        async with await dial(t.nodes[0], t.nodes[1].key) as link:
            await ask(link, chosen())
            async with await dial(t.nodes[0], t.nodes[1].key) as first:
                await until(lambda: len(hub) == 2)
                async with await dial(t.nodes[0], t.nodes[1].key), await dial(t.nodes[0], t.nodes[1].key):
                    await until(lambda: len(hub) == 4)
                    async with await dial(t.nodes[0], t.nodes[1].key):
                        assert (await first.wait_closed()).code == "E-PEER-LIMIT"
                        assert len(hub) == 4
                        assert t.nodes[0].links == {t.nodes[1].id}


async def test_a_flood_of_bad_records_costs_the_link(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        await t.start(t.nodes[0])
        async with await dial(t.nodes[0], t.nodes[1].key) as connection:
            await ask(connection, chosen())
            with trio.fail_after(60):
                for number in range(3):
                    await connection.send(Channel.GOSSIP, encode(GossipPush(Topic.ADDRESS, bytes([0xC1, number]))))
                assert (await connection.wait_closed()).code == "E-PEER-LIMIT"
        network = t.nodes[0].service.network
        assert (network.bad, network.expelled, network.greylisted) == (3, 1, 1)
        async with await dial(t.nodes[0], t.nodes[1].key) as connection:
            assert await refusal(connection, chosen()) == "E-PEER-LIMIT"
        assert network.refused["E-PEER-LIMIT"] == 1


async def test_dialling_back_says_what_came_of_each_address_and_is_not_for_the_asking(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        one, other = t.nodes
        t.writer.set_node_addresses(other.id, (other.listen, "127.0.0.1:1"))
        t.write()
        await t.start()
        await t.linked()
        async with await dial(one, other.key) as connection:
            answer = decode(await ask(connection, DialBackAsk()), DialBackAnswer, max_bytes=9999)
            assert [(result.address, result.code) for result in answer.results] == [
                (other.listen, ""),
                ("127.0.0.1:1", "E-PEER-UNREACHABLE"),
            ]
            assert await refusal(connection, DialBackAsk()) == "E-PEER-LIMIT"


async def test_a_height_is_told_to_all_links(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        await t.start()
        await t.linked()
        heard: list[int] = []
        t.nodes[1].service.height_heard = lambda _session, height: heard.append(height)
        t.writer.set_node_addresses(t.nodes[0].id, (t.nodes[0].listen,))
        t.write()
        await until(lambda: 2 in heard)  # though nobody says that the network has changed
        assert next(iter(t.nodes[1].service.hub.links)).height == 2


async def test_an_asker_is_not_made_a_link_on_a_connection_that_we_opened(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as t:
        await t.start()
        await t.linked()
        acceptor = next(node for node in t.nodes if not next(iter(node.service.hub.links)).ours)
        session = next(iter(acceptor.service.hub.links))
        with pytest.raises(QuStreamError) as caught:
            await session.call(encode(chosen()), 5000, max_answer_bytes=999)
        assert caught.value.code == "E-FRAME-ORDER"
        await t.linked()


async def test_a_link_that_is_clogged_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(tmp_path, 2) as t:
        await t.start()
        await t.linked()
        one, other = t.nodes
        [link] = one.service.hub.links
        monkeypatch.setattr(type(link), "is_clogged", property(lambda session: session is link))
        await until(lambda: one.service.hub.link_to(other.id) is not link, "it is gone")
        assert one.service.network.ended["E-PEER-LIMIT"] == 1
        await t.linked()


async def test_a_node_holds_no_place_against_others_but_its_links(tmp_path: Path) -> None:
    """Whoever has a licence and connects without end fills the places of a small listener; a device still gets in, and the link stays."""
    async with town(tmp_path, 2) as t:
        one, other = t.nodes
        one.limits = ListenerLimits(connections=4, useless_ms=0)
        await t.start(one)
        async with await dial(one, other.key) as link:
            await ask(link, chosen())
            held = [await dial(one, other.key) for _ in range(3)]
            async with held[0], held[1], held[2]:
                await until(lambda: one.stats.open == 4)
                for _ in range(5):
                    async with await dial(one, STRANGER) as device:
                        assert await device.call(b"a key", deadline_ms=60_000) == b"answer to a key"
                await until(lambda: any(each.end_code == "E-PEER-LIMIT" for each in held), "one of them had to go")
                assert one.links == {other.id}
                assert await link.call(b"still here", deadline_ms=60_000) == b"answer to still here"


async def test_a_link_is_never_displaced_by_the_listener(tmp_path: Path) -> None:
    async with town(tmp_path, 4) as t:
        one = t.nodes[0]
        one.limits = ListenerLimits(connections=3, useless_ms=0)
        await t.start(one)
        async with await dial(one, t.nodes[1].key) as a, await dial(one, t.nodes[2].key) as b, await dial(one, t.nodes[3].key) as c:
            for link in (a, b, c):
                await ask(link, chosen())
            assert len(one.links) == 3
            for _ in range(3):
                with pytest.raises(QuStreamError):
                    await dial(one, STRANGER)
            assert len(one.links) == 3
            assert one.stats.refused["connections"] == 3


async def test_a_record_leads_nobody_who_is_linked_through_the_internet_to_what_is_local(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        one, other, third = t.nodes
        await t.start(one, other)
        service = one.service
        assert service.within.local(third.id) is None or service.hub.links
        await t.linked(one, other)
        service.hub.link_to(other.id).ours = True  # type: ignore[union-attr]
        connection = service.hub.link_to(other.id).connection  # type: ignore[union-attr]
        assert service.within.local(third.id) is None  # a town of 127.0.0.1
        connection.remote = "9.9.9.9:7400"
        assert service.within.local(third.id) == (third.listen,)
        assert service.within.local(bytes(32)) == ()
