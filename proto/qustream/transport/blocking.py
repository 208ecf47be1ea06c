"""The engine on a blocking socket: what an application without an event loop uses.

Every operation has a deadline on the monotonic clock. One thread at a time may use a connection; a second one waits for its
turn, within its own deadline. While a large message goes out, what the peer sends is read, so that the two never wait for
each other. An idle connection is closed by the far end after a while (`E-PEER-CLOSED` at the next call): connect again.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from types import TracebackType
from typing import Literal

from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.address import Address, parse_address
from qustream.transport.calls import Answer, CallTable, again, checked, read_rpc
from qustream.transport.engine import Closed, Engine, Established, PlainEngine, Received
from qustream.transport.greeting import LocalHello, Peer
from qustream.transport.limits import READ_BYTES, Channel
from qustream.wire.codec import encode
from qustream.wire.rpc import BODY_MAX_BYTES, Refusal, Request

__all__ = ["BlockingConnection", "connect"]

# Addresses of one name that are tried in turn.
ADDRESSES_MAX = 4
# Messages that came while nobody asked for them; beyond this the socket is left unread and the peer has to wait.
INBOX_MAX_MESSAGES = 16
# How long `close` may take to get the goodbye out.
CLOSE_MS = 500


class Deadline:
    """A moment on the monotonic clock."""

    def __init__(self, in_ms: int) -> None:
        self._at = time.monotonic() + in_ms / 1000

    @property
    def left_s(self) -> float:
        """Seconds left. Errors: `E-DEADLINE` when there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise fault("E-DEADLINE")
        return left

    @property
    def left_ms(self) -> int:
        return int(self.left_s * 1000)


def connect(
    address: str,
    *,
    key: SigningKey | None,
    hello: LocalHello,
    expect: bytes | None = None,
    timeout_ms: int = 10_000,
) -> BlockingConnection:
    """Connect to `address` (`host:port`, `[v6]:port`, `unix:/path`) and prove both ends to each other.

    `expect`: the id that must answer. A Unix socket takes no `key` and no `expect`. A host name is resolved by the system's resolver,
    in its own time. Errors: `E-PEER-*`, `E-TLS-*`, `E-DEADLINE`, `E-SIGNATURE`.
    """
    where, deadline = parse_address(address), Deadline(timeout_ms)
    engine: Engine | PlainEngine
    if where.path:
        engine = PlainEngine("client", hello=hello)
    else:
        if key is None:
            raise ValueError("a TCP connection needs a key")
        engine = Engine("client", key=key, hello=hello, expect=expect)
    connection = BlockingConnection(_open_socket(where, deadline), engine)
    try:
        connection._establish(deadline)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_socket(where: Address, deadline: Deadline) -> socket.socket:
    if where.path:
        return _try_socket(socket.AF_UNIX, where.path, deadline)
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)[:ADDRESSES_MAX]
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a host name at all, such as `a..b`
        raise fault("E-PEER-UNREACHABLE", f"{where.host} does not resolve: {getattr(error, 'strerror', 'not a host name')}") from None
    trouble: QuStreamError = fault("E-PEER-UNREACHABLE", f"{where.host} has no address")
    for family, _, _, _, target in found:
        try:
            sock = _try_socket(family, target, deadline)
        except QuStreamError as error:
            trouble = error
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise trouble


