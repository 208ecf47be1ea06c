"""Listen for peers: admit, shake hands within a deadline, hand each connection to a handler.

The order is the defence: limits by address first (`Admission`, nothing computed), then the handshake under a deadline, then the
handler. A remote peer can make this code count, never log and never fail: what it did wrong is in `ListenerStats`, which a daemon
exports as metrics. A `QuStreamError` of the handler, alone or in exception groups, ends its connection; any other exception is our
own bug and leaves `serve` as an ordinary exception group.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from qustream.aio.admission import Admission, ListenerLimits, Seat, address_key
from qustream.aio.connection import Connection, connect_unix, establish
from qustream.aio.rpc import serve_requests
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.address import parse_address, show_address
from qustream.transport.engine import Engine, Permit, PlainEngine
from qustream.transport.greeting import LocalHello

__all__ = [
    "Handler",
    "ListenerLimits",
    "ListenerStats",
    "connect_unix",
    "open_listener",
    "serve",
    "serve_requests",
    "serve_unix",
]

Handler = Callable[[Connection], Awaitable[None]]
# What the kernel queues before we accept; the limits decide soon after.
BACKLOG = 256
# Out of file descriptors: wait for some to be closed rather than spin.
ACCEPT_PAUSE_S = 0.1
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# Linux tells by `accept` what befell a connection that waited, or that a firewall forbids it (accept(2), "Error handling").
_NOT_OURS = (
    errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP,
    errno.ENETUNREACH, errno.ETIMEDOUT, errno.EPERM,
)  # fmt: skip
# All connections of a Unix socket count as one address; there is no handshake worth limiting.
UNIX_KEY = "unix"


@dataclass
class ListenerStats:
    """What happened at a listener since it began; exported as metrics. Keys are the limits' names and the error codes: bounded."""

    accepted: int = 0
    established: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    handshakes_failed: Counter[str] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    displaced: int = 0
    accept_failed: int = 0
    open: int = 0


@dataclass(frozen=True)
class _House:
    """What every connection of a listener shares."""

    engine: Callable[[], Engine | PlainEngine]
    handler: Handler
    limits: ListenerLimits
    admission: Admission
    stats: ListenerStats


