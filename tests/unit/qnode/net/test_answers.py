"""Who answers which request, and how often."""

from __future__ import annotations

import pytest
import trio.testing
from support.session_pair import ALICE, BOB, HELLO, facing

from qnode.net import answers as module
from qnode.net.answers import NODE_TAGS, PEER_TAGS, Desk, Quota
from qnode.net.dialer import Dialer
from qnode.net.session import Session
from qnode.net.strangers import Stranger
from qnode.net.tags import tag_of
from qustream.errors import QuStreamError, fault
from qustream.transport.greeting import Peer
from qustream.wire.codec import decode, encode
from qustream.wire.keys import DeviceRequest
from qustream.wire.peers import AddressAsk, DialBackAnswer, DialBackAsk, HeightTold, LinkOpen, LinkReason

ASKS = (LinkOpen(LinkReason.CHOSEN, 5), AddressAsk(bytes(32), 0), DialBackAsk(), HeightTold(9))


async def anyone(_peer: Peer, body: bytes, _deadline_ms: int) -> bytes:
    return b"anyone: " + body


async def peers(_session: Session, body: bytes, deadline_ms: int) -> bytes:
    return b"peers: %d" % deadline_ms + body


def test_a_tag_is_read_without_decoding() -> None:
    assert [tag_of(encode(ask)) for ask in ASKS] == [70, 72, 74, 76]
    assert tag_of(encode(DeviceRequest(b"", bytes(3373), b""))) == 25
    assert all(tag_of(encode(ask)) in PEER_TAGS for ask in ASKS)


@pytest.mark.parametrize("body", [b"", b"\x92", b"\x90\x46", b"\xc1\x46", b"\xdc\x00\x46", b"\x91\xcc\x46", b"\xff\xff"])
def test_what_is_no_message_has_no_tag(body: bytes) -> None:
    assert tag_of(body) not in NODE_TAGS


async def test_the_desk_sends_each_request_to_who_answers_it() -> None:
    async with facing() as (alice, _):
        [session] = alice.sessions
        desk = Desk(anyone)
        desk.route(PEER_TAGS, peers)
        for ask in ASKS:
            assert await desk.answer(session, encode(ask), 7) == b"peers: 7" + encode(ask)
        assert await desk.answer(session, b"a key", 7) == b"anyone: a key"
        assert await desk.answer_stranger(session.connection.peer, b"a key", 7) == b"anyone: a key"


async def test_strangers_are_refused_what_is_for_nodes_whether_it_is_answered_or_not() -> None:
    async with facing() as (alice, _):
        peer = alice.sessions[0].connection.peer
        for desk in (Desk(anyone), Desk(anyone)):
            for tag in NODE_TAGS:
                with pytest.raises(QuStreamError) as caught:
                    await desk.answer_stranger(peer, bytes([0x92, tag, 0]), 7)
                assert caught.value.code == "E-PEER-UNLICENSED"
            desk.route(PEER_TAGS, peers)


async def test_what_nodes_ask_is_answered_to_strangers_where_there_is_an_answer_for_them_by_where_they_come_from() -> None:
    asked: list[tuple[Stranger, int]] = []

    async def strangers(who: Stranger, body: bytes, deadline_ms: int) -> bytes:
        asked.append((who, deadline_ms))
        if len(body) > 3:
            raise fault("E-FILE", "/var/lib/secret")
        return b"a little"

    async with facing() as (alice, _):
        [session] = alice.sessions
        peer, desk = session.connection.peer, Desk(anyone)
        desk.route(range(103, 105), peers)
        desk.route_strangers(range(103, 104), strangers)
        body = bytes([0x92, 103, 0])
        assert await desk.answer(session, body, 7) == b"peers: 7" + body
        assert await desk.answer_stranger(peer, body, 7, remote="192.0.2.7:55000") == b"a little"
        assert await desk.answer_stranger(peer, body, 8) == b"a little"
        assert asked == [(Stranger(peer.id, "192.0.0.0/16"), 7), (Stranger(peer.id, peer.id.hex()), 8)]
        with pytest.raises(QuStreamError) as caught:
            await desk.answer_stranger(peer, body + body, 7)
        assert (caught.value.code, "secret" in caught.value.detail) == ("E-FILE", False)
        for tag in (104, 125):
            with pytest.raises(QuStreamError) as caught:
                await desk.answer_stranger(peer, bytes([0x92, tag, 0]), 7)
            assert caught.value.code == "E-PEER-UNLICENSED"
        desk.is_closed = True
        with pytest.raises(QuStreamError, match="E-PEER-CLOSED"):
            await desk.answer_stranger(peer, body, 7)


