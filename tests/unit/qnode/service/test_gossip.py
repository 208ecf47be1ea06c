"""The gossip service without a network: what is said to whom, judges that answer at once and later, time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
import trio.testing
from support.stepwise import moments

from qnode.service import gossip as module
from qnode.service.gossip import GossipService, Judge, Verdict
from qustream.rules.peering import message_id
from qustream.wire.codec import decode, encode
from qustream.wire.gossip import (
    GOSSIP_MAX_BYTES,
    Announced,
    GossipAnnounce,
    GossipGraft,
    GossipMessage,
    GossipPull,
    GossipPush,
    Topic,
)

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))


def good(_body: bytes, _peer: bytes) -> Verdict:
    return Verdict.GOOD


class Wire:
    """What was said to whom; `deaf` take nothing."""

    def __init__(self) -> None:
        self.said: list[tuple[bytes, bytes]] = []
        self.deaf: set[bytes] = set()
        self.expelled: list[tuple[bytes, int]] = []

    def say(self, peer: bytes, body: bytes) -> bool:
        self.said.append((peer, body))
        return peer not in self.deaf

    def to(self, peer: bytes) -> list[GossipMessage]:
        return [decode(body, GossipMessage, max_bytes=GOSSIP_MAX_BYTES) for each, body in self.said if each == peer]


@asynccontextmanager
async def running(judge: Judge = good) -> AsyncIterator[tuple[GossipService, Wire]]:
    """A service with links to a, b and c, which are ours and so in the mesh."""
    wire = Wire()
    gossip = GossipService(
        say=wire.say, expel=lambda peer, until_ms: wire.expelled.append((peer, until_ms)), judges={Topic.ANNOUNCEMENT: judge}
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        await nursery.start(gossip.run)
        for peer in (A, B, C):
            gossip.opened(peer, operator=peer.hex(), ours=True, assigned=False)
        assert wire.to(A) == [GossipGraft()]
        wire.said.clear()
        yield gossip, wire
        nursery.cancel_scope.cancel()


def push(body: bytes, topic: Topic = Topic.ANNOUNCEMENT) -> GossipPush:
    return GossipPush(topic, body)


async def test_what_is_published_goes_to_all_and_is_encoded_once() -> None:
    async with running() as (gossip, wire):
        gossip.publish(Topic.ANNOUNCEMENT, b"news")
        assert wire.to(A) == wire.to(B) == wire.to(C) == [push(b"news")]
        assert len({id(body) for _, body in wire.said}) == 1
        count = gossip.topics[Topic.ANNOUNCEMENT]
        assert (count.messages_out, count.bytes_out, count.messages_in) == (3, 12, 0)


async def test_what_is_good_is_passed_on_at_once_and_once() -> None:
    async with running() as (gossip, wire):
        gossip.heard(A, [push(b"one"), push(b"two"), push(b"one")])
        assert sorted(wire.to(B), key=repr) == sorted([push(b"one"), push(b"two")], key=repr)
        assert wire.to(A) == []
        gossip.heard(B, [push(b"one")])
        assert gossip.core.duplicates == 2
        assert gossip.topics[Topic.ANNOUNCEMENT].messages_in == 4


async def test_a_topic_that_nobody_judges_is_of_no_use() -> None:
    async with running() as (gossip, wire):
        gossip.heard(A, [push(b"a transaction", Topic.TRANSACTION)])
        assert wire.said == []
        assert gossip.core.links[A].score == 0
        assert not gossip.bad.total()
        entries = [Announced(bytes([number]) * 32, topic, 5000, True) for number, topic in enumerate(Topic)]
        gossip.heard(A, [GossipAnnounce(tuple(entries)), GossipAnnounce((entries[0],))])  # what it tells of the same is not pulled
        assert wire.to(A) == [GossipPull((entries[Topic.ANNOUNCEMENT - 1].id,))]
        assert {type(message) for message in wire.to(B)} == {GossipAnnounce}
        assert gossip.core.sizes["pulls"] == 1


async def test_a_judge_that_takes_its_time_is_waited_for() -> None:
    verdicts: dict[bytes, trio.Event] = {b"early": trio.Event(), b"late": trio.Event()}

    async def slow(body: bytes) -> Verdict:
        await verdicts[body].wait()
        return Verdict.GOOD

    async with running(lambda body, _: slow(body)) as (gossip, wire):
        gossip.heard(A, [push(b"late"), push(b"early")])
        await trio.testing.wait_all_tasks_blocked()
        assert wire.said == []
        verdicts[b"early"].set()
        await trio.testing.wait_all_tasks_blocked()
        assert wire.to(B) == wire.to(C) == [push(b"early")]
        verdicts[b"late"].set()
        await trio.testing.wait_all_tasks_blocked()
        assert wire.to(B) == [push(b"early"), push(b"late")]
        assert gossip._judging == 0


async def test_no_more_judges_are_waited_for_than_the_bound_and_all_get_their_turn() -> None:
    under_way = most = 0

    async def slow() -> Verdict:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await trio.sleep(0.01)
        under_way -= 1
        return Verdict.USELESS

    judged = 0

    def judge(_body: bytes, _peer: bytes) -> Awaitable[Verdict]:
        nonlocal judged
        judged += 1
        return slow()

    async with running(judge) as (gossip, _):
        gossip.heard(A, [push(number.to_bytes(4, "big"), Topic.ANNOUNCEMENT) for number in range(30)])
        gossip.heard(B, [push(number.to_bytes(4, "big"), Topic.ANNOUNCEMENT) for number in range(30, 60)])
        gossip.heard(C, [push(number.to_bytes(4, "big"), Topic.ANNOUNCEMENT) for number in range(60, 90)])
        with trio.fail_after(10):
            while gossip._judging:
                await trio.sleep(0.01)
        assert (judged, most) == (90, module.JUDGES_MAX)


class Never:
    """A verdict that does not come. No coroutine, for which somebody would have to wait."""

    def __await__(self) -> Generator[Any, Any, Verdict]:
        return (yield from trio.sleep_forever().__await__())


async def test_something_may_be_heard_at_any_moment_of_an_ending() -> None:
    for moment in moments():
        async with AsyncExitStack() as stack:
            gossip, _ = await stack.enter_async_context(running(lambda _body, _peer: Never()))
            with moment.happens(lambda gossip=gossip: gossip.heard(A, [push(b"news")])):  # type: ignore[misc]
                await stack.aclose()
        assert not gossip._judging


async def test_who_brings_what_is_bad_is_expelled() -> None:
    async with running(lambda _body, _peer: Verdict.BAD) as (gossip, wire):
        gossip.heard(A, [push(bytes([number])) for number in range(5)])
        assert [peer for peer, _ in wire.expelled] == [A]
        assert wire.expelled[0][1] > gossip._now_ms()
        assert gossip.bad[Topic.ANNOUNCEMENT] == 3
        assert gossip.expelled == 1
        gossip.closed(A)  # harmless: it is gone


async def test_who_tells_what_is_not_true_elsewhere_is_charged_here() -> None:
    async with running() as (gossip, wire):
        for _ in range(3):
            gossip.misled(A)
        assert [peer for peer, _ in wire.expelled] == [A]


async def test_a_message_that_a_full_queue_drops_is_counted() -> None:
    async with running() as (gossip, wire):
        wire.deaf = {B}
        gossip.publish(Topic.ANNOUNCEMENT, b"news")
        assert gossip.unsent == 1
        assert gossip.topics[Topic.ANNOUNCEMENT].messages_out == 2


async def test_a_pull_that_is_not_answered_is_made_elsewhere_in_time(autojump_clock: trio.testing.MockClock) -> None:
    body = bytes(5000)
    name = message_id(Topic.ANNOUNCEMENT, body)
    news = GossipAnnounce((Announced(name, Topic.ANNOUNCEMENT, len(body), True),))
    async with running() as (gossip, wire):
        gossip.heard(A, [news])
        gossip.heard(B, [news])
        assert GossipPull((name,)) in wire.to(A)
        assert GossipPull((name,)) not in wire.to(B)
        await trio.sleep(1.5)
        assert GossipPull((name,)) in wire.to(B)
        gossip.heard(B, [GossipPush(Topic.ANNOUNCEMENT, body)])
        gossip.heard(C, [GossipPull((name,))])  # which was told of it while it was on its way
        assert GossipPush(Topic.ANNOUNCEMENT, body) in wire.to(C)


async def test_the_heart_beats_every_second(autojump_clock: trio.testing.MockClock) -> None:
    """Lazy repair is the heart's work: whoever is linked but not in the mesh hears of what came."""
    async with running() as (gossip, wire):
        late = bytes([9]) * 32
        gossip.publish(Topic.ANNOUNCEMENT, b"news")
        gossip.opened(late, operator="late", ours=False, assigned=False)
        await trio.sleep(1.2)
        told = [message for message in wire.to(late) if isinstance(message, GossipAnnounce | GossipPush)]
        assert told


async def test_it_stops_with_judges_under_way_and_others_waiting() -> None:
    """No coroutine is left that nobody awaits (that would be a warning, which is an error here)."""

    async def never() -> Verdict:
        await trio.sleep_forever()
        raise AssertionError

    async with running(lambda _body, _peer: never()) as (gossip, _):
        for peer in (A, B, C):
            gossip.heard(peer, [push(peer[:1] + bytes([number])) for number in range(30)])
        await trio.testing.wait_all_tasks_blocked()
        assert len(gossip._waiting) == 90 - module.JUDGES_MAX


async def test_what_is_said_before_it_runs_is_said() -> None:
    wire = Wire()
    gossip = GossipService(say=wire.say, expel=lambda _peer, _until: None, judges={})
    gossip.opened(A, operator="a", ours=True, assigned=False)
    gossip.publish(Topic.EVIDENCE, b"evidence")
    assert wire.said == [(A, encode(GossipGraft())), (A, encode(push(b"evidence", Topic.EVIDENCE)))]
