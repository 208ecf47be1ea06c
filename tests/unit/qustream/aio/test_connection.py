"""Two real connections over loopback: calls, messages, limits, goodbyes, and peers that break the rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import groupby

import pytest
import trio
import trio.testing

from qustream.aio.connection import Connection, connect
from qustream.aio.inbox import INBOX_MAX_BYTES
from qustream.aio.listener import ListenerLimits, ListenerStats, serve
from qustream.aio.rpc import serve_requests
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.engine import Channel, Event, LocalHello, LocalMisuse
from qustream.transport.frames import frames_of
from qustream.transport.limits import ALL_CHANNELS, CHANNEL_LIMITS, REQUESTS_MAX
from qustream.wire.codec import Message, encode
from qustream.wire.hello import Role
from qustream.wire.rpc import BODY_MAX_BYTES, Request, Response

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
HELLO = LocalHello("test", (Role.NODE,))
Handler = Callable[[Connection], Awaitable[None]]


async def double(body: bytes, _deadline_ms: int) -> bytes:
    return body * 2


@asynccontextmanager
async def serving(handler: Handler, *, limits: ListenerLimits | None = None, stats: ListenerStats | None = None) -> AsyncIterator[str]:
    """Bob listens; yields his address."""
    async with trio.open_nursery() as nursery:
        run = partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=handler, limits=limits, stats=stats)
        bound = await nursery.start(partial(run, permit=lambda _peer: ALL_CHANNELS))
        yield bound[0]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def talking(handler: Handler, *, idle_ms: int = 60_000, limits: ListenerLimits | None = None) -> AsyncIterator[Connection]:
    """Alice's connection to bob, who runs `handler`."""
    async with serving(handler, limits=limits) as address:
        connection = await connect(address, key=ALICE, hello=HELLO, expect=BOB.id, idle_ms=idle_ms)
        async with connection:
            yield connection


def answering(answer: Callable[[bytes, int], Awaitable[bytes]]) -> Handler:
    async def handler(connection: Connection) -> None:
        await serve_requests(connection, answer)

    return handler


async def idle(connection: Connection) -> None:
    """A handler that does nothing until the connection is over."""
    await connection.wait_closed()


async def forever(connection: Connection, channel: Channel, body: bytes) -> None:
    """Send until it fails."""
    while True:
        await connection.send(channel, body)


async def inject(connection: Connection, channel: Channel, message: Message | bytes) -> None:
    """Send what the connection's own rules would not let out."""
    body = message if isinstance(message, bytes) else encode(message)
    connection._engine._layer.write(frames_of(channel, body))
    connection._something_to_send.unpark_all()
    await trio.lowlevel.checkpoint()


async def test_call_returns_the_answer() -> None:
    async with talking(answering(double)) as bob:
        assert bob.peer.id == BOB.id
        assert bob.peer_uid is None
        assert await bob.call(b"ab" * 100_000, deadline_ms=60_000) == b"ab" * 200_000


async def test_many_calls_at_once_each_get_their_own_answer() -> None:
    answers: dict[int, bytes] = {}

    async def ask(bob: Connection, number: int) -> None:
        answers[number] = await bob.call(number.to_bytes(2, "big"), deadline_ms=60_000)

    async with talking(answering(double)) as bob, trio.open_nursery() as nursery:
        for number in range(REQUESTS_MAX):
            nursery.start_soon(ask, bob, number)
    assert answers == {number: number.to_bytes(2, "big") * 2 for number in range(REQUESTS_MAX)}


async def test_both_ends_may_ask() -> None:
    async def ask_back(connection: Connection) -> None:
        async def answer(body: bytes, deadline_ms: int) -> bytes:
            return await connection.call(body + b"?", deadline_ms=deadline_ms)

        await serve_requests(connection, answer)

    async with talking(ask_back) as bob, trio.open_nursery() as nursery:
        nursery.start_soon(serve_requests, bob, double)
        assert await bob.call(b"ab", deadline_ms=60_000) == b"ab?ab?"
        nursery.cancel_scope.cancel()


async def test_refusal_arrives_as_the_error_of_its_code() -> None:
    async def refuse(_body: bytes, _deadline_ms: int) -> bytes:
        raise fault("E-GRANT-SPENT", "index 7 is spent", retry_after_ms=9)

    async with talking(answering(refuse)) as bob:
        with pytest.raises(QuStreamError, match="index 7 is spent") as caught:
            await bob.call(b"x", deadline_ms=60_000)
    assert caught.value.code == "E-GRANT-SPENT"
    assert caught.value.retry_after_ms == 9