def open_listener(address: str) -> socket.socket:
    """A listening TCP socket on `host:port` (a numeric host; port 0: any free one). Errors: `E-ADDRESS-IN-USE`, `E-CONFIG`."""
    where = parse_address(address)
    try:
        family = socket.getaddrinfo(where.host, where.port, flags=socket.AI_NUMERICHOST)[0][0]
    except (OSError, UnicodeError):
        raise fault("E-CONFIG", f"listen = {address!r} is not a numeric address and port") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((where.host, where.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _bind_fault(address, error) from None
    return sock


def _bind_fault(address: str, error: OSError) -> QuStreamError:
    if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
        return fault("E-ADDRESS-IN-USE", f"{address}: {error.strerror}")
    return fault("E-CONFIG", f"cannot listen on {address}: {error.strerror}")


async def serve(
    listen: str | Sequence[str | socket.socket],
    *,
    key: SigningKey,
    hello: LocalHello | Callable[[], LocalHello],
    handler: Handler,
    limits: ListenerLimits | None = None,
    permit: Permit | None = None,
    stats: ListenerStats | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled on TCP addresses or sockets that already listen (from systemd, say).

    `task_status` gets the addresses as bound. `hello` may be a function where the height changes. `permit`: which channels a
    proven peer may use; by default control and request. `handler` runs inside `async with connection`; when it returns the
    connection ends, when it raises a `QuStreamError` the peer is told its code. Errors: `E-ADDRESS-IN-USE`, `E-CONFIG`.
    """
    limits = limits or ListenerLimits()

    def engine() -> Engine:
        return Engine("server", key=key, hello=hello() if callable(hello) else hello, permit=permit)

    house = _House(engine, handler, limits, Admission(limits, trio.current_time()), stats or ListenerStats())
    wanted = [listen] if isinstance(listen, str) else listen
    sockets = [open_listener(one) if isinstance(one, str) else one for one in wanted]
    await _serve_sockets(sockets, house, task_status)


async def serve_unix(
    path: str | Path,
    handler: Handler,
    *,
    hello: LocalHello | Callable[[], LocalHello],
    mode: int = 0o660,
    limits: ListenerLimits | None = None,
    permit: Permit | None = None,
    stats: ListenerStats | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on a Unix socket with these permissions; `connection.peer_uid` is what the kernel says. Otherwise as `serve`.

    A socket file that nobody listens on is replaced; it is removed again at the end. Errors: `E-ADDRESS-IN-USE`, `E-CONFIG`.
    """
    limits = limits or ListenerLimits()

    def engine() -> PlainEngine:
        return PlainEngine("server", hello=hello() if callable(hello) else hello, permit=permit)

    house = _House(engine, handler, limits, Admission(limits, trio.current_time()), stats or ListenerStats())
    sock = _open_unix_listener(Path(path), mode)
    try:
        await _serve_sockets([sock], house, task_status)
    finally:
        Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 - one call on a local directory


def _open_unix_listener(path: Path, mode: int) -> socket.socket:
    parse_address(f"unix:{path}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_if_dead(path)
        umask = os.umask(0o777 & ~mode)  # never more open than asked for, not even for a moment
        try:
            sock.bind(str(path))
        finally:
            os.umask(umask)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _bind_fault(str(path), error) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_if_dead(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise fault("E-CONFIG", f"{path} is there and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise fault("E-ADDRESS-IN-USE", f"{path}: another program listens there")


async def _serve_sockets(sockets: Sequence[socket.socket], house: _House, task_status: trio.TaskStatus[list[str]]) -> None:
    try:
        async with trio.open_nursery() as nursery:
            for sock in sockets:
                sock.setblocking(False)
                nursery.start_soon(_accept_all, sock, house, nursery)
            task_status.started([_bound(sock) for sock in sockets])
    finally:
        for sock in sockets:
            sock.close()


def _bound(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"unix:{name}" if sock.family == socket.AF_UNIX else show_address(name[0], name[1])


async def _accept_all(listening: socket.socket, house: _House, nursery: trio.Nursery) -> None:
    while True:
        await trio.lowlevel.wait_readable(listening)
        try:
            sock, address = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        except OSError as error:
            if error.errno not in _EXHAUSTED + _NOT_OURS:
                raise
            house.stats.accept_failed += 1
            if error.errno in _EXHAUSTED:
                await trio.sleep(ACCEPT_PAUSE_S)
            continue
        house.stats.accepted += 1
        key = UNIX_KEY if sock.family == socket.AF_UNIX else address_key(str(address[0]))
        scope = trio.CancelScope()
        seat = house.admission.admit(key, trio.current_time(), scope.cancel)
        if isinstance(seat, str):
            house.stats.refused[seat] += 1
            sock.close()
        else:
            nursery.start_soon(_serve_one, sock, seat, scope, house)


async def _serve_one(sock: socket.socket, seat: Seat, scope: trio.CancelScope, house: _House) -> None:
    try:
        with scope:
            connection = await _shake_hands(sock, seat, house)
            if connection is not None:
                await _run_handler(connection, seat, house)
        if scope.cancelled_caught:
            house.stats.displaced += 1
    finally:
        sock.close()
        house.admission.leave(seat)


async def _shake_hands(sock: socket.socket, seat: Seat, house: _House) -> Connection | None:
    try:
        with trio.move_on_after(house.limits.handshake_ms / 1000):
            connection = await establish(sock, house.engine(), idle_ms=house.limits.idle_ms)
            house.stats.established += 1
            return connection
        house.stats.handshakes_failed["E-DEADLINE"] += 1
    except QuStreamError as error:
        house.stats.handshakes_failed[error.code] += 1
    finally:
        house.admission.shaken(seat)
    return None


async def _run_handler(connection: Connection, seat: Seat, house: _House) -> None:
    end_scope = seat.displace

    def displace() -> None:
        connection.close_soon("E-PEER-LIMIT", "this place is needed for a peer from another address")
        end_scope()

    seat.displace = displace
    seat.heard_at = lambda: connection.heard_at
    seat.served_at = lambda: connection.served_at
    seat.is_busy = lambda: connection.open_requests > 0
    seat.is_kept = lambda: connection.is_licensed if connection.is_kept is None else connection.is_kept
    if not connection.is_licensed:
        connection.pace = house.admission.work(seat)
    house.stats.open += 1
    try:
        async with connection:
            try:
                await house.handler(connection)
            except* QuStreamError as group:  # alone, or out of a nursery of the handler's
                error = _first(group)
                await connection.aclose(error.code, error.detail)
    finally:
        house.stats.open -= 1
        house.stats.closed[connection.end_code] += 1


def _first(group: BaseExceptionGroup[QuStreamError]) -> QuStreamError:
    """The first error in a group. Several tasks of one handler mostly tell of the same end."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
