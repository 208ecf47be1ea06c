"""One socket and one engine under trio: shake hands, read once, flush, close. Knows nothing of calls or channels."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

import trio

from qustream.errors import QuStreamError, fault
from qustream.transport.address import Address, show_address
from qustream.transport.engine import Closed, Engine, Event, PlainEngine
from qustream.transport.greeting import Peer
from qustream.transport.limits import COALESCE_BYTES, SHARED_READ_BYTES

__all__ = ["Link", "dial"]

# Addresses of one name that are tried in turn.
ADDRESSES_MAX = 4
# How long closing may take to get the goodbye out and to read what is under way, so that a reset does not destroy it.
GOODBYE_S = 1.0
# What the kernel holds of a Unix stream, if its own bound allows: two helpings, so that one is read while the next is written.
UNIX_BUFFER_BYTES = 2 * COALESCE_BYTES
# Parts that one system call takes: IOV_MAX of Linux.
PARTS_MAX = 1024
# Of Linux' `struct tcp_info` (tcp(7)): as much as holds `tcpi_rtt`, in microseconds, which stands behind eight bytes and fifteen numbers.
TCP_INFO_BYTES, TCP_INFO_RTT_AT = 72, 68
# What is read and thrown away meanwhile.
GOODBYE_READ_MAX_BYTES = 4 * 1024 * 1024
# All connections of one event loop read into the same buffer: between the read and its use nobody else runs.
_buffer: trio.lowlevel.RunVar[memoryview] = trio.lowlevel.RunVar("qustream-read-buffer")


async def dial(where: Address) -> socket.socket:
    """A connected socket that does not block. Errors: `E-PEER-UNREACHABLE`."""
    if where.path:
        return await _try_dial(socket.AF_UNIX, where.path)
    try:
        found = (await trio.socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM))[:ADDRESSES_MAX]
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a host name at all, such as `a..b`
        raise fault("E-PEER-UNREACHABLE", f"{where.host} does not resolve: {getattr(error, 'strerror', 'not a host name')}") from None
    trouble: QuStreamError = fault("E-PEER-UNREACHABLE", f"{where.host} has no address")
    for family, _, _, _, target in found:
        try:
            return await _try_dial(family, target)
        except QuStreamError as error:
            trouble = error
    raise trouble


async def _try_dial(family: int, target: object) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # no such family on this machine, or no descriptor left: a peer's address must not end a daemon
        raise fault("E-PEER-UNREACHABLE", f"{errno.errorcode.get(error.errno or 0, error.errno)}") from None
    try:
        sock.setblocking(False)
        code = sock.connect_ex(target)  # type: ignore[arg-type]
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise fault("E-PEER-UNREACHABLE", f"{errno.errorcode.get(code, code)}")
    except BaseException:
        sock.close()
        raise
    return sock


class Link:
    """Moves bytes between a socket and an engine. `stall_s`: how long a peer may take nothing of what is sent."""

    def __init__(self, sock: socket.socket, engine: Engine | PlainEngine, *, stall_s: float) -> None:
        sock.setblocking(False)
        self.peer_uid: int | None = None
        self.remote = _remote(sock)
        if sock.family == socket.AF_UNIX:
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            self.peer_uid = struct.unpack("3i", credentials)[1]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_BUFFER_BYTES)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.engine = engine
        self._socket = sock
        self._stall_s = stall_s
        self._closing = False
        self._out: list[bytes | memoryview] = []  # what the engine gave out and the socket has not taken yet

    def keep_unsent(self, most_bytes: int) -> None:
        """Let the kernel hold no more than that of what it has not sent yet: the rest waits here, where what is urgent goes first."""
        if self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most_bytes)

    async def shake_hands(self) -> tuple[Peer, list[Event]]:
        """Start the engine and run the handshake; the caller sets the deadline. The socket is closed if it fails.

        Returns who answered, and the events up to then. Errors: `E-PEER-*`, `E-TLS-*`, `E-SIGNATURE`.
        """
        events: list[Event] = []
        self.engine.start()
        try:
            while self.engine.peer is None:
                await self.flush()
                events += await self.read()
                if self.engine.peer is None:
                    _raise_if_closed(events)
        except QuStreamError:
            await self.close_gently()
            raise
        except BaseException:
            self.close()
            raise
        return self.engine.peer, events

    async def read(self, most_bytes: int = SHARED_READ_BYTES) -> list[Event]:
        """Wait for bytes, take them, and return what they mean. Errors: `E-PEER-CLOSED`."""
        await self._wait(trio.lowlevel.wait_readable)
        return self.read_now(most_bytes) or []

    def read_now(self, most_bytes: int = SHARED_READ_BYTES) -> list[Event] | None:
        """Take the bytes that are here and return what they mean; None if there are none. Errors: `E-PEER-CLOSED`."""
        buffer = _read_buffer()
        try:
            count = self._socket.recv_into(buffer, most_bytes)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise _broken(error) from None
        return self.engine.receive(buffer[:count]) if count else self.engine.receive_eof()

    async def flush(self, sent: Callable[[], object] | None = None) -> None:
        """Send what the engine has; `sent` is called whenever its queues got room. Errors: `E-PEER-CLOSED`."""
        while True:
            if not self._out:
                self._out = self.engine.parts_to_send()
                if sent is not None:
                    sent()
            if not self._out:
                return
            if not self._send_now():
                await self._wait_for_room()

    def _send_now(self) -> bool:
        """Give the socket what it takes; whether it may take more. Errors: `E-PEER-CLOSED`."""
        try:
            count = self._socket.sendmsg(self._out[:PARTS_MAX])
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._abandon()
            raise _broken(error) from None
        self._sent(count)
        return not self._out

    def _sent(self, count: int) -> None:
        """Forget the first `count` bytes of what is going out: the socket has its own copy."""
        if count == sum(map(len, self._out)):
            self._out.clear()
            return
        whole = 0
        for part in self._out:
            if count < len(part):
                break
            count -= len(part)
            whole += 1
        del self._out[:whole]
        if count:
            self._out[0] = memoryview(self._out[0])[count:]

    async def _wait_for_room(self) -> None:
        with trio.move_on_after(self._stall_s):
            await self._wait(trio.lowlevel.wait_writable)
            return
        raise fault("E-PEER-CLOSED", "the peer does not read")

    def round_trip_ms(self) -> int:
        """The smoothed round trip of the connection; -1 if the system does not say."""
        try:
            facts = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        except OSError:  # a Unix socket, or closed meanwhile
            return -1
        return round(struct.unpack_from("=I", facts, TCP_INFO_RTT_AT)[0] / 1000) if len(facts) == TCP_INFO_BYTES else -1

    def _abandon(self) -> None:
        """Nothing more goes out: whoever lent us a buffer gets it back."""
        self._out.clear()
        self.engine.abandon()

    async def close_gently(self) -> None:
        """Get the goodbye out, read what is under way, close: at most a second, also when cancelled. Returns at once if another task
        is at it."""
        if self._closing or self._socket.fileno() < 0:
            return
        self._closing = True
        try:
            with trio.move_on_after(GOODBYE_S, shield=True):
                await self.flush()
                self._socket.shutdown(socket.SHUT_WR)
                await self._read_away()
        except (QuStreamError, OSError):
            pass  # it is gone already, which is what we want
        finally:
            self.close()

    async def _read_away(self) -> None:
        buffer, left = _read_buffer(), GOODBYE_READ_MAX_BYTES
        while left > 0:
            await self._wait(trio.lowlevel.wait_readable)
            try:
                count = self._socket.recv_into(buffer)
            except BlockingIOError:
                continue
            if not count:
                return
            left -= count

    def close(self) -> None:
        """Close at once; harmless when repeated."""
        self._abandon()
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def _wait(self, wait: Callable[[socket.socket], object]) -> None:
        if self._socket.fileno() < 0:
            raise fault("E-PEER-CLOSED", "the connection is closed")
        try:
            await wait(self._socket)  # type: ignore[misc]
        except trio.ClosedResourceError:
            raise fault("E-PEER-CLOSED", "the connection was closed meanwhile") from None


def _remote(sock: socket.socket) -> str:
    if sock.family == socket.AF_UNIX:
        return ""
    try:
        host, port = sock.getpeername()[:2]
    except OSError:  # gone before we looked
        return ""
    return show_address(host, port)


def _raise_if_closed(events: list[Event]) -> None:
    for event in events:
        if isinstance(event, Closed):
            raise event.error or fault("E-PEER-CLOSED", "the peer closed the connection during the handshake")


def _read_buffer() -> memoryview:
    try:
        return _buffer.get()
    except LookupError:
        buffer = memoryview(bytearray(SHARED_READ_BYTES))
        _buffer.set(buffer)
        return buffer


def _broken(error: OSError) -> QuStreamError:
    return fault("E-PEER-CLOSED", f"the connection broke: {error.strerror}")
