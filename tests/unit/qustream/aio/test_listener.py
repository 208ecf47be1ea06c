"""A real listener on loopback and on a Unix socket: who gets in, who does not, and what is counted."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from qustream.aio.connection import Connection, connect, connect_unix, establish
from qustream.aio.listener import ListenerLimits, ListenerStats, open_listener, serve, serve_unix
from qustream.aio.rpc import serve_requests
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.engine import Channel, Engine, LocalHello, Peer
from qustream.transport.limits import ALL_CHANNELS
from qustream.wire.hello import Role

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
HELLO = LocalHello("test", (Role.NODE,))
Handler = Callable[[Connection], Awaitable[None]]


async def idle(connection: Connection) -> None:
    await connection.wait_closed()


@asynccontextmanager
async def serving(
    handler: Handler = idle, limits: ListenerLimits | None = None, listen: str = "127.0.0.1:0"
) -> AsyncIterator[tuple[str, ListenerStats]]:
    stats = ListenerStats()
    async with trio.open_nursery() as nursery:
        run = partial(serve, listen, key=BOB, hello=HELLO, handler=handler, limits=limits, stats=stats)
        yield (await nursery.start(run))[0], stats
        nursery.cancel_scope.cancel()


def open_tcp(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=60)


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.005)


async def code_of(operation: Awaitable[object]) -> str:
    with pytest.raises(QuStreamError) as caught:
        await operation
    return caught.value.code


# -- life -------------------------------------------------------------------------------------------------------------


async def test_everything_is_counted() -> None:
    async with serving() as (address, stats):
        async with await connect(address, key=ALICE, hello=HELLO, expect=BOB.id):
            await until(lambda: stats.open == 1)
        await until(lambda: not stats.open)
        assert (stats.accepted, stats.established, stats.closed) == (1, 1, {"": 1})


async def test_several_addresses_and_version_six() -> None:
    async with trio.open_nursery() as nursery:
        run = partial(serve, ["127.0.0.1:0", "127.0.0.2:0", open_listener("[::1]:0")], key=BOB, hello=HELLO, handler=idle)
        bound = await nursery.start(run)
        assert len(bound) == 3
        assert bound[2].startswith("[::1]:")
        for address in bound:
            async with await connect(address, key=ALICE, hello=HELLO, expect=BOB.id):
                pass
        nursery.cancel_scope.cancel()


async def test_a_hello_may_change() -> None:
    height = 0

    def hello() -> LocalHello:
        nonlocal height
        height += 1
        return LocalHello("test", (Role.NODE,), (), height)

    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, "127.0.0.1:0", key=BOB, hello=hello, handler=idle))
        for expected in (1, 2):
            async with await connect(bound[0], key=ALICE, hello=HELLO) as bob:
                assert bob.peer.hello.height == expected
        nursery.cancel_scope.cancel()


async def test_permit_decides_by_peer() -> None:
    def permit(peer: Peer) -> frozenset[Channel]:
        return ALL_CHANNELS if peer.id == ALICE.id else frozenset()

    async def listen_to_gossip(connection: Connection) -> None:
        assert connection.is_licensed == (connection.peer.id == ALICE.id)
        assert await connection.receive() == (Channel.GOSSIP, b"news")

    async with trio.open_nursery() as nursery:
        run = partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=listen_to_gossip, permit=permit)
        bound = await nursery.start(run)
        for key, code in ((ALICE, "E-PEER-CLOSED"), (BOB, "E-PEER-UNLICENSED")):
            async with await connect(bound[0], key=key, hello=HELLO) as bob:
                await bob.send(Channel.GOSSIP, b"news")
                assert (await bob.wait_closed()).code == code
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("depth", [0, 1, 3])
async def test_a_coded_error_of_the_handler_reaches_the_peer(depth: int) -> None:
    """Alone, or wrapped by the nurseries of the handler."""

    async def refuse(_connection: Connection) -> None:
        error: Exception = fault("E-FEED-REFUSED", "not on the list")
        for _ in range(depth):
            error = ExceptionGroup("nursery", [error])
        raise error

    async with serving(refuse) as (address, stats):
        async with await connect(address, key=ALICE, hello=HELLO) as bob:
            error = await bob.wait_closed()
        assert error.code == "E-FEED-REFUSED"
        assert "not on the list" in error.detail
        await until(lambda: stats.closed == {"E-FEED-REFUSED": 1})


async def test_a_bug_of_the_handler_leaves_as_a_group() -> None:
    async def broken(_connection: Connection) -> None:
        raise ExceptionGroup("nursery", [fault("E-PEER-CLOSED"), ZeroDivisionError()])

    with pytest.raises(ExceptionGroup) as caught:
        async with serving(broken) as (address, _), await connect(address, key=ALICE, hello=HELLO):
            await trio.sleep_forever()
    assert caught.group_contains(ZeroDivisionError)


async def test_stopping_says_goodbye() -> None:
    stop = trio.CancelScope()

    async def run(task_status: trio.TaskStatus[list[str]]) -> None:
        with stop:
            await serve("127.0.0.1:0", key=BOB, hello=HELLO, handler=idle, task_status=task_status)

    async with trio.open_nursery() as nursery:
        bound = await nursery.start(run)
        async with await connect(bound[0], key=ALICE, hello=HELLO) as bob:
            stop.cancel()
            await bob.wait_closed()
            assert bob.end_code == ""


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_connections_of_one_address_are_limited_and_others_come_in() -> None:
    async with serving(limits=ListenerLimits(connections_per_address=2)) as (address, stats), AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(await connect(address, key=ALICE, hello=HELLO))
        assert await code_of(connect(address, key=ALICE, hello=HELLO)) == "E-PEER-CLOSED"
        assert stats.refused == {"connections_per_address": 1}
        assert stats.established == 2


async def test_handshakes_under_way_are_limited() -> None:
    async with serving(limits=ListenerLimits(handshakes_per_address=3)) as (address, stats):
        silent = [open_tcp(address) for _ in range(3)]
        await until(lambda: stats.accepted == 3)
        assert await code_of(connect(address, key=ALICE, hello=HELLO)) == "E-PEER-CLOSED"
        assert stats.refused == {"handshakes_per_address": 1}
        for sock in silent:
            sock.close()
        await until(lambda: stats.handshakes_failed["E-PEER-CLOSED"] == 3)
        async with await connect(address, key=ALICE, hello=HELLO):
            pass


async def test_new_connections_have_a_rate() -> None:
    async with serving(limits=ListenerLimits(burst_per_address=3, rate_per_address_per_s=5)) as (address, stats):
        for _ in range(10):
            open_tcp(address).close()
        await until(lambda: stats.accepted == 10)
        assert stats.refused["rate_per_address"] >= 3
        await trio.sleep(0.3)
        async with await connect(address, key=ALICE, hello=HELLO):
            pass


class Moody(socket.socket):
    """A listening socket on which `accept` tells of trouble first."""

    troubles: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.troubles:
            number = self.troubles.pop()
            raise OSError(number, os.strerror(number))
        return super().accept()


async def test_a_connection_s_own_trouble_or_no_room_does_not_end_the_listener() -> None:
    moody = Moody(fileno=open_listener("127.0.0.1:0").detach())
    moody.troubles = [errno.EMFILE, errno.EPROTO, errno.EHOSTUNREACH, errno.EPERM, errno.ECONNABORTED]
    stats = ListenerStats()
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, [moody], key=BOB, hello=HELLO, handler=idle, stats=stats))
        async with await connect(bound[0], key=ALICE, hello=HELLO):
            assert (stats.accepted, stats.accept_failed) == (1, 4)
        nursery.cancel_scope.cancel()


async def test_silence_in_the_handshake_ends_at_its_deadline() -> None:
    async with serving(limits=ListenerLimits(handshake_ms=100)) as (address, stats):
        with open_tcp(address) as sock:
            await until(lambda: stats.handshakes_failed == {"E-DEADLINE": 1})
            assert sock.recv(1) == b""


async def test_a_full_house_gives_the_newcomer_a_flooder_s_place() -> None:
    limits = ListenerLimits(connections=4, connections_per_address=4)
    async with serving(limits=limits, listen="127.0.0.1:0") as (address, stats), AsyncExitStack() as stack:
        port = int(address.rsplit(":", 1)[1])
        flood = [await stack.enter_async_context(await connect(f"127.0.0.1:{port}", key=ALICE, hello=HELLO)) for _ in range(4)]
        sock = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.9", 0))
        newcomer = await establish(sock, Engine("client", key=ALICE, hello=HELLO))
        await stack.enter_async_context(newcomer)
        error = await flood[0].wait_closed()
        assert error.code == "E-PEER-LIMIT"
        await until(lambda: stats.displaced == 1)
        assert all(not connection.end_code for connection in (*flood[1:], newcomer))


async def test_many_addresses_that_hold_places_for_nothing_keep_nobody_out() -> None:
    """Each has one connection, answers pings and asks for nothing that can be answered; a newcomer is served all the same."""

    async def answer(body: bytes, _deadline_ms: int) -> bytes:
        if body == b"nonsense":
            raise fault("E-WIRE-MALFORMED", "nonsense")
        return body

    async def handler(connection: Connection) -> None:
        await serve_requests(connection, answer)

    limits = ListenerLimits(connections=4, useless_ms=100)
    async with serving(handler, limits, "127.0.0.1:0") as (address, stats), AsyncExitStack() as stack:
        port = int(address.rsplit(":", 1)[1])

        async def come(host: str) -> Connection:
            sock = socket.create_connection(("127.0.0.1", port), source_address=(host, 0))
            return await stack.enter_async_context(await establish(sock, Engine("client", key=ALICE, hello=HELLO)))

        user = await come("127.0.1.1")
        crowd = [await come(f"127.0.0.{number}") for number in range(2, 5)]
        assert await code_of(crowd[0].call(b"nonsense", deadline_ms=60_000)) == "E-WIRE-MALFORMED"
        await trio.sleep(0.1)
        assert await user.call(b"x", deadline_ms=60_000) == b"x"
        for number in range(3):
            newcomer = await come(f"127.0.2.{number + 1}")
            assert await newcomer.call(b"hello", deadline_ms=60_000) == b"hello"
        await until(lambda: stats.displaced == 3)
        assert [connection.end_code for connection in crowd] == ["E-PEER-LIMIT"] * 3
        assert await user.call(b"y", deadline_ms=60_000) == b"y"


# -- addresses --------------------------------------------------------------------------------------------------------


def test_a_taken_or_wrong_address_is_named() -> None:
    with open_listener("127.0.0.1:0") as taken:
        port = taken.getsockname()[1]
        for address, code in ((f"127.0.0.1:{port}", "E-ADDRESS-IN-USE"), ("localhost:1", "E-CONFIG"), ("192.0.2.1:0", "E-ADDRESS-IN-USE")):
            with pytest.raises(QuStreamError, match=address.replace(".", r"\.")) as caught:
                open_listener(address)
            assert caught.value.code == code


# -- Unix sockets -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving_unix(path: Path, handler: Handler = idle, mode: int = 0o660) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_unix, path, handler, hello=HELLO, mode=mode))
        yield
        nursery.cancel_scope.cancel()


async def test_a_unix_peer_is_known_by_its_uid(tmp_path: Path) -> None:
    async def echo(connection: Connection) -> None:
        assert connection.peer_uid == os.getuid()
        assert connection.peer.id == b""
        await connection.send(*await connection.receive())

    async with serving_unix(tmp_path / "feed", echo), await connect_unix(str(tmp_path / "feed"), hello=HELLO) as server:
        body = bytes(500_000)
        await server.send(Channel.BULK, body)
        assert await server.receive() == (Channel.BULK, body)
        assert server.peer_uid == os.getuid()
    assert not (tmp_path / "feed").exists()


async def test_connect_takes_unix_addresses_too(tmp_path: Path) -> None:
    async with serving_unix(tmp_path / "feed"), await connect(f"unix:{tmp_path}/feed", key=ALICE, hello=HELLO) as server:
        assert server.peer.key is None


@pytest.mark.parametrize("mode", [0o600, 0o666])
async def test_a_unix_socket_has_the_permissions_asked_for(tmp_path: Path, mode: int) -> None:
    async with serving_unix(tmp_path / "feed", mode=mode):
        assert stat.S_IMODE((tmp_path / "feed").stat().st_mode) == mode


async def test_a_dead_socket_file_is_replaced_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    async with serving_unix(path):
        assert await code_of(serve_unix(path, idle, hello=HELLO)) == "E-ADDRESS-IN-USE"
        async with await connect_unix(str(path), hello=HELLO):
            pass
    path.write_text("precious")
    assert await code_of(serve_unix(path, idle, hello=HELLO)) == "E-CONFIG"
    assert path.read_text() == "precious"


async def test_another_network_is_refused_on_a_unix_socket_too(tmp_path: Path) -> None:
    async with serving_unix(tmp_path / "feed"):
        assert await code_of(connect_unix(str(tmp_path / "feed"), hello=LocalHello("other", ()))) == "E-PEER-CHAIN"
        assert await code_of(connect_unix(str(tmp_path / "none"), hello=HELLO)) == "E-PEER-UNREACHABLE"


async def test_nobody_there_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        assert await code_of(connect(address, key=ALICE, hello=HELLO)) == "E-PEER-UNREACHABLE"


async def test_a_listener_that_never_answers_meets_our_deadline() -> None:
    with open_listener("127.0.0.1:0") as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        assert await code_of(connect(address, key=ALICE, hello=HELLO, timeout_ms=100)) == "E-DEADLINE"
