"""What has arrived on a connection and nobody has taken yet: messages and requests, each within bounds."""

from __future__ import annotations

from collections import deque

import trio

from qustream.errors import fault
from qustream.transport.limits import CHANNEL_LIMITS, REQUESTS_MAX, REQUESTS_MAX_BYTES, Channel
from qustream.wire.rpc import Request

__all__ = ["INBOX_MAX_BYTES", "Inbox", "wake"]

# Two of the largest messages, so that one can be worked on while the next arrives.
INBOX_MAX_BYTES = 2 * CHANNEL_LIMITS[Channel.BULK].message_max_bytes
INBOX_MAX_MESSAGES = 1024


class Inbox:
    """One connection's. `messages`: of consensus, gossip and bulk; `requests`: asked by the peer and when; `open_requests`: id -> size of
    what the peer asked and we have not answered; `arrived` wakes whoever waits for any of it."""

    def __init__(self) -> None:
        self.messages: deque[tuple[Channel, bytes | bytearray]] = deque()
        self.size_bytes = 0
        self.requests: deque[tuple[Request, float]] = deque()
        self.open_requests: dict[int, int] = {}
        self.arrived = trio.lowlevel.ParkingLot()
        self.has_room = trio.lowlevel.ParkingLot()

    def add(self, channel: Channel, body: bytes | bytearray) -> bool:
        """Store a message; False if there is no room."""
        if self.size_bytes >= INBOX_MAX_BYTES or len(self.messages) >= INBOX_MAX_MESSAGES:
            return False
        self.messages.append((channel, body))
        self.size_bytes += len(body)
        wake(self.arrived)
        return True

    async def put(self, channel: Channel, body: bytes | bytearray) -> None:
        """Store a message; waits for room."""
        while not self.add(channel, body):
            await self.has_room.park()

    def take(self) -> tuple[Channel, bytes | bytearray]:
        """The oldest message. There must be one."""
        channel, body = self.messages.popleft()
        self.size_bytes -= len(body)
        wake(self.has_room)
        return channel, body

    def take_all(self) -> list[tuple[Channel, bytes | bytearray]]:
        """All messages, the oldest first."""
        messages = list(self.messages)
        self.messages.clear()
        self.size_bytes = 0
        wake(self.has_room)
        return messages

    def put_request(self, request: Request) -> bool:
        """Store a request; False if too much of this peer is open. Errors: `E-FRAME-ORDER`."""
        if request.id in self.open_requests:
            raise fault("E-FRAME-ORDER", "a second request under the id of an open one")
        size = len(request.body)
        if len(self.open_requests) >= REQUESTS_MAX or sum(self.open_requests.values()) + size > REQUESTS_MAX_BYTES:
            return False
        self.open_requests[request.id] = size
        self.requests.append((request, trio.current_time()))
        wake(self.arrived)
        return True

    def take_request(self) -> Request:
        """The oldest request; its `deadline_ms` is what is left of it by now. There must be one."""
        request, arrived_at = self.requests.popleft()
        waited_ms = int((trio.current_time() - arrived_at) * 1000)
        return Request(request.id, max(0, request.deadline_ms - waited_ms), request.body)


def wake(lot: trio.lowlevel.ParkingLot) -> None:
    """Wake everybody in it. Mostly there is nobody, and to find that out in `unpark_all` takes ten times as long."""
    if lot:
        lot.unpark_all()
