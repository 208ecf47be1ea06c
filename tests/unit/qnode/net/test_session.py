"""One connection with a known node: when its gossip is heard, what is dropped, what ends it."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace
from support.peers_town import until
from support.session_pair import ALICE, BOB, End, facing

from qnode.net import session as module
from qnode.net.session import EARLY_MAX, EARLY_MAX_BYTES, WORK_BURST
from qustream.errors import QuStreamError
from qustream.transport.limits import CHANNEL_LIMITS, REFUSED_WORK, REQUESTS_MAX, REQUESTS_WORKED_ON_MAX, Channel
from qustream.wire.codec import encode
from qustream.wire.consensus import NO_DIGEST, VOTE_SIGNATURE_BYTES, Certificate, Kind, Vote
from qustream.wire.gossip import Announced, GossipAnnounce, GossipGraft, GossipMessage, GossipPull, GossipPush, Topic

Heard = list[tuple[bytes, GossipMessage]]


def push(number: int, size: int = 100) -> GossipPush:
    return GossipPush(Topic.TRANSACTION, number.to_bytes(4, "big") * (size // 4))


async def test_a_session_says_who_and_where_its_peer_is() -> None:
    async with facing() as (alice, bob):
        [ours], [theirs] = alice.sessions, bob.sessions
        assert (ours.peer, theirs.peer) == (BOB.id, ALICE.id)
        assert (ours.ours, theirs.ours, ours.height) == (True, False, 7)
        assert ours.address.startswith("127.0.0.1:")
        assert ours.address != theirs.address
        assert 0 <= ours.connection.round_trip_ms() < 1000
        assert [ours.is_link, theirs.is_link] == [False, False]
        assert not theirs.connection.is_kept


async def test_a_link_hands_on_what_came_in_order() -> None:
    async with facing() as (alice, bob):
        heard: Heard = []
        [ours], [theirs] = alice.sessions, bob.sessions
        theirs.begin(lambda peer, messages: heard.extend((peer, message) for message in messages))
        assert theirs.connection.is_kept
        sent = [push(number) for number in range(500)]
        assert all(ours.say(encode(message)) for message in sent)
        await until(lambda: len(heard) == 500)
        assert heard == [(ALICE.id, message) for message in sent]
        assert (ours.messages_out, theirs.messages_in) == (500, 500)
        assert ours.bytes_out == theirs.bytes_in == sum(len(encode(message)) for message in sent)


async def test_gossip_before_the_link_is_dropped_at_the_end_that_was_not_asked() -> None:
    async with facing() as (alice, bob):
        heard: Heard = []
        [ours], [theirs] = alice.sessions, bob.sessions
        ours.say(encode(push(1)))
        await until(lambda: theirs.messages_in == 1)
        theirs.begin(lambda peer, messages: heard.extend((peer, message) for message in messages))
        theirs.release_early()
        ours.say(encode(push(2)))
        await until(lambda: heard)
        assert heard == [(ALICE.id, push(2))]


async def test_what_comes_before_the_acceptance_is_heard_after_it() -> None:
    """The peer accepted and counts us as told; its word of that may be behind what it said."""
    async with facing() as (alice, bob):
        heard: Heard = []
        [ours], [theirs] = alice.sessions, bob.sessions
        ours.await_acceptance()
        theirs.say(encode(push(1)))
        await until(lambda: ours.messages_in == 1)
        ours.begin(lambda peer, messages: heard.extend((peer, message) for message in messages))
        assert heard == []
        ours.release_early()
        assert heard == [(BOB.id, push(1))]
        ours.release_early()
        assert len(heard) == 1


@pytest.mark.parametrize(("count", "size", "kept"), [(EARLY_MAX + 10, 100, EARLY_MAX), (6, EARLY_MAX_BYTES // 4, 3)])
async def test_no_more_is_kept_before_the_acceptance_than_the_bound(count: int, size: int, kept: int) -> None:
    async with facing() as (alice, bob):
        heard: Heard = []
        [ours], [theirs] = alice.sessions, bob.sessions
        ours.await_acceptance()
        for number in range(count):
            theirs.say(encode(push(number, size)))
            await until(lambda number=number: ours.messages_in == number + 1)  # type: ignore[misc]
        ours.begin(lambda peer, messages: heard.extend((peer, message) for message in messages))
        ours.release_early()
        assert len(heard) == kept


async def test_who_is_not_understood_is_hung_up_on() -> None:
    async with facing() as (alice, bob):
        [ours], [theirs] = alice.sessions, bob.sessions
        theirs.begin(lambda _peer, _messages: None)
        ours.say(b"\x91\x7f")
        await until(lambda: bob.codes and alice.codes)
        assert (alice.codes, bob.codes) == (["E-WIRE-MALFORMED"], ["E-WIRE-MALFORMED"])


async def test_requests_go_both_ways_and_refusals_keep_their_code() -> None:
    async with facing() as (alice, bob):
        [ours], [theirs] = alice.sessions, bob.sessions
        assert await ours.call(b"ab", 5000, max_answer_bytes=9) == b"abab"
        assert await theirs.call(b"cd", 5000, max_answer_bytes=9) == b"cdcd"
        with pytest.raises(QuStreamError) as caught:
            await ours.call(b"no", 5000, max_answer_bytes=9)
        assert (caught.value.code, caught.value.retry_after_ms) == ("E-PEER-LIMIT", 5)


async def test_bulk_goes_to_who_takes_it_and_gossip_beside() -> None:
    async with facing() as (alice, bob):
        heard: Heard = []
        [ours], [theirs] = alice.sessions, bob.sessions
        theirs.begin(lambda peer, messages: heard.extend((peer, message) for message in messages))
        pieces = [bytes([number]) * 100_000 for number in range(6)]
        for number, piece in enumerate(pieces):
            await ours.connection.send(Channel.BULK, piece)
            ours.say(encode(push(number)))
        await until(lambda: len(bob.bulk) == 6 and len(heard) == 6)
        assert bob.bulk == pieces


async def test_a_full_queue_drops_and_counts_and_never_waits() -> None:
    async with facing() as (alice, _):
        [ours] = alice.sessions
        most = CHANNEL_LIMITS[Channel.GOSSIP].queue_max_messages
        said = [ours.say(encode(push(number))) for number in range(most + 5)]
        assert (said.count(False), ours.dropped, ours.messages_out) == (5, 5, most)


async def test_a_queue_that_stays_full_clogs_the_link_and_one_that_takes_something_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async with facing() as (alice, _):
        [ours] = alice.sessions
        for number in range(CHANNEL_LIMITS[Channel.GOSSIP].queue_max_messages + 1):
            ours.say(encode(push(number)))
        assert not ours.is_clogged  # full, but not for long
        monkeypatch.setattr(module, "FULL_MAX_S", -1.0)
        assert ours.is_clogged
        await until(lambda: ours.say(encode(push(1))))
        assert not ours.is_clogged


async def test_after_hanging_up_nothing_is_said_or_heard() -> None:
    async with facing() as (alice, bob):
        heard: Heard = []
        [ours], [theirs] = alice.sessions, bob.sessions
        theirs.begin(lambda peer, messages: heard.extend((peer, message) for message in messages))
        ours.say(encode(push(1)))
        theirs.hang_up("E-PEER-LIMIT", "enough")
        assert not theirs.say(encode(push(2)))
        assert not theirs.is_link
        await until(lambda: alice.codes and bob.codes)
        assert (alice.codes, bob.codes) == (["E-PEER-LIMIT"], ["E-PEER-LIMIT"])
        assert heard == []
        assert not ours.say(encode(push(3)))


async def test_what_costs_us_much_counts_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """News of 64 messages counts as sixteen more; so does a request."""
    spent: list[int] = []
    spend = module.Bucket.spend

    def noted(bucket: module.Bucket, tokens: int, now_s: float) -> float:
        spent.append(tokens)
        return spend(bucket, tokens, now_s)

    monkeypatch.setattr(module.Bucket, "spend", noted)
    async with facing() as (alice, bob):
        [ours], [theirs] = alice.sessions, bob.sessions
        assert theirs.connection.pace is not None
        assert ours.connection.pace is not None
        theirs.begin(lambda _peer, _messages: None)
        ids = [number.to_bytes(32, "big") for number in range(64)]
        for message, cost in (
            (GossipAnnounce(tuple(Announced(name, Topic.BLOCK, 5, True) for name in ids)), 16),
            (GossipPull(tuple(ids)), 16),
            (GossipGraft(), 0),
        ):
            spent.clear()
            ours.say(encode(message))
            await until(lambda cost=cost: cost in spent)  # type: ignore[misc]
            assert max(spent) == max(cost, 2)  # beside a record and a message
        spent.clear()
        await ours.call(b"ab", 5000, max_answer_bytes=9)
        assert module.REQUEST_WORK in spent


async def test_who_makes_too_much_work_is_read_more_slowly() -> None:
    async with facing() as (alice, bob):
        [ours], [theirs] = alice.sessions, bob.sessions
        theirs.begin(lambda _peer, _messages: None)
        assert theirs.connection.pace is not None
        theirs.connection.pace.spend(2 * WORK_BURST, theirs.opened_s)
        ours.say(encode(push(1)))
        await until(lambda: theirs.messages_in == 1)  # what was read is heard; the next read waits for the debt
        ours.say(encode(push(2)))
        answered: list[bytes] = []
        with trio.move_on_after(0.5):
            answered.append(await ours.call(b"ab", 60_000, max_answer_bytes=9))
        assert answered == []
        assert theirs.messages_in == 1


async def test_a_request_above_the_bound_counts_as_one_that_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(End, "answer", never)
    async with facing() as (alice, bob):
        [ours], [theirs] = alice.sessions, bob.sessions
        refused: list[str] = []

        async def ask() -> None:
            try:
                await ours.call(b"x", 20_000, max_answer_bytes=9)
            except QuStreamError as error:
                refused.append(error.code)

        spent: list[int] = []
        monkeypatch.setattr(module.Bucket, "spend", lambda _bucket, tokens, _now_s: spent.append(tokens) or 0.0)
        async with trio.open_nursery() as nursery:
            for _ in range(REQUESTS_MAX + 50):
                nursery.start_soon(ask)
            counted = 50 + REQUESTS_WORKED_ON_MAX  # a request that is worked on counts as much as one that is refused
            await until(lambda: len(refused) == 50 and spent.count(REFUSED_WORK) >= counted)
            nursery.cancel_scope.cancel()
        assert set(refused) == {"E-PEER-LIMIT"}
        assert theirs.connection.open_requests == REQUESTS_MAX
        assert spent.count(REFUSED_WORK) == counted


VOTE = Vote(3, 7, Kind.SKIP, NO_DIGEST, 1, bytes(VOTE_SIGNATURE_BYTES))


def joined(end: End, heard: list[object]) -> None:
    end.sessions[0].join_consensus(lambda session, messages: heard.extend((session.peer, message) for message in messages))


async def test_validators_say_votes_to_each_other_at_once() -> None:
    async with facing() as (alice, bob):
        heard: list[object] = []
        joined(alice, [])
        joined(bob, heard)
        assert alice.sessions[0].is_validators
        votes = [replace(VOTE, view=number) for number in range(100)]
        assert all(alice.sessions[0].vote(encode(vote)) for vote in votes)
        await until(lambda: len(heard) == 100)
        assert heard == [(ALICE.id, vote) for vote in votes]


async def test_nobody_else_may_use_the_consensus_channel() -> None:
    async with facing() as (alice, bob):
        joined(alice, [])
        alice.sessions[0].vote(encode(VOTE))
        await until(lambda: bob.codes)
        assert bob.codes == ["E-PEER-UNLICENSED"]


async def test_who_is_no_validator_any_more_is_refused() -> None:
    async with facing() as (alice, bob):
        heard: list[object] = []
        joined(alice, [])
        joined(bob, heard)
        alice.sessions[0].vote(encode(VOTE))
        await until(lambda: heard)
        bob.sessions[0].join_consensus(None)
        assert not bob.sessions[0].is_validators
        alice.sessions[0].vote(encode(VOTE))
        await until(lambda: bob.codes)
        assert (bob.codes, len(heard)) == (["E-PEER-UNLICENSED"], 1)


async def test_who_is_no_validator_as_far_as_it_knows_drops_what_one_says_unread() -> None:
    certificate = Certificate(3, 7, Kind.FINAL, bytes(32), b"\xff", (bytes(VOTE_SIGNATURE_BYTES),) * 8)
    async with facing() as (alice, bob):
        joined(alice, [])
        bob.sessions[0].ignore_consensus()
        assert not bob.sessions[0].is_validators
        alice.sessions[0].vote(encode(VOTE))
        alice.sessions[0].vote(b"\xc1 is no message at all")
        await alice.sessions[0].connection.send(Channel.BULK, encode(certificate))
        await alice.sessions[0].connection.send(Channel.BULK, b"something else")
        await until(lambda: bob.bulk)
        assert (bob.bulk, bob.codes) == ([b"something else"], [])
        heard: list[object] = []
        joined(bob, heard)
        alice.sessions[0].vote(encode(VOTE))
        await until(lambda: heard)
        assert heard == [(ALICE.id, VOTE)]


async def test_a_certificate_comes_in_bulk_and_other_bulk_goes_where_it_always_went() -> None:
    async with facing() as (alice, bob):
        heard: list[object] = []
        joined(bob, heard)
        signatures = tuple(bytes([number]) * VOTE_SIGNATURE_BYTES for number in range(100))
        certificate = Certificate(3, 7, Kind.FINAL, bytes(32), b"\xff" * 13, signatures)
        await alice.sessions[0].connection.send(Channel.BULK, encode(certificate))
        await alice.sessions[0].connection.send(Channel.BULK, b"something else")
        await until(lambda: heard and bob.bulk)
        assert (heard, bob.bulk) == ([(ALICE.id, certificate)], [b"something else"])


async def test_a_certificate_of_a_stranger_is_bulk_like_any_other() -> None:
    async with facing() as (alice, bob):
        await alice.sessions[0].connection.send(Channel.BULK, encode(VOTE))
        await until(lambda: bob.bulk)
        assert bob.bulk == [encode(VOTE)]


async def test_what_is_no_vote_ends_the_connection() -> None:
    async with facing() as (alice, bob):
        joined(alice, [])
        joined(bob, [])
        alice.sessions[0].vote(b"\xc1")
        await until(lambda: bob.codes)
        assert bob.codes == ["E-WIRE-MALFORMED"]


async def test_a_validator_that_takes_no_votes_loses_the_connection() -> None:
    async with facing() as (alice, bob):
        joined(alice, [])
        joined(bob, [])
        limits, body = CHANNEL_LIMITS[Channel.CONSENSUS], encode(VOTE)
        # More at once than may wait: nothing is sent as long as this task does not wait.
        sent = [alice.sessions[0].vote(body) for _ in range(limits.queue_max_messages + 1)]
        assert not sent[-1]
        await until(lambda: alice.codes)
        assert alice.codes == ["E-PEER-LIMIT"]
