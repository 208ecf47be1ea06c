"""Two real connections over loopback: calls, messages, goodbyes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from qustream.aio.connection import Connection, connect
from qustream.aio.listener import ListenerLimits, ListenerStats, serve
from qustream.aio.rpc import serve_requests
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.engine import Channel, LocalHello
from qustream.transport.limits import ALL_CHANNELS, REQUESTS_MAX
from qustream.wire.hello import Role

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
HELLO = LocalHello("test", (Role.NODE,))


async def double(body: bytes, _deadline_ms: int) -> bytes:
    return body * 2


@asynccontextmanager
async def serving(
    handler: Callable[[Connection], Awaitable[None]], *, limits: ListenerLimits | None = None, stats: ListenerStats | None = None
) -> AsyncIterator[str]:
    """Bob listens; yields his address."""
    async with trio.open_nursery() as nursery:
        run = partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=handler, limits=limits, stats=stats)
        bound = await nursery.start(partial(run, permit=lambda _peer: ALL_CHANNELS))
        yield bound[0]
        nursery.cancel_scope.cancel()


def answering(answer: Callable[[bytes, int], Awaitable[bytes]]) -> Callable[[Connection], Awaitable[None]]:
    async def handler(connection: Connection) -> None:
        await serve_requests(connection, answer)

    return handler


async def test_call_returns_the_answer() -> None:
    async with serving(answering(double)) as address, await connect(address, key=ALICE, hello=HELLO, expect=BOB.id) as bob:
        assert bob.peer.id == BOB.id
        assert await bob.call(b"ab" * 100_000, deadline_ms=5000) == b"ab" * 200_000


async def test_many_calls_at_once_each_get_their_own_answer() -> None:
    answers: dict[int, bytes] = {}

    async def ask(bob: Connection, number: int) -> None:
        answers[number] = await bob.call(number.to_bytes(2, "big"), deadline_ms=5000)

    async with (
        serving(answering(double)) as address,
        await connect(address, key=ALICE, hello=HELLO, expect=BOB.id) as bob,
        trio.open_nursery() as nursery,
    ):
        for number in range(REQUESTS_MAX):
            nursery.start_soon(ask, bob, number)
    assert answers == {number: number.to_bytes(2, "big") * 2 for number in range(REQUESTS_MAX)}


async def test_refusal_arrives_as_the_error_of_its_code() -> None:
    async def refuse(_body: bytes, _deadline_ms: int) -> bytes:
        raise fault("E-GRANT-SPENT", "index 7 is spent", retry_after_ms=9)

    async with serving(answering(refuse)) as address, await connect(address, key=ALICE, hello=HELLO, expect=BOB.id) as bob:
        with pytest.raises(QuStreamError, match="index 7 is spent") as caught:
            await bob.call(b"x", deadline_ms=5000)
    assert caught.value.code == "E-GRANT-SPENT"
    assert caught.value.retry_after_ms == 9


async def test_bulk_arrives_in_order() -> None:
    got: list[bytes] = []
    done = trio.Event()

    async def collect(connection: Connection) -> None:
        while len(got) < 20:
            channel, body = await connection.receive()
            assert channel is Channel.BULK
            got.append(body)
        done.set()

    bodies = [bytes([number]) * (number * 30_000 + 1) for number in range(20)]
    async with serving(collect) as address, await connect(address, key=ALICE, hello=HELLO, expect=BOB.id) as bob:
        for body in bodies:
            assert await bob.send(Channel.BULK, body)
        await done.wait()
    assert got == bodies