async def test_a_deadline_passes_and_the_late_answer_is_dropped() -> None:
    release = trio.Event()

    async def stubborn(body: bytes, _deadline_ms: int) -> bytes:
        if body == b"slow":
            with trio.CancelScope(shield=True):
                await release.wait()
        return body

    async with talking(answering(stubborn)) as bob:
        with pytest.raises(QuStreamError) as caught:
            await bob.call(b"slow", deadline_ms=50)
        assert caught.value.code == "E-DEADLINE"
        release.set()
        assert await bob.call(b"quick", deadline_ms=60_000) == b"quick"


async def test_an_answer_longer_than_asked_for_fails_that_call_alone() -> None:
    async with talking(answering(double)) as bob:
        with pytest.raises(QuStreamError) as caught:
            await bob.call(b"abc", deadline_ms=60_000, max_answer_bytes=5)
        assert caught.value.code == "E-WIRE-OVERSIZE"
        assert await bob.call(b"abc", deadline_ms=60_000, max_answer_bytes=6) == b"abcabc"


async def test_a_request_too_long_never_leaves() -> None:
    async with talking(answering(double)) as bob:
        with pytest.raises(QuStreamError) as caught:
            await bob.call(bytes(BODY_MAX_BYTES + 1), deadline_ms=60_000)
        assert caught.value.code == "E-WIRE-OVERSIZE"
        assert await bob.call(b"a", deadline_ms=60_000) == b"aa"


async def test_bulk_arrives_whole_and_in_order() -> None:
    got: list[bytes] = []
    done = trio.Event()
    bodies = [bytes([number]) * (number * 30_000 + 1) for number in range(20)]

    async def collect(connection: Connection) -> None:
        while len(got) < len(bodies):
            channel, body = await connection.receive()
            assert channel is Channel.BULK
            got.append(body)
        done.set()

    async with talking(collect) as bob:
        for body in bodies:
            assert await bob.send(Channel.BULK, body)
        await done.wait()
    assert got == bodies


async def test_what_came_together_is_taken_together() -> None:
    got: list[bytes] = []
    bodies = [bytes([number]) * 70_000 for number in range(10)]
    rounds = 0

    async with talking(idle) as bob:
        inject = partial(bob._inbox.put, Channel.BULK)
        for body in bodies:
            await inject(body)
        while len(got) < len(bodies):
            got += [body for _, body in await bob.receive_many()]
            rounds += 1
        assert got == bodies
        assert rounds == 1
        bob.close_soon()
        with pytest.raises(QuStreamError) as caught:
            await bob.receive_many()
        assert caught.value.code == "E-PEER-CLOSED"


async def test_an_application_that_does_not_read_slows_its_peer() -> None:
    """Nothing is lost, nothing grows: the sender waits in the end."""
    release, got = trio.Event(), 0
    body = bytes(CHANNEL_LIMITS[Channel.BULK].message_max_bytes)

    async def lazy(connection: Connection) -> None:
        nonlocal got
        await release.wait()
        assert connection._inbox.size_bytes <= INBOX_MAX_BYTES + len(body)
        while True:
            got += len((await connection.receive())[1])

    async with talking(lazy) as bob:
        sent = 0
        with trio.move_on_after(0.5):
            while sent < 1000:
                await bob.send(Channel.BULK, body)
                sent += 1
        assert sent < 1000
        release.set()
        with trio.fail_after(60):
            while got < sent * len(body):
                await trio.sleep(0.01)


async def test_a_peer_that_sends_all_the_time_leaves_the_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    async def others() -> None:
        while True:
            order.append("others")
            await trio.lowlevel.checkpoint()

    async def busy(connection: Connection) -> None:
        read_now = connection._link.read_now

        def seen(most_bytes: int) -> list[Event] | None:
            order.append("read")
            return read_now(most_bytes)

        monkeypatch.setattr(connection._link, "read_now", seen)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            for _ in range(40):
                await connection.receive()
            nursery.cancel_scope.cancel()
        await connection.aclose()

    async with talking(busy) as bob:
        with pytest.raises(QuStreamError):
            await forever(bob, Channel.BULK, bytes(500_000))
    assert order.count("read") > 40
    # Two reads a turn at most, and trio may give the last place of one turn and the first of the next to the same task.
    assert max(len(list(run)) for what, run in groupby(order) if what == "read") <= 4


async def test_gossip_is_dropped_and_consensus_closes_when_the_peer_does_not_read() -> None:
    async with talking(idle) as bob:
        while await bob.send(Channel.GOSSIP, bytes(200_000)):
            pass
        assert bob.dropped == 1
        with pytest.raises(QuStreamError) as caught:
            await forever(bob, Channel.CONSENSUS, bytes(60_000))
        assert caught.value.code == "E-PEER-LIMIT"


