"""Serving requests: deadlines, refusals, bounds, and the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from qustream.aio.connection import Connection, connect
from qustream.aio.listener import serve
from qustream.aio.rpc import refusal, serve_requests
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.engine import LocalHello
from qustream.transport.limits import REQUESTS_WORKED_ON_MAX
from qustream.wire.hello import Role
from qustream.wire.rpc import BODY_MAX_BYTES

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
HELLO = LocalHello("test", (Role.NODE,))


@asynccontextmanager
async def asking(answer: Callable[[bytes, int], Awaitable[bytes]], served: list[Connection] | None = None) -> AsyncIterator[Connection]:
    """Alice's connection to bob, who notes his end of it in `served`."""

    async def handler(connection: Connection) -> None:
        if served is not None:
            served.append(connection)
        await serve_requests(connection, answer)

    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=handler))
        async with await connect(bound[0], key=ALICE, hello=HELLO, expect=BOB.id) as bob:
            yield bob
        nursery.cancel_scope.cancel()


async def test_the_answerer_is_told_the_deadline_and_stopped_at_it() -> None:
    told: list[int] = []
    stopped = trio.Event()

    async def hang(_body: bytes, deadline_ms: int) -> bytes:
        told.append(deadline_ms)
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()
        raise AssertionError

    async with asking(hang) as bob:
        with pytest.raises(QuStreamError) as caught:
            await bob.call(b"x", deadline_ms=200)
        assert caught.value.code == "E-DEADLINE"
        with trio.fail_after(60):
            await stopped.wait()
    assert 0 < told[0] <= 200


async def test_time_in_the_queue_counts() -> None:
    """A request that waited beyond its deadline is not begun."""
    begun: list[bytes] = []
    served: list[Connection] = []
    waited = trio.Event()

    async def slow(body: bytes, _deadline_ms: int) -> bytes:
        begun.append(body)
        await waited.wait()
        return body

    async def ask(bob: Connection, body: bytes, deadline_ms: int) -> None:
        try:
            await bob.call(body, deadline_ms=deadline_ms)
        except QuStreamError as error:
            if error.code != "E-DEADLINE":
                raise

    async with asking(slow, served) as bob, trio.open_nursery() as nursery:
        for _ in range(REQUESTS_WORKED_ON_MAX):
            nursery.start_soon(ask, bob, b"first", 60_000)
        with trio.fail_after(60):
            while len(begun) < REQUESTS_WORKED_ON_MAX:
                await trio.sleep(0.001)
        nursery.start_soon(ask, bob, b"late", 50)
        nursery.start_soon(ask, bob, b"patient", 60_000)
        with trio.fail_after(60):
            while served[0].open_requests < REQUESTS_WORKED_ON_MAX + 2:
                await trio.sleep(0.001)
        await trio.sleep(0.1)  # bob has had both for longer than one of them may wait
        waited.set()
    assert begun == [b"first"] * REQUESTS_WORKED_ON_MAX + [b"patient"]


async def test_so_many_are_worked_on_at_a_time() -> None:
    working, most = 0, 0
    full = trio.Event()

    async def count(_body: bytes, _deadline_ms: int) -> bytes:
        nonlocal working, most
        working += 1
        most = max(most, working)
        if working == REQUESTS_WORKED_ON_MAX:
            full.set()
        await full.wait()
        await trio.sleep(0.005)  # for one too many to come
        working -= 1
        return b""

    async with asking(count) as bob, trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(partial(bob.call, b"x", deadline_ms=60_000))
    assert most == REQUESTS_WORKED_ON_MAX


async def test_empty_and_longest_answers_pass() -> None:
    async def answer(body: bytes, _deadline_ms: int) -> bytes:
        return b"" if body == b"empty" else bytes(BODY_MAX_BYTES)

    async with asking(answer) as bob:
        assert await bob.call(b"empty", deadline_ms=60_000) == b""
        assert await bob.call(b"long", deadline_ms=60_000) == bytes(BODY_MAX_BYTES)


@pytest.mark.parametrize("length", [0, BODY_MAX_BYTES + 1])
async def test_a_bug_of_the_answerer_leaves_as_a_group(length: int) -> None:
    async def broken(_body: bytes, _deadline_ms: int) -> bytes:
        return bytes(length) if length else bytes(1 // len(b""))

    with pytest.raises(ExceptionGroup) as caught:
        async with asking(broken) as bob:
            await bob.call(b"x", deadline_ms=60_000)
    assert caught.group_contains(AssertionError if length else ZeroDivisionError)


async def test_serving_ends_when_the_peer_goes_and_stops_what_is_under_way() -> None:
    begun, stopped = trio.Event(), trio.Event()

    async def hang(_body: bytes, _deadline_ms: int) -> bytes:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()
        raise AssertionError

    async with asking(hang) as bob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(bob.call, b"x", deadline_ms=60_000))
            await begun.wait()
            nursery.cancel_scope.cancel()
        await bob.aclose()
        with trio.fail_after(60):
            await stopped.wait()


def test_a_refusal_is_bounded_and_never_negative() -> None:
    message = refusal(7, fault("E-NODE-FULL", "x" * 1000, retry_after_ms=-1))
    assert (message.id, message.code, len(message.detail), message.retry_after_ms) == (7, "E-NODE-FULL", 256, 0)