async def test_a_desk_that_is_closed_begins_nothing() -> None:
    async with facing() as (alice, _):
        desk = Desk(anyone)
        desk.route(PEER_TAGS, peers)
        desk.is_closed = True
        for ask in (encode(DialBackAsk()), b"a key"):
            with pytest.raises(QuStreamError) as caught:
                await desk.answer(alice.sessions[0], ask, 7)
            assert caught.value.code == "E-PEER-CLOSED"
        with pytest.raises(QuStreamError):
            await desk.answer_stranger(alice.sessions[0].connection.peer, b"a key", 7)


async def test_a_quota_is_each_peers_own_and_comes_back(autojump_clock: trio.testing.MockClock) -> None:
    quota = Quota(2, 60_000)
    quota.spend(b"a")
    await trio.sleep(10)
    quota.spend(b"a")
    quota.spend(b"b")
    with pytest.raises(QuStreamError) as caught:
        quota.spend(b"a")
    assert caught.value.code == "E-PEER-LIMIT"
    assert 49_000 < (caught.value.retry_after_ms or 0) <= 50_001
    await trio.sleep(51)
    quota.spend(b"a")


async def test_quotas_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUOTAS_MAX", 10)
    quota = Quota(1, 60_000)
    for number in range(100):
        quota.spend(bytes([number]))
    assert len(quota._since) == 10
    with pytest.raises(QuStreamError):
        quota.spend(bytes([99]))


async def test_a_peer_ask_that_is_none_is_refused() -> None:
    async with facing() as (alice, _):
        answers = module.PeerAnswers(None, None)  # type: ignore[arg-type]
        for body in (b"\x91\x47", b"\x92\x46\x09", bytes([0x91, 70]) + bytes(100)):
            with pytest.raises(QuStreamError) as caught:
                await answers.answer(alice.sessions[0], body, 7)
            assert caught.value.code.startswith("E-WIRE-")


async def test_who_asks_from_outside_learns_nothing_of_what_listens_here() -> None:
    class Host:
        def addresses_of(self, _node: bytes) -> list[str]:
            return [alice.sessions[0].address, "127.0.0.1:1"]

    async with facing() as (alice, bob):
        [session] = bob.sessions  # of alice, to whom bob listens
        answers = module.PeerAnswers(Host(), Dialer(ALICE, lambda: HELLO))  # type: ignore[arg-type]
        ask, session.peer = encode(DialBackAsk()), BOB.id
        found = []
        for remote in ("127.0.0.1:5", "9.9.9.9:5", ""):
            session.connection.remote = remote
            answers._dial_backs = Quota(1, 1)
            answer = decode(await answers.answer(session, ask, 5000), DialBackAnswer, max_bytes=9999)
            found.append([result.code for result in answer.results])
        session.peer = ALICE.id
        assert found == [["", "E-PEER-UNREACHABLE"], ["E-PEER-UNREACHABLE"] * 2, ["E-PEER-UNREACHABLE"] * 2]


async def test_a_peer_does_not_hear_what_files_of_ours_are_called() -> None:
    async def broken(_session: Session, _body: bytes, _deadline_ms: int) -> bytes:
        raise fault("E-FILE", "/var/lib/qnode/peers: no such file")

    async with facing() as (alice, _):
        desk = Desk(anyone)
        desk.route(PEER_TAGS, broken)
        with pytest.raises(QuStreamError) as caught:
            await desk.answer(alice.sessions[0], encode(AddressAsk(bytes(32), 0)), 7)
        assert (caught.value.code, caught.value.detail) == ("E-FILE", "")


async def test_who_leads_us_to_somebody_elses_door_waits() -> None:
    class Host:
        addresses: list[str]

        def addresses_of(self, _node: bytes) -> list[str]:
            return self.addresses

    async with facing() as (alice, bob):
        [session], host = bob.sessions, Host()
        answers = module.PeerAnswers(host, Dialer(BOB, lambda: HELLO))  # type: ignore[arg-type]
        answers._dial_backs = Quota(100, 60_000)
        bobs = alice.sessions[0].address
        dialled = len(bob.sessions)
        for addresses, codes in (
            (["127.0.0.1:1"], ["E-PEER-UNREACHABLE"]),  # nobody is there, which is no harm
            ([bobs, bobs], ["E-PEER-IDENTITY"]),
        ):
            host.addresses = addresses
            answer = decode(await answers.answer(session, encode(DialBackAsk()), 5000), DialBackAnswer, max_bytes=9999)
            assert [result.code for result in answer.results] == codes
        with pytest.raises(QuStreamError) as caught:
            await answers.answer(session, encode(DialBackAsk()), 5000)
        assert caught.value.code == "E-PEER-LIMIT"
        assert (caught.value.retry_after_ms or 0) > 3_000_000
        assert len(bob.sessions) == dialled
