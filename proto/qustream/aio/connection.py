"""The engine on a trio socket: many calls at once, one task that reads, one that sends.

    async with await connect(address, key=key, hello=hello, expect=node_id, timeout_ms=5000) as connection:
        answer = await connection.call(body, deadline_ms=10_000)

Inside `async with` the two tasks run; leaving it says goodbye and ends them. What the peer does wrong ends the connection: every
waiting operation raises the coded error that ended it. An unexpected exception in the tasks is our own bug and leaves `async with` as
an ordinary exception group. An error of the body itself leaves it as it is, not wrapped.

Flow: `send` and `call` wait for room in the channel's queue (gossip drops instead, consensus closes, see `Engine.send`). What arrives
waits in a bounded inbox; when it is full the socket is left unread, so a slow application slows its peer and nothing grows.
Requests beyond the bound are refused at once (`E-PEER-LIMIT`), so that they never hold up the answers behind them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence, Sized
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType

import trio

from qustream.aio.admission import Bucket
from qustream.aio.deadline import Deadline
from qustream.aio.inbox import Inbox, wake
from qustream.aio.link import Link, dial
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.keys import PublicKey
from qustream.transport.address import parse_address
from qustream.transport.calls import Answer, CallTable, again, checked, read_rpc
from qustream.transport.engine import Closed, Engine, Event, LocalMisuse, Permit, PlainEngine, Received
from qustream.transport.greeting import LocalHello, Peer
from qustream.transport.limits import PACED_READ_BYTES, REFUSED_WORK, SHARED_READ_BYTES, STALL_MS, Channel
from qustream.wire.codec import encode
from qustream.wire.rpc import BODY_MAX_BYTES, Refusal, Request

__all__ = ["Connection", "connect", "connect_unix"]

# A peer without a whole message for so long is given up (600 KiB in it are 10 KB/s). It is pinged after a third: one ping may get lost.
IDLE_MS = 60_000


async def connect(
    address: str, *, key: SigningKey, hello: LocalHello, expect: bytes | None = None, timeout_ms: int = 10_000,
    permit: Permit | None = None, idle_ms: int = IDLE_MS,
) -> Connection:  # fmt: skip
    """Connect to `host:port` or `[v6]:port` and prove both ends to each other. Enter the result with `async with`.

    `expect`: the id that must answer; it may then use every channel, unless `permit` says otherwise.
    Errors: `E-PEER-*`, `E-TLS-*`, `E-SIGNATURE`, `E-DEADLINE`.
    """
    where = parse_address(address)
    if where.path:
        return await connect_unix(where.path, hello=hello, timeout_ms=timeout_ms, permit=permit, idle_ms=idle_ms)
    with Deadline(timeout_ms, "no connection within the deadline"):
        sock = await dial(where)
        engine = Engine("client", key=key, hello=hello, expect=expect, permit=permit)
        return await establish(sock, engine, idle_ms=idle_ms)


async def connect_unix(
    path: str, *, hello: LocalHello, timeout_ms: int = 10_000, permit: Permit | None = None, idle_ms: int = IDLE_MS,
) -> Connection:  # fmt: skip
    """Connect to the Unix socket at `path`. Errors: as `connect`."""
    with Deadline(timeout_ms, "no connection within the deadline"):
        sock = await dial(parse_address(f"unix:{path}"))
        return await establish(sock, PlainEngine("client", hello=hello, permit=permit), idle_ms=idle_ms)


async def establish(sock: socket.socket, engine: Engine | PlainEngine, *, idle_ms: int = IDLE_MS) -> Connection:
    """Run the handshake on a connected socket; the caller sets the deadline. The socket is closed if it fails."""
    link = Link(sock, engine, stall_s=min(STALL_MS, idle_ms) / 1000)
    peer, early = await link.shake_hands()
    return Connection(link, early, peer, idle_ms=idle_ms)


class Connection:
    """An established connection; its operations work inside `async with`, and any number of tasks may use them at once."""

    def __init__(self, link: Link, early: list[Event], peer: Peer, *, idle_ms: int = IDLE_MS) -> None:
        self.peer = peer
        self.peer_key: PublicKey | None = peer.key  # None on a Unix socket
        self.peer_uid = link.peer_uid
        self.remote = link.remote  # where the other end is, as `host:port`; empty on a Unix socket
        self.round_trip_ms = link.round_trip_ms
        self.end_code = ""  # why the connection ended; empty before that, and after a goodbye without a reason
        self.heard_at = trio.current_time()  # when the peer last completed a message, pings included
        self.served_at = float("-inf")  # when it was last given what it asked for
        self.pace: Bucket | None = None  # how many records and messages are read at what rate; None: as they come
        self.paced_read_bytes = PACED_READ_BYTES  # what one read takes where there is a pace
        self.is_kept: bool | None = None  # whether a listener keeps its place for it, come who may; None: if it is licensed
        self.takers: dict[Channel, Callable[[list[bytes | bytearray]], None]] = {}  # get it at once; may raise what the peer did wrong
        self._link, self.keep_unsent = link, link.keep_unsent
        self._engine, self.permit = link.engine, link.engine.permit  # which channels the peer may use from now on, besides control
        self._early = early
        self._calls = CallTable()
        self._inbox = Inbox()
        self._trouble: QuStreamError | None = None
        self._over = trio.Event()
        self._something_to_send = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._tasks: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._stops = (trio.CancelScope(), trio.CancelScope())
        self._idle_s = idle_ms / 1000
        self._read_at_once = False  # the last read did not wait
        # Whoever waits for room on a channel is served in turn, or a large message would wait for ever behind small ones.
        self._turns = {channel: trio.StrictFIFOLock() for channel in (Channel.REQUEST, Channel.BULK)}

    @property
    def dropped(self) -> int:
        """Gossip messages that were not sent because their queue was full."""
        return self._engine.dropped

    @property
    def open_requests(self) -> int:
        """Requests of the peer that have not been answered yet."""
        return len(self._inbox.open_requests)

    @property
    def is_licensed(self) -> bool:
        """Whether the peer may use more than control and request."""
        return self._engine.is_licensed

    # -- messages -----------------------------------------------------------------------------------------------------

    async def send(self, channel: Channel, body: bytes) -> bool:
        """Queue a message; waits for room. False: dropped (gossip alone). Errors: whatever ended the connection."""
        self._check_entered()
        if channel in self._turns:
            await self._send_in_turn(channel, partial(self._engine.send, channel, body))
            return True
        await trio.lowlevel.checkpoint()
        sent = self._check_taken(self._try_send(partial(self._engine.send, channel, body)), channel)
        self._check_alive()
        return sent

    def post(self, body: bytes, channel: Channel = Channel.GOSSIP) -> bool:
        """Queue gossip or consensus without waiting. False: dropped (gossip alone), or the connection is over."""
        try:
            return self._trouble is None and self._check_taken(self._engine.send(channel, body), channel)
        except QuStreamError as error:
            self._end(error)
            return False
        finally:
            wake(self._something_to_send)

    def _check_taken(self, sent: bool, channel: Channel) -> bool:
        """Whoever does not take votes is of no use."""
        if not sent and channel is Channel.CONSENSUS:
            self._end(fault("E-PEER-LIMIT", "the peer does not take what is sent on consensus"))
        return sent

    async def send_parts(self, channel: Channel, parts: Sequence[bytes | memoryview], on_taken: Callable[[], None]) -> None:
        """Queue the message that `parts` make together on request or bulk, without a copy; waits for room. Errors: as `send`.

        The parts must stay as they are until `on_taken` is called, in this event loop and exactly once: they are encrypted, or the kernel
        has them, or the connection ended without sending them (at the latest when `async with` is left). It must be quick, must not raise
        and must not use this connection. If this raises, cancelled included, nothing was queued and `on_taken` is never called.
        """
        self._check_entered()
        if channel not in self._turns:
            raise LocalMisuse("a message in parts is for the request and bulk channels")
        await self._send_in_turn(channel, partial(self._engine.send_parts, channel, parts, on_taken))

    async def _send_in_turn(self, channel: Channel, send: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        turn = self._turns[channel]
        if turn.locked():
            await turn.acquire()
        else:  # nobody waits, so there is no need to let others run before it is known whether there is room
            if self._try_send(send):
                return
            turn.acquire_nowait()
        try:
            while not self._try_send(send):
                await self._room.park()
        finally:
            turn.release()

    def _try_send(self, send: Callable[[], bool]) -> bool:
        self._check_alive()
        try:
            return send()
        except QuStreamError as error:
            self._end(error)
            raise
        finally:
            wake(self._something_to_send)

    async def receive(self) -> tuple[Channel, bytes | bytearray]:
        """The next message of consensus, gossip or bulk. Errors: whatever ended the connection, after what came before it."""
        await self._wait_for(self._inbox.messages)
        return self._inbox.take()

    async def receive_many(self) -> list[tuple[Channel, bytes | bytearray]]:
        """The same for all that are here, at least one: at most `INBOX_MAX_BYTES` and a message."""
        await self._wait_for(self._inbox.messages)
        return self._inbox.take_all()

    async def _wait_for(self, arrivals: Sized) -> None:
        self._check_entered()
        await trio.lowlevel.checkpoint()
        while not arrivals:
            self._check_alive()
            await self._inbox.arrived.park()

    async def call(self, body: bytes, *, deadline_ms: int, max_answer_bytes: int = BODY_MAX_BYTES) -> bytes:
        """Send a request and wait for its result; many at once.

        Errors: the peer's refusal as the error of its code; `E-DEADLINE`; `E-PEER-LIMIT` (too many open calls); whatever ended
        the connection.
        """
        self._check_entered()
        self._check_alive()
        answered = trio.Event()
        answers: list[Answer] = []

        def on_answer(answer: Answer) -> None:
            answers.append(answer)
            answered.set()

        number, request = self._calls.open(body, deadline_ms, on_answer)
        try:
            with Deadline(deadline_ms, "no answer within the deadline"):
                await self.send(Channel.REQUEST, request)
                await answered.wait()
        finally:
            self._calls.abandon(number)
        return checked(answers[0], max_answer_bytes)

    async def next_request(self) -> Request:
        """The next request of the peer; its `deadline_ms` is what is left of it by now. Errors: whatever ended the connection."""
        await self._wait_for(self._inbox.requests)
        return self._inbox.take_request()

    async def answer(self, number: int, message: bytes) -> None:
        """Send the encoded answer to a request; waits for room. Errors: whatever ended the connection."""
        await self.send(Channel.REQUEST, message)
        self._inbox.open_requests.pop(number, None)

    async def wait_closed(self) -> QuStreamError:
        """Wait until the connection is over, and say why."""
        self._check_entered()
        await self._over.wait()
        assert self._trouble is not None
        return again(self._trouble)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Connection:
        if self._tasks is not None:
            raise LocalMisuse("a connection is entered once")
        self._tasks = trio.open_nursery()
        nursery = await self._tasks.__aenter__()
        for event in self._early:  # a goodbye right behind the Hello: whoever asks next must hear its reason
            if isinstance(event, Closed):
                self._closed_by(event)
        nursery.start_soon(self._read_all)
        nursery.start_soon(self._send_all)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        assert self._tasks is not None
        self._stop()
        try:
            return await self._tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            faults = group.split(trio.Cancelled)[1]
            if faults is not None and faults.exceptions == (error,):
                return False  # the body's own error leaves as it is
            if faults is not None:
                self._link.close()  # a bug of our own: no more words
            raise
        finally:
            await self.aclose()

    async def aclose(self, code: str = "", detail: str = "") -> None:
        """Say goodbye (with the reason, if there is a `code`) and close: at most a second, harmless when repeated."""
        self.close_soon(code, detail)
        self._stop()
        await self._link.close_gently()

    def close_soon(self, code: str = "", detail: str = "") -> None:
        """End the connection without waiting; leaving `async with` gets the goodbye out."""
        self._engine.close(code, detail)
        self._end(fault("E-PEER-CLOSED", "this end closed the connection"), code)

    def _stop(self) -> None:
        for scope in self._stops:
            scope.cancel()

    def __repr__(self) -> str:
        return f"<Connection {self._engine!r}>"

    # -- the two tasks ------------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        with self._stops[0]:
            try:
                await self._take_all(self._early)
                self._early = []
                await self._read_until_closed()
            except QuStreamError as error:
                self._engine.close(error.code, error.detail)
                self._end(error)

    async def _read_until_closed(self) -> None:
        while self._trouble is None:
            heard, work = self._engine.heard, self._engine.work
            most_bytes = SHARED_READ_BYTES if self.pace is None else self.paced_read_bytes
            events, quiet = await self._read(most_bytes)
            if self._engine.has_output:
                wake(self._something_to_send)
            await self._take_all(events)
            await self._keep_pace(self._engine.work - work)
            if self._engine.heard != heard:
                self.heard_at = trio.current_time()
            elif trio.current_time() - self.heard_at >= self._idle_s:
                raise fault("E-PEER-CLOSED", "the peer fell silent")
            elif quiet:
                self._engine.ping(0)
                wake(self._something_to_send)

    async def _read(self, most_bytes: int) -> tuple[list[Event], bool]:
        """Read what is here, or wait for it; True if the peer has been quiet for long."""
        if self._read_at_once:
            await trio.lowlevel.checkpoint()  # whoever sends all the time leaves the others their turn
        events = self._link.read_now(most_bytes)
        self._read_at_once = events is not None
        if events is not None:
            return events, False
        with trio.move_on_after(self._idle_s / 3):
            return await self._link.read(most_bytes), False
        return [], True

    async def _keep_pace(self, work: int) -> None:
        """Whoever makes us work more than allowed is read more slowly."""
        if self.pace is not None:
            wait_s = self.pace.spend(work, trio.current_time())
            if wait_s:
                await trio.sleep(wait_s)

    async def _send_all(self) -> None:
        with self._stops[1]:
            try:
                while True:
                    await self._link.flush(partial(wake, self._room))
                    if self._trouble is not None:
                        return
                    await self._something_to_send.park()
            except QuStreamError as error:
                self._end(error)

    async def _take_all(self, events: list[Event]) -> None:
        taken: dict[Channel, list[bytes | bytearray]] = {}
        for event in events:
            if isinstance(event, Received):
                if event.channel in self.takers:
                    taken.setdefault(event.channel, []).append(event.body)
                elif event.channel is Channel.REQUEST:
                    await self._take_rpc(event.body)
                elif not self._inbox.add(event.channel, event.body):
                    await self._inbox.put(event.channel, event.body)
            elif isinstance(event, Closed):
                self._closed_by(event)
        for channel in sorted(taken):
            self.takers[channel](taken[channel])

    async def _take_rpc(self, body: bytes | bytearray) -> None:
        message = read_rpc(body)
        if not isinstance(message, Request):
            self._calls.settle(message)
        elif not self._inbox.put_request(message):
            if self.pace is not None:
                self.pace.spend(REFUSED_WORK, trio.current_time())
            await self.send(Channel.REQUEST, encode(Refusal(message.id, "E-PEER-LIMIT", "too many requests are open here", 0)))

    def _closed_by(self, event: Closed) -> None:
        error = event.error or fault("E-PEER-CLOSED", "the peer closed the connection")
        self._end(error, error.code if event.error else "")

    def _end(self, error: QuStreamError, code: str | None = None) -> None:
        if self._trouble is None:
            self._trouble = error
            self.end_code = error.code if code is None else code
            self._over.set()
            self._calls.fail_all(error)
        for lot in (self._something_to_send, self._room, self._inbox.arrived, self._inbox.has_room):
            lot.unpark_all()

    def _check_alive(self) -> None:
        if self._trouble is not None:
            raise again(self._trouble)

    def _check_entered(self) -> None:
        if self._tasks is None:
            raise LocalMisuse("use a connection inside `async with`")
