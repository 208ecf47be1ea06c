"""The blocking connection against a real listener in another thread, and against sockets that misbehave."""

from __future__ import annotations

import queue
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from qustream.aio.connection import Connection
from qustream.aio.listener import ListenerLimits, serve, serve_unix
from qustream.aio.rpc import serve_requests
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.blocking import INBOX_MAX_MESSAGES, BlockingConnection, connect
from qustream.transport.engine import Channel, LocalHello
from qustream.transport.frames import frames_of
from qustream.transport.limits import ALL_CHANNELS, CHANNEL_LIMITS
from qustream.wire.codec import encode
from qustream.wire.hello import Role
from qustream.wire.rpc import BODY_MAX_BYTES, Response

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
HELLO = LocalHello("test", (Role.NODE,))


async def answer(body: bytes, _deadline_ms: int) -> bytes:
    if body == b"refuse":
        raise fault("E-NODE-FULL", "no room", retry_after_ms=3)
    if body == b"hang":
        await trio.sleep_forever()
    return body * 2


async def handle(connection: Connection) -> None:
    """Answer requests, and echo every bulk message."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo, connection)
        await serve_requests(connection, answer)
        nursery.cancel_scope.cancel()


async def echo(connection: Connection) -> None:
    """Send back what comes; six times what says `flood`; ask back, or answer what nobody asked, where it says so."""
    try:
        while True:
            channel, body = await connection.receive()
            if body == b"unasked":
                connection._engine._layer.write(frames_of(Channel.REQUEST, encode(Response(99, b"unasked"))))
            if body == b"ask":
                body = await refusal_of(connection)
            for _ in range(6 if body == b"flood" else 1):
                await connection.send(channel, body)
    except QuStreamError:
        return


async def refusal_of(connection: Connection) -> bytes:
    with pytest.raises(QuStreamError) as caught:
        await connection.call(b"who are you", deadline_ms=60_000)
    return caught.value.code.encode()


def run_server(path: Path, limits: ListenerLimits, bound: queue.Queue[str], stop: list[object]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            run = partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=handle, limits=limits)
            address = (await nursery.start(partial(run, permit=lambda _peer: ALL_CHANNELS)))[0]
            await nursery.start(partial(serve_unix, path, handle, hello=HELLO))
            stop.extend([trio.lowlevel.current_trio_token(), nursery.cancel_scope.cancel])
            bound.put(address)

    trio.run(main)


@contextmanager
def serving(path: Path, limits: ListenerLimits) -> Iterator[tuple[str, str]]:
    """Bob's TCP and Unix addresses."""
    bound: queue.Queue[str] = queue.Queue()
    stop: list[object] = []
    thread = threading.Thread(target=run_server, args=(path, limits, bound, stop))
    thread.start()
    address = bound.get(timeout=60)
    token, cancel = stop
    assert isinstance(token, trio.lowlevel.TrioToken)
    try:
        yield address, f"unix:{path}"
    finally:
        token.run_sync_soon(cancel)
        thread.join(timeout=60)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with serving(tmp_path_factory.mktemp("run") / "node", ListenerLimits()) as addresses:
        yield addresses


@pytest.fixture
def bob(server: tuple[str, str]) -> Iterator[BlockingConnection]:
    with connect(server[0], key=ALICE, hello=HELLO, expect=BOB.id, timeout_ms=5000) as connection:
        yield connection


def code_of(error: pytest.ExceptionInfo[QuStreamError]) -> str:
    return error.value.code


