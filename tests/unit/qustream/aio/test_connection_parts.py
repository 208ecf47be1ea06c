"""Messages in parts over real sockets: every buffer comes back exactly once, however the connection ends."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from qustream.aio.connection import Connection, connect, connect_unix
from qustream.aio.listener import serve, serve_unix
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.engine import Channel, LocalHello, LocalMisuse
from qustream.transport.limits import ALL_CHANNELS
from qustream.wire.hello import Role

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
HELLO = LocalHello("test", (Role.NODE,))
SIZE = 400_000
Handler = Callable[[Connection], Awaitable[None]]
pytestmark = pytest.mark.parametrize("kind", ["tls", "unix"])


class Lender:
    """Lends a buffer, and counts how often it came back; a buffer somebody still looks into could not be cleared."""

    def __init__(self, size: int = SIZE) -> None:
        self.memory = bytearray(size)
        self.returns = 0

    def __call__(self) -> None:
        self.memory.clear()
        self.returns += 1


@asynccontextmanager
async def bobs_door(kind: str, folder: Path, handler: Handler) -> AsyncIterator[Connection]:
    """A connection to bob, who runs `handler`; not entered."""
    async with trio.open_nursery() as nursery:
        if kind == "unix":
            [bound] = await nursery.start(partial(serve_unix, str(folder / "socket"), hello=HELLO, handler=handler))
            yield await connect_unix(bound.removeprefix("unix:"), hello=HELLO)
        else:
            run = partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=handler, permit=lambda _peer: ALL_CHANNELS)
            [bound] = await nursery.start(run)
            yield await connect(bound, key=ALICE, hello=HELLO, expect=BOB.id)
        nursery.cancel_scope.cancel()


async def deaf(connection: Connection) -> None:
    """Takes no message until it is over."""
    await connection.wait_closed()


async def lend_until_full(bob: Connection) -> list[Lender]:
    """Send more and more until there is no room and nothing is taken any more; returns what was queued."""
    queued: list[Lender] = []
    with trio.fail_after(60):
        while True:
            lender = Lender()
            with trio.move_on_after(0.2) as waiting:
                await bob.send_parts(Channel.BULK, [memoryview(lender.memory)], lender)
                queued.append(lender)
            if waiting.cancelled_caught:
                assert lender.returns == 0
                # If we stood still all that time, there is room now that nobody has used.
                await trio.testing.wait_all_tasks_blocked()
                if not bob._engine.has_room(Channel.BULK, SIZE):
                    return queued


def all_back(lenders: list[Lender]) -> bool:
    assert all(lender.returns <= 1 for lender in lenders)
    return all(lender.returns for lender in lenders)


async def test_parts_arrive_whole_and_buffers_come_back(kind: str, tmp_path: Path) -> None:
    got: list[bytes] = []
    bodies = [os.urandom(1 + number * 23_456) for number in range(20)]
    done = trio.Event()

    async def collect(connection: Connection) -> None:
        while len(got) < len(bodies):
            got.append((await connection.receive())[1])
        done.set()
        await connection.wait_closed()

    lenders = [Lender(len(body)) for body in bodies]
    async with bobs_door(kind, tmp_path, collect) as bob, bob:
        for body, lender in zip(bodies, lenders, strict=True):
            lender.memory[:] = body
            view = memoryview(lender.memory)
            await bob.send_parts(Channel.BULK, [view[:1000], view[1000:]], lender)
            del view
        with trio.fail_after(60):
            await done.wait()
            while not all_back(lenders):
                await trio.sleep(0.001)
    assert got == bodies
    assert all_back(lenders)


async def test_many_small_parts_through_a_narrow_socket_arrive_whole(kind: str, tmp_path: Path) -> None:
    """More parts than one system call takes, and a kernel that takes a few of them at a time."""
    got: list[bytes] = []
    done = trio.Event()

    async def collect(connection: Connection) -> None:
        while len(got) < 2:
            got.append((await connection.receive())[1])
        done.set()
        await connection.wait_closed()

    lenders = [Lender(300_000), Lender(300_000)]
    bodies = [os.urandom(300_000) for _ in lenders]
    async with bobs_door(kind, tmp_path, collect) as bob, bob:
        bob._link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        for body, lender in zip(bodies, lenders, strict=True):
            lender.memory[:] = body
            await bob.send_parts(Channel.BULK, in_parts(lender.memory, 97), lender)
        with trio.fail_after(60):
            await done.wait()
            while not all_back(lenders):
                await trio.sleep(0.001)
    assert got == bodies


def in_parts(memory: bytearray, size: int) -> list[memoryview]:
    return [memoryview(memory)[at : at + size] for at in range(0, len(memory), size)]


async def test_leaving_sends_what_is_queued_and_gives_back(kind: str, tmp_path: Path) -> None:
    got = trio.Event()

    async def collect(connection: Connection) -> None:
        for _ in range(2):
            assert len((await connection.receive())[1]) == SIZE
        got.set()

    lenders = [Lender(), Lender()]
    async with bobs_door(kind, tmp_path, collect) as bob:
        async with bob:
            for lender in lenders:
                await bob.send_parts(Channel.BULK, [memoryview(lender.memory)], lender)
        assert all_back(lenders)
        with trio.fail_after(60):
            await got.wait()


async def close_with_code(bob: Connection) -> None:
    bob.close_soon("E-PEER-LIMIT", "enough")


async def leave(_bob: Connection) -> None:
    """Leaving the block is all."""


async def fail(_bob: Connection) -> None:
    raise KeyError("mine")


async def be_cancelled(_bob: Connection) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await trio.sleep_forever()


@pytest.mark.parametrize("end", [close_with_code, leave, fail, be_cancelled])
async def test_buffers_come_back_when_this_end_ends_it(kind: str, tmp_path: Path, end: Handler) -> None:
    lenders: list[Lender] = []
    async with bobs_door(kind, tmp_path, deaf) as bob:
        with suppress(KeyError):
            async with bob:
                lenders += await lend_until_full(bob)
                await end(bob)
        assert lenders
        assert all_back(lenders)


async def test_buffers_come_back_after_a_bug_of_our_own(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lender = Lender()

    async def lend(bob: Connection) -> None:
        async with bob:
            await bob.send_parts(Channel.BULK, [memoryview(lender.memory)], lender)
            await trio.sleep_forever()

    async with bobs_door(kind, tmp_path, deaf) as bob:
        sound = bob._engine.parts_to_send
        monkeypatch.setattr(bob._engine, "parts_to_send", lambda: 1 / 0 if bob._engine._queues else sound())
        with pytest.raises(ExceptionGroup) as caught:
            await lend(bob)
        assert caught.group_contains(ZeroDivisionError)
    assert lender.returns == 1


async def vanish(connection: Connection) -> None:
    connection._link.close()


async def say_goodbye(connection: Connection) -> None:
    await connection.aclose("E-CHAIN-STALE", "too old")


async def break_the_rules(connection: Connection) -> None:
    connection._engine._layer.write(b"\0\0\0\0\4")
    connection._something_to_send.unpark_all()
    await connection.wait_closed()


@pytest.mark.parametrize(
    ("end", "code"), [(vanish, "E-PEER-CLOSED"), (say_goodbye, "E-CHAIN-STALE"), (break_the_rules, "E-WIRE-MALFORMED")]
)
async def test_buffers_come_back_when_the_peer_ends_it(kind: str, tmp_path: Path, end: Handler, code: str) -> None:
    full = trio.Event()

    async def handler(connection: Connection) -> None:
        await full.wait()
        await end(connection)

    async with bobs_door(kind, tmp_path, handler) as bob:
        async with bob:
            lenders = await lend_until_full(bob)
            full.set()
            with trio.fail_after(60):
                assert (await bob.wait_closed()).code in (code, "E-PEER-CLOSED")
            with pytest.raises(QuStreamError):
                await bob.send_parts(Channel.BULK, [b"x"], lambda: pytest.fail("never queued"))
        assert all_back(lenders)


async def test_buffers_come_back_from_a_peer_that_takes_nothing(kind: str, tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    async with bobs_door(kind, tmp_path, deaf) as bob:
        async with bob:
            mock_clock.autojump_threshold = 0.05  # the kernel has time to deliver what is under way
            lenders = await lend_until_full(bob)
            with trio.fail_after(60):
                assert (await bob.wait_closed()).code == "E-PEER-CLOSED"
        assert all_back(lenders)


async def test_whoever_waits_for_room_is_told_and_keeps_his_buffer(kind: str, tmp_path: Path) -> None:
    lenders: list[Lender] = []

    async def lend(bob: Connection) -> None:
        while True:  # the kernel may make room for one more when nobody expects it
            lenders.append(Lender())
            await bob.send_parts(Channel.BULK, [memoryview(lenders[-1].memory)], lenders[-1])

    async def wait(bob: Connection) -> None:
        with pytest.raises(QuStreamError, match="this end closed"):
            await lend(bob)

    async with bobs_door(kind, tmp_path, deaf) as bob, bob:
        await lend_until_full(bob)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, bob)
            await trio.testing.wait_all_tasks_blocked()
            bob.close_soon("E-PEER-LIMIT")
    assert lenders[-1].returns == 0
    assert all_back(lenders[:-1])


async def test_parts_are_for_channels_whose_senders_wait(kind: str, tmp_path: Path) -> None:
    async with bobs_door(kind, tmp_path, deaf) as bob:
        with pytest.raises(LocalMisuse, match="inside"):
            await bob.send_parts(Channel.BULK, [b"x"], lambda: None)
        async with bob:
            for channel in (Channel.CONTROL, Channel.CONSENSUS, Channel.GOSSIP):
                with pytest.raises(LocalMisuse, match="request and bulk"):
                    await bob.send_parts(channel, [b"x"], lambda: None)
