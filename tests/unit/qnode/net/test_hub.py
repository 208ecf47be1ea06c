"""All sessions of a node: links, bounds, hanging up."""

from __future__ import annotations

import pytest
from support.peers_town import until
from support.session_pair import BOB, facing

from qnode.net import hub as module
from qnode.net.hub import SESSIONS_PEER_MAX, Hub
from qustream.wire.codec import encode
from qustream.wire.gossip import GossipGraft

GRAFT = encode(GossipGraft())


def ignore(_peer: bytes, _messages: object) -> None:
    pass


async def test_sessions_by_number_and_links_by_peer() -> None:
    async with facing(2) as (alice, _):
        hub, (first, second) = alice.hub, alice.sessions
        assert (len(hub), list(hub)) == (2, [first, second])
        assert hub.get(first.number) is first
        assert hub.link_to(BOB.id) is None
        assert not hub.say(BOB.id, GRAFT)
        hub.make_link(second, ignore)
        assert list(hub.links) == [second]
        assert hub.link_to(BOB.id) is second
        assert hub.say(BOB.id, GRAFT)
        assert (first.messages_out, second.messages_out) == (0, 1)
        with pytest.raises(AssertionError):
            hub.make_link(first, ignore)


async def test_numbers_are_used_once() -> None:
    async with facing() as (alice, _):
        numbers = [alice.hub.number() for _ in range(5)]
        assert len({*numbers, alice.sessions[0].number}) == 6


async def test_who_is_hung_up_is_gone_at_once() -> None:
    async with facing(2) as (alice, _):
        hub, (first, second) = alice.hub, alice.sessions
        hub.make_link(first, ignore)
        hub.hang_up(first, "E-PEER-LIMIT")
        assert hub.get(first.number) is None
        assert hub.link_to(BOB.id) is None
        assert list(hub) == [second]
        assert not hub.say(BOB.id, GRAFT)
        assert not hub.leave(first)
        hub.make_link(second, ignore)
        await until(lambda: alice.codes == ["E-PEER-LIMIT"])
        assert list(hub.links) == [second]  # the first one's end took nothing with it


async def test_a_peer_has_so_many_sessions_and_the_oldest_that_is_no_link_gives_way() -> None:
    async with facing(SESSIONS_PEER_MAX) as (alice, _):
        hub, sessions = alice.hub, list(alice.sessions)
        hub.make_link(sessions[0], ignore)
        hub.leave(sessions[3])
        hub.join(sessions[3])
        assert len(hub) == SESSIONS_PEER_MAX
        hub.leave(sessions[3])
        extra = sessions[3]
        for number in (hub.number(), hub.number()):
            extra.number = number
            hub.join(extra)
        assert sessions[0] in list(hub)
        assert sessions[1] not in list(hub)
        await until(lambda: alice.codes == ["E-PEER-LIMIT"])


async def test_all_sessions_of_a_peer_share_one_pace_and_a_new_one_does_not_begin_anew() -> None:
    async with facing(2) as (alice, _):
        first, second = alice.sessions
        assert first.connection.pace is second.connection.pace
        for session in (first, second):
            alice.hub.hang_up(session)
        alice.hub.join(second)
        assert first.connection.pace is second.connection.pace
        elsewhere = Hub()
        elsewhere.join(first)
        assert first.connection.pace is not second.connection.pace


async def test_so_many_paces_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACES_MAX", 2)
    async with facing() as (alice, _):
        [session] = alice.sessions
        for number in range(5):
            session.peer = bytes([number])
            alice.hub._pace_of(session)
        assert list(alice.hub._paces) == [bytes([3]), bytes([4])]
        session.peer = BOB.id
