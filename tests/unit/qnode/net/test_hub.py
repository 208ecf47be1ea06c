"""All sessions of a node: links, bounds, hanging up."""

from __future__ import annotations

import pytest
from support.peers_town import until
from support.session_pair import BOB, facing

from qnode.net.hub import SESSIONS_PEER_MAX
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