async def test_too_many_open_requests_are_refused_and_the_rest_is_answered() -> None:
    release, outcomes = trio.Event(), list[str]()

    async def slow(body: bytes, _deadline_ms: int) -> bytes:
        await release.wait()
        return body

    async def ask(bob: Connection) -> None:
        try:
            await bob.call(b"x", deadline_ms=60_000)
            outcomes.append("answered")
        except QuStreamError as error:
            outcomes.append(error.code)
            if outcomes.count("E-PEER-LIMIT") == 20:
                release.set()

    async with talking(answering(slow)) as bob, trio.open_nursery() as nursery:
        for _ in range(REQUESTS_MAX + 20):
            nursery.start_soon(ask, bob)
    assert outcomes == ["E-PEER-LIMIT"] * 20 + ["answered"] * REQUESTS_MAX


async def test_open_requests_are_bounded_by_bytes_too() -> None:
    release = trio.Event()

    async def slow(_body: bytes, _deadline_ms: int) -> bytes:
        await release.wait()
        return b""

    async with talking(answering(slow)) as bob, trio.open_nursery() as nursery:
        nursery.start_soon(partial(bob.call, bytes(BODY_MAX_BYTES), deadline_ms=60_000))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(QuStreamError) as caught:
            await bob.call(bytes(BODY_MAX_BYTES), deadline_ms=60_000)
        assert caught.value.code == "E-PEER-LIMIT"
        release.set()


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_goodbye_reaches_everybody_who_waits() -> None:
    codes: list[str] = []

    async def leave(connection: Connection) -> None:
        await connection.receive()
        await connection.aclose("E-CHAIN-STALE", "too old")

    async def wait(operation: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(QuStreamError) as caught:
            await operation()
        codes.append(caught.value.code)

    async with talking(leave) as bob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, bob.receive)
            nursery.start_soon(wait, bob.next_request)
            nursery.start_soon(wait, partial(bob.call, b"x", deadline_ms=60_000))
            await bob.send(Channel.BULK, b"go")
        assert (await bob.wait_closed()).code == "E-CHAIN-STALE"
    assert codes == ["E-CHAIN-STALE"] * 3


async def test_messages_before_a_goodbye_are_not_lost() -> None:
    async def say_and_leave(connection: Connection) -> None:
        for number in range(5):
            await connection.send(Channel.BULK, bytes([number]) * 100_000)

    async with talking(say_and_leave) as bob:
        await bob.wait_closed()
        assert bob.end_code == ""
        assert [(await bob.receive())[1][0] for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(QuStreamError) as caught:
            await bob.receive()
        assert caught.value.code == "E-PEER-CLOSED"


async def test_an_error_of_the_body_leaves_as_it_is() -> None:
    async with serving(idle) as address:
        with pytest.raises(KeyError):
            async with await connect(address, key=ALICE, hello=HELLO):
                raise KeyError("mine")


async def test_a_bug_in_a_task_leaves_as_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(idle) as address:
        connection = await connect(address, key=ALICE, hello=HELLO)
        monkeypatch.setattr(connection._engine, "parts_to_send", lambda: 1 / 0)
        with pytest.raises(ExceptionGroup) as caught:
            async with connection:
                await trio.sleep_forever()
        assert caught.group_contains(ZeroDivisionError)


async def test_a_connection_is_used_inside_its_block_and_entered_once() -> None:
    async with serving(idle) as address:
        connection = await connect(address, key=ALICE, hello=HELLO)
        for operation in (connection.receive, connection.next_request, connection.wait_closed):
            with pytest.raises(LocalMisuse):
                await operation()
        async with connection:
            with pytest.raises(LocalMisuse):
                await connection.__aenter__()
        with pytest.raises(QuStreamError) as caught:
            await connection.send(Channel.BULK, b"x")
        assert caught.value.code == "E-PEER-CLOSED"
        await connection.aclose()


async def test_cancelling_leaves_quickly_and_says_goodbye() -> None:
    stats = ListenerStats()
    async with serving(idle, stats=stats) as address:
        connection = await connect(address, key=ALICE, hello=HELLO)
        with trio.move_on_after(0.1):
            async with connection:
                await trio.sleep_forever()
        with trio.fail_after(60):
            while not stats.closed:
                await trio.sleep(0.01)
        assert stats.closed == {"": 1}


# -- peers that break the rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([Response(99, b"nobody asked")], "E-FRAME-ORDER"),
        ([Request(1, 5000, b"x"), Request(1, 5000, b"the same id")], "E-FRAME-ORDER"),
        ([b"\xc1"], "E-WIRE-MALFORMED"),
        ([b"\x93\x0b\x01"], "E-WIRE-MALFORMED"),
        ([b"\x93\x0b\xcc\x01\xc4\x00"], "E-WIRE-NONCANONICAL"),
    ],
)
async def test_bad_requests_close_the_connection_with_their_code(messages: list[Message | bytes], code: str) -> None:
    async def hang(_body: bytes, _deadline_ms: int) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async with talking(answering(hang)) as bob:
        for message in messages:
            await inject(bob, Channel.REQUEST, message)
        assert (await bob.wait_closed()).code == code