def test_calls(bob: BlockingConnection) -> None:
    assert bob.peer.id == BOB.id
    assert bob.call(b"ab", deadline_ms=60_000) == b"abab"
    assert bob.call(bytes(BODY_MAX_BYTES // 2), deadline_ms=60_000) == bytes(BODY_MAX_BYTES // 2 * 2)


def test_a_refusal_is_its_error(bob: BlockingConnection) -> None:
    with pytest.raises(QuStreamError, match="no room") as caught:
        bob.call(b"refuse", deadline_ms=60_000)
    assert (code_of(caught), caught.value.retry_after_ms) == ("E-NODE-FULL", 3)
    assert bob.call(b"a", deadline_ms=60_000) == b"aa"


def test_a_deadline_holds_and_the_connection_lives_on(bob: BlockingConnection) -> None:
    with pytest.raises(QuStreamError) as caught:
        bob.call(b"hang", deadline_ms=100)  # it hangs for ever
    assert code_of(caught) == "E-DEADLINE"
    assert bob.call(b"a", deadline_ms=60_000) == b"aa"
    with pytest.raises(QuStreamError) as caught:
        bob.call(b"a", deadline_ms=0)
    assert code_of(caught) == "E-DEADLINE"


def test_an_answer_too_long_fails_the_call_alone(bob: BlockingConnection) -> None:
    with pytest.raises(QuStreamError) as caught:
        bob.call(b"abc", deadline_ms=60_000, max_answer_bytes=5)
    assert code_of(caught) == "E-WIRE-OVERSIZE"
    assert bob.call(b"abc", deadline_ms=60_000) == b"abcabc"


def test_large_messages_both_ways_at_once_do_not_lock(bob: BlockingConnection) -> None:
    """Both ends send more than any buffer holds; reading goes on while writing."""
    body = bytes(CHANNEL_LIMITS[Channel.BULK].message_max_bytes)
    for _ in range(8):
        bob.send(Channel.BULK, body, deadline_ms=60_000)
    for _ in range(8):
        assert bob.receive(deadline_ms=60_000) == (Channel.BULK, body)


def test_what_nobody_takes_stays_bounded(bob: BlockingConnection) -> None:
    """What is echoed stays with the peer when the inbox is full, and so, soon, does what would be sent."""
    body = bytes(CHANNEL_LIMITS[Channel.BULK].message_max_bytes)
    sent = 0

    def send_all() -> None:
        nonlocal sent
        while True:
            bob.send(Channel.BULK, body, deadline_ms=200)
            sent += 1

    with pytest.raises(QuStreamError) as caught:
        send_all()
    assert code_of(caught) == "E-DEADLINE"
    assert len(bob._inbox) <= INBOX_MAX_MESSAGES + 1  # no read brings more than one of this size to its end
    for _ in range(sent):
        assert bob.receive(deadline_ms=60_000) == (Channel.BULK, body)


def test_every_message_of_a_burst_is_kept(bob: BlockingConnection) -> None:
    for _ in range(10):
        bob.send(Channel.BULK, b"flood", deadline_ms=60_000)
    for _ in range(60):
        assert bob.receive(deadline_ms=60_000) == (Channel.BULK, b"flood")


def test_threads_take_turns(bob: BlockingConnection) -> None:
    answers: list[bytes] = []

    def ask(number: int) -> None:
        answers.append(bob.call(bytes([number]), deadline_ms=60_000))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [bytes([number]) * 2 for number in range(10)]


def test_a_thread_that_never_gets_its_turn_meets_its_deadline(bob: BlockingConnection) -> None:
    # Whoever has the turn: it is no matter of this lock which thread that is.
    with bob._turn, pytest.raises(QuStreamError, match="another thread") as caught:
        bob.call(b"a", deadline_ms=200)
    assert code_of(caught) == "E-DEADLINE"
    assert bob.call(b"a", deadline_ms=60_000) == b"aa"


def test_an_idle_connection_is_closed_and_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "node", ListenerLimits(idle_ms=500)) as (address, _), connect(address, key=ALICE, hello=HELLO) as bob:
        hung_up = select.poll()
        hung_up.register(bob._socket, select.POLLRDHUP)  # nothing is sent behind the goodbye
        assert hung_up.poll(60_000)
        with pytest.raises(QuStreamError) as caught:
            bob.call(b"a", deadline_ms=60_000)
        assert code_of(caught) == "E-PEER-CLOSED"
        with pytest.raises(QuStreamError):
            bob.call(b"a", deadline_ms=60_000)


def test_closing_is_repeatable_and_final(server: tuple[str, str]) -> None:
    connection = connect(server[0], key=ALICE, hello=HELLO, expect=BOB.id)
    connection.close()
    connection.close()
    with pytest.raises(QuStreamError) as caught:
        connection.call(b"a", deadline_ms=100)
    assert code_of(caught) == "E-PEER-CLOSED"


def test_a_unix_socket_needs_no_key(server: tuple[str, str]) -> None:
    with connect(server[1], key=None, hello=HELLO) as node:
        assert node.call(b"ab", deadline_ms=60_000) == b"abab"
        assert node.peer.key is None
    with pytest.raises(ValueError, match="key"):
        connect(server[0], key=None, hello=HELLO)


@pytest.mark.parametrize(("expect", "chain", "code"), [(ALICE.id, "test", "E-PEER-IDENTITY"), (BOB.id, "other", "E-PEER-CHAIN")])
def test_the_wrong_peer_is_refused(server: tuple[str, str], expect: bytes, chain: str, code: str) -> None:
    with pytest.raises(QuStreamError) as caught:
        connect(server[0], key=ALICE, hello=LocalHello(chain, ()), expect=expect)
    assert code_of(caught) == code


def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        for target in (address, "unix:/nonexistent/socket", "no.such.host.invalid:1"):
            with pytest.raises(QuStreamError) as caught:
                connect(target, key=ALICE, hello=HELLO, timeout_ms=1000)
            assert code_of(caught) == "E-PEER-UNREACHABLE"


def test_a_silent_listener_meets_our_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        with pytest.raises(QuStreamError) as caught:
            connect(f"127.0.0.1:{deaf.getsockname()[1]}", key=ALICE, hello=HELLO, timeout_ms=100)
        assert code_of(caught) == "E-DEADLINE"


@pytest.mark.parametrize(("words", "code"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "E-TLS-HANDSHAKE"), (b"", "E-PEER-CLOSED")])
def test_something_else_listens_there(words: bytes, code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def speak() -> None:
            sock, _ = other.accept()
            with sock:
                sock.recv(4096)
                sock.sendall(words)

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(QuStreamError) as caught:
            connect(f"127.0.0.1:{other.getsockname()[1]}", key=ALICE, hello=HELLO, timeout_ms=5000)
        thread.join()
        assert code_of(caught) == code


def test_a_server_that_answers_what_nobody_asked_is_cut_off(bob: BlockingConnection) -> None:
    bob.send(Channel.BULK, b"unasked", deadline_ms=60_000)
    with pytest.raises(QuStreamError) as caught:
        bob.call(b"hang", deadline_ms=60_000)
    assert code_of(caught) == "E-FRAME-ORDER"


def test_a_server_that_asks_is_told_that_nobody_answers(bob: BlockingConnection) -> None:
    bob.send(Channel.BULK, b"ask", deadline_ms=60_000)
    assert bob.receive(deadline_ms=60_000) == (Channel.BULK, b"E-PEER-LIMIT")


def test_the_sdk_transport_needs_no_trio() -> None:
    script = "import sys; sys.modules['trio'] = None; import qustream.transport.blocking"
    subprocess.run([sys.executable, "-c", script], check=True)