def _try_socket(family: int, target: object, deadline: Deadline) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(deadline.left_s)
        sock.connect(target)  # type: ignore[arg-type]
    except TimeoutError:
        sock.close()
        raise fault("E-DEADLINE", "no connection within the deadline") from None
    except OSError as error:
        sock.close()
        raise fault("E-PEER-UNREACHABLE", f"{error.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return sock


class BlockingConnection:
    """An established connection. Made by `connect`; a context manager."""

    peer: Peer

    def __init__(self, sock: socket.socket, engine: Engine | PlainEngine) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._engine = engine
        self._calls = CallTable()
        self._inbox: deque[tuple[Channel, bytes | bytearray]] = deque()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._out = memoryview(b"")
        self._trouble: QuStreamError | None = None
        self._turn = threading.Lock()

    # -- use ----------------------------------------------------------------------------------------------------------

    def call(self, body: bytes, *, deadline_ms: int, max_answer_bytes: int = BODY_MAX_BYTES) -> bytes:
        """Send a request and wait for its result.

        Errors: the peer's refusal as the error of its code; `E-DEADLINE`; `E-PEER-CLOSED` and whatever else ended the connection.
        """
        deadline = Deadline(deadline_ms)
        with _Turn(self._turn, deadline):
            answers: list[Answer] = []
            number, request = self._calls.open(body, deadline.left_ms, answers.append)
            try:
                self._put(Channel.REQUEST, request, deadline)
                while not answers:
                    self._pump(deadline)
            finally:
                self._calls.abandon(number)
            return checked(answers[0], max_answer_bytes)

    def send(self, channel: Channel, body: bytes, *, deadline_ms: int) -> None:
        """Send a message and wait until the system has taken it. Errors: as `call`."""
        deadline = Deadline(deadline_ms)
        with _Turn(self._turn, deadline):
            self._put(channel, body, deadline)
            while self._has_output():
                self._pump(deadline)

    def receive(self, *, deadline_ms: int) -> tuple[Channel, bytes | bytearray]:
        """The next message of a channel other than control and request. Errors: as `call`."""
        deadline = Deadline(deadline_ms)
        with _Turn(self._turn, deadline):
            while not self._inbox:
                self._pump(deadline)
            return self._inbox.popleft()

    def close(self) -> None:
        """Say goodbye and close; quick, and harmless when repeated."""
        with self._turn:
            if self._socket.fileno() < 0:
                return
            self._engine.close()
            try:
                self._say_goodbye(Deadline(CLOSE_MS))
            except (QuStreamError, OSError):
                self._trouble = fault("E-PEER-CLOSED", "the connection is closed")
            self._socket.close()

    def __enter__(self) -> BlockingConnection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BlockingConnection {self._engine!r}>"

    # -- within -------------------------------------------------------------------------------------------------------

    def _establish(self, deadline: Deadline) -> None:
        self._engine.start()
        while self._engine.peer is None:
            self._pump(deadline)
        self.peer = self._engine.peer

    def _put(self, channel: Channel, body: bytes, deadline: Deadline) -> None:
        if self._socket.fileno() < 0:
            raise fault("E-PEER-CLOSED", "the connection is closed")
        if self._trouble is not None:  # the reason may have come with the last bytes of the handshake
            raise again(self._trouble)
        while not self._engine.send(channel, body):
            self._pump(deadline)

    def _has_output(self) -> bool:
        if not self._out:
            self._out = memoryview(self._engine.data_to_send())
        return bool(self._out)

    def _pump(self, deadline: Deadline) -> None:
        """Wait until the socket can move bytes either way and move them, once. Errors: what ended the connection before."""
        if self._trouble is not None:
            raise again(self._trouble)
        poll = select.poll()
        wanted = select.POLLIN if len(self._inbox) < INBOX_MAX_MESSAGES else 0
        poll.register(self._socket, wanted | (select.POLLOUT if self._has_output() else 0))
        ready = poll.poll(deadline.left_s * 1000)
        try:
            for _, what in ready:
                if what & select.POLLOUT:
                    self._out = self._out[self._socket.send(self._out) :]
                if what & ~select.POLLOUT:
                    self._read()
        except BlockingIOError:
            return
        except OSError as error:
            self._end(fault("E-PEER-CLOSED", f"the connection broke: {error.strerror}"))

    def _read(self) -> None:
        count = self._socket.recv_into(self._buffer)
        events = self._engine.receive(self._buffer[:count]) if count else self._engine.receive_eof()
        for event in events:
            if isinstance(event, Received):
                self._take(event)
            elif isinstance(event, Closed):
                self._end(event.error or fault("E-PEER-CLOSED", "the peer closed the connection"))
            else:
                assert isinstance(event, Established)

    def _take(self, event: Received) -> None:
        if event.channel is not Channel.REQUEST:
            self._inbox.append((event.channel, event.body))
            return
        try:
            message = read_rpc(event.body)
            if isinstance(message, Request):
                # This end serves nothing; it says so, unless its answers are not taken.
                refusal = Refusal(message.id, "E-PEER-LIMIT", "this end answers no requests", 0)
                self._engine.send(Channel.REQUEST, encode(refusal))
            else:
                self._calls.settle(message)
        except QuStreamError as error:
            self._engine.close(error.code, error.detail)
            self._end(error)

    def _end(self, error: QuStreamError) -> None:
        if self._trouble is None:
            self._trouble = error
            self._calls.fail_all(error)

    def _say_goodbye(self, deadline: Deadline) -> None:
        self._socket.setblocking(True)
        while self._has_output():
            self._socket.settimeout(deadline.left_s)
            self._out = self._out[self._socket.send(self._out) :]
        self._socket.shutdown(socket.SHUT_WR)


class _Turn:
    """One thread at a time; the next waits within its deadline."""

    def __init__(self, lock: threading.Lock, deadline: Deadline) -> None:
        self._lock = lock
        self._deadline = deadline

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._deadline.left_s):
            raise fault("E-DEADLINE", "another thread used the connection all the time")

    def __exit__(self, *_: object) -> Literal[False]:
        self._lock.release()
        return False