async def test_an_answer_given_twice_closes_the_connection() -> None:
    async def twice(connection: Connection) -> None:
        request = await connection.next_request()
        message = encode(Response(request.id, b"x"))
        await connection.answer(request.id, message)
        await connection.answer(request.id, message)
        assert (await connection.wait_closed()).code == "E-FRAME-ORDER"

    async with talking(twice) as bob:
        assert await bob.call(b"x", deadline_ms=60_000) == b"x"
        assert (await bob.wait_closed()).code == "E-FRAME-ORDER"


async def test_pings_keep_an_idle_connection_open(mock_clock: trio.testing.MockClock) -> None:
    async with talking(idle, idle_ms=750, limits=ListenerLimits(idle_ms=750)) as bob:
        mock_clock.autojump_threshold = 0.05  # the kernel has time to deliver what is under way
        await trio.sleep(1.6)
        assert bob._trouble is None


async def test_a_peer_that_drips_bytes_is_no_sign_of_life() -> None:
    """Bytes that never make a message do not keep a connection."""
    stats = ListenerStats()
    async with serving(idle, limits=ListenerLimits(idle_ms=300), stats=stats) as address:
        bob = await connect(address, key=ALICE, hello=HELLO, expect=BOB.id)
        bob._engine._layer.write(b"\0\0\xff\xff\x02")
        with trio.fail_after(60):
            while not stats.closed:
                bob._engine._layer.write(b"x")
                await bob._link.flush()
                await trio.sleep(0.02)
        bob._link.close()
    assert stats.closed == {"E-PEER-CLOSED": 1}


async def test_a_peer_that_takes_nothing_is_given_up() -> None:
    stats = ListenerStats()

    async def push(connection: Connection) -> None:
        while True:
            await connection.send(Channel.BULK, bytes(500_000))

    async with serving(push, limits=ListenerLimits(idle_ms=300), stats=stats) as address:
        bob = await connect(address, key=ALICE, hello=HELLO, expect=BOB.id)
        with trio.fail_after(60):
            while not stats.closed:
                await trio.sleep(0.02)
        bob._link.close()
    assert stats.closed == {"E-PEER-CLOSED": 1}


async def test_who_is_refused_much_is_read_more_slowly() -> None:
    limits = ListenerLimits(work_burst_per_address=400, work_rate_per_address_per_s=400)

    async def refuse(body: bytes, _deadline_ms: int) -> bytes:
        if body == b"good":
            return body
        raise fault("E-SIGNATURE" if body == b"bad" else "E-ENTROPY-SHORT")

    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=answering(refuse), limits=limits))
        async with await connect(bound[0], key=ALICE, hello=HELLO) as bob:
            took: dict[bytes, list[float]] = {b"good": [], b"unlucky": [], b"bad": []}
            for body, each in took.items():
                for _ in range(50):
                    began = trio.current_time()
                    with suppress(QuStreamError):
                        await bob.call(body, deadline_ms=60_000)
                    each.append(trio.current_time() - began)
        nursery.cancel_scope.cancel()
    assert sum(took[b"bad"]) > 1.0  # 50 of 18 each, of which 400 are had at once and 400 a second
    for body in (b"good", b"unlucky"):  # the others are not held up: one is quick, whatever else the machine has to do
        assert min(took[body][25:]) < 18 / 400


async def test_who_sends_too_fast_is_read_more_slowly() -> None:
    limits = ListenerLimits(work_burst_per_address=40, work_rate_per_address_per_s=200)
    async with trio.open_nursery() as nursery:
        handler = answering(double)
        bound = await nursery.start(partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=handler, limits=limits))
        async with await connect(bound[0], key=ALICE, hello=HELLO) as bob:
            began = trio.current_time()
            for _ in range(60):
                await bob.call(b"x", deadline_ms=60_000)
            assert trio.current_time() - began > 0.3  # 40 messages beyond the burst at 100 a second, less what is under way
        nursery.cancel_scope.cancel()
