"""One node's feed over one connection (`proto/spec/entropy-feed.md`, "Feed"): what it asks for comes in, units go out.

    node                               server
    FeedOpen(node, credit) ──request──▶       within OPEN_TIMEOUT_S of the connection
              ◀──answer── FeedHealth
              ◀───bulk─── FeedBatch, FeedUnit …   as many units as there is credit
              ◀───bulk─── FeedHealth          at every change
    FeedCredit(units) ───────request──▶       at any time
              ◀──answer── FeedHealth

A node that breaks this order, grants too much, or leaves one message unread for `SEND_TIMEOUT_S` is told why and cut off. Nothing a
node does alone is logged above debug.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from qrngd.bell import Bell
from qrngd.feed.batch import CutUnit
from qustream.errors import QuStreamError, fault
from qustream.model.base import Signed
from qustream.model.entropy import LeafProof
from qustream.transport.limits import Channel
from qustream.wire.codec import decode, encode
from qustream.wire.feed import FeedBatch, FeedCredit, FeedHealth, FeedOpen, encode_unit_parts
from qustream.wire.rpc import Request, Response

__all__ = ["OPEN_TIMEOUT_S", "SEND_TIMEOUT_S", "FeedConnection", "Parcel", "Session", "receive_open"]

# From the end of the handshake to FeedOpen: one message over any line a node may have.
OPEN_TIMEOUT_S = 10.0
# For one unit of 257 KiB to find room in the transport's queue: 210 kbit/s, a five-hundredth of what a node needs to run.
SEND_TIMEOUT_S = 10.0
# A unit in the middle of a flow may so have a second less.
REARM_S = 1.0
# Changes of state that wait for one node: a whole failure from live to failed, or an unplugging and the tests after it, twice over.
NEWS_MAX = 8
# FeedOpen is 42 bytes, FeedCredit 6: what is longer is neither.
REQUEST_MAX_BYTES = 64


class FeedConnection(Protocol):
    """What a session needs of a connection (`qustream.aio.connection.Connection`)."""

    async def send(self, channel: Channel, body: bytes, /) -> bool: ...
    async def send_parts(self, channel: Channel, parts: Sequence[bytes | memoryview], on_taken: Callable[[], None], /) -> None: ...
    async def next_request(self) -> Request: ...
    async def answer(self, number: int, message: bytes, /) -> None: ...


@dataclass(slots=True)
class Parcel:
    """One unit on its way to its node, with the batch it belongs to."""

    attestation: Signed
    root: bytes
    unit: CutUnit[Session]
    proof: LeafProof


class Session:
    """The open feed of one node. `news` and `parcels` are filled by the feed and emptied by `deliver`."""

    def __init__(self, node: bytes, connection: FeedConnection, *, transport: str, since_ms: int) -> None:
        self.node = node
        self.transport = transport
        self.since_ms = since_ms
        self.closed = False
        self._connection = connection
        self._scope = trio.CancelScope()
        self._reading = trio.CancelScope()  # one scope with a moving deadline: a new one for each message would cost more than sending it
        self._trouble: QuStreamError | None = None
        self._news: deque[FeedHealth] = deque(maxlen=NEWS_MAX)
        self._parcels: deque[Parcel] = deque()  # bounded by the node's share of units in flight
        self._bell = Bell()
        self._last_root = b""

    async def run(self, *tasks: Callable[[Session], Awaitable[None]]) -> QuStreamError:
        """Run `tasks` until one of them fails or `end` is called; return the reason."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for task in tasks:
                    nursery.start_soon(self._guard, task)
        assert self._trouble is not None, "a session ends for a reason"
        return self._trouble

    async def _guard(self, task: Callable[[Session], Awaitable[None]]) -> None:
        try:
            await task(self)
        except QuStreamError as error:
            self.end(error)

    def end(self, reason: QuStreamError) -> None:
        """End the session from outside; the first reason stands."""
        self._trouble = self._trouble or reason
        self._scope.cancel()

    def tell(self, health: FeedHealth) -> None:
        """Push a state. A node that reads slowly misses the oldest of many, never the latest."""
        self._news.append(health)
        self._bell.ring()

    def put(self, parcel: Parcel) -> None:
        """Queue a unit for delivery."""
        self._parcels.append(parcel)
        self._bell.ring()

    @property
    def waiting(self) -> int:
        """Released units that the transport has not taken."""
        return len(self._parcels)

    async def next_credit(self) -> tuple[int, int]:
        """The node's next grant: the request's number and the units. Raises E-FRAME-ORDER for anything but FeedCredit."""
        request = await self._connection.next_request()
        message = decode(request.body, FeedOpen | FeedCredit, max_bytes=REQUEST_MAX_BYTES)
        if not isinstance(message, FeedCredit):
            raise fault("E-FRAME-ORDER", "the feed is open already")
        return request.id, message.units

    async def answer(self, number: int, health: FeedHealth) -> None:
        """Answer a request with the state of the device. Raises E-DEADLINE when the node does not read."""
        with trio.move_on_after(SEND_TIMEOUT_S) as scope:
            await self._connection.answer(number, encode(Response(number, encode(health))))
        if scope.cancelled_caught:
            raise fault("E-DEADLINE", f"the node did not read for {SEND_TIMEOUT_S:.0f} s")

    async def deliver(self, left: Callable[[CutUnit[Session], bool], None]) -> None:
        """Send what is due for ever; `left` is called once for each unit that was taken out of the queue here, when the transport needs its
        memory no more (also after this has ended), and told whether the transport ever had it. Raises E-DEADLINE if nobody reads."""
        with self._reading:
            while not self.closed:
                await self._send_next(left)
        if self._reading.cancelled_caught:
            raise fault("E-DEADLINE", f"the node did not read for {SEND_TIMEOUT_S:.0f} s")

    async def _send_next(self, left: Callable[[CutUnit[Session], bool], None]) -> None:
        """Send what is due, waiting for something if nothing is."""
        if not self._news and not self._parcels:
            self._reading.deadline = math.inf
            while not self._news and not self._parcels:
                await self._bell.wait()
        self._give_time()
        if self._news:
            await self._connection.send(Channel.BULK, encode(self._news.popleft()))
        else:
            await self._send_parcel(left)

    def _give_time(self) -> None:
        """From now on the node has `SEND_TIMEOUT_S`; set anew only once a second, for in a flow that costs as much as the rest of it."""
        now_s = trio.current_time()
        if not now_s + SEND_TIMEOUT_S - REARM_S <= self._reading.deadline < math.inf:
            self._reading.deadline = now_s + SEND_TIMEOUT_S

    async def _send_parcel(self, left: Callable[[CutUnit[Session], bool], None]) -> None:
        parcel = self._parcels[0]
        if parcel.root != self._last_root:
            await self._connection.send(Channel.BULK, encode(FeedBatch(parcel.attestation)))
            self._last_root = parcel.root
            if self.closed:  # meanwhile; everything is wiped and counted
                return
        self._parcels.popleft()
        unit, passed = parcel.unit, False

        def taken() -> None:
            left(unit, True)

        try:
            await self._connection.send_parts(Channel.BULK, encode_unit_parts(parcel.root, parcel.proof, [unit.unit.data]), taken)
            passed = True
        finally:
            if not passed:  # it was never queued, so nobody will say that it has left
                left(unit, False)

    def close(self) -> int:
        """Wipe what is still here; return how many units that were, beside those the transport has."""
        self.closed = True
        count = len(self._parcels)
        for parcel in self._parcels:
            parcel.unit.wipe()
        self._parcels.clear()
        return count

    def __repr__(self) -> str:
        return f"<Session {self.node.hex()[:12]} {self.transport}>"


async def receive_open(connection: FeedConnection) -> tuple[int, FeedOpen]:
    """The node's first request and its number. Raises E-DEADLINE, E-FRAME-ORDER, and what decoding raises."""
    request: Request | None = None
    with trio.move_on_after(OPEN_TIMEOUT_S):
        request = await connection.next_request()
    if request is None:
        raise fault("E-DEADLINE", "no FeedOpen arrived")
    message = decode(request.body, FeedOpen | FeedCredit, max_bytes=REQUEST_MAX_BYTES)
    if not isinstance(message, FeedOpen):
        raise fault("E-FRAME-ORDER", "a feed begins with FeedOpen")
    return request.id, message
