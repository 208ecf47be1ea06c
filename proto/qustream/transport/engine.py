"""The connection as a machine without a socket: bytes in, events out; messages in, bytes out (`proto/spec/transport.md`).

Theory of operation. A connection is in one state and moves by the table `NEXT` alone:

    IDLE ──start──▶ HANDSHAKE ──secured──▶ GREETING ──greeted──▶ OPEN
                        └──────────┴───────────┴──closed──▶ CLOSED

In HANDSHAKE the security layer talks (TLS; on a Unix socket there is nothing to say and the state lasts no time). When it is
done, its profile checked and the peer's id compared with the one expected, each end sends its `Hello`, and in GREETING nothing but a
`Hello` or a `Goodbye` may arrive. The Hello verified, the connection is OPEN: messages of the channels the peer is permitted
pass both ways, `Ping` is answered by the engine itself.

CLOSED is reached by either end's `Goodbye`, by a fault of the peer, or by the end of the stream. What the peer does wrong never raises: it
comes out as `Closed(error)`, after which `data_to_send` still yields the `Goodbye` that tells the peer why. What our own
program does wrong (a message before OPEN, one too long) raises `LocalMisuse`, which is a bug. An orderly `close` lets what is queued go out
first, a close with a code does not.

The caller moves the bytes: after `start`, `receive`, `send` and `close` it empties `data_to_send`, or `parts_to_send` and so without
copies, into the socket, and says `abandon` when it closes it. Nothing here reads a clock; deadlines belong to whoever owns the socket.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from qustream.errors import CODES, Family, QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.frames import FrameReader, SendQueues, frames_of
from qustream.transport.greeting import LocalHello, Peer, Side, check_hello, make_hello, other
from qustream.transport.layer import Layer, PlainLayer
from qustream.transport.limits import (
    ALL_CHANNELS,
    CHANNEL_LIMITS,
    COALESCE_BYTES,
    MESSAGE_MAX_BYTES,
    UNKNOWN_PEER_CHANNELS,
    UNLICENSED_MESSAGE_MAX_BYTES,
    Channel,
)
from qustream.transport.tls import TlsLayer
from qustream.wire.codec import decode, encode
from qustream.wire.hello import HELLO_MAX_BYTES, Goodbye, Hello, Ping, Pong

__all__ = [
    "Channel",
    "Closed",
    "Engine",
    "Established",
    "Event",
    "LocalHello",
    "LocalMisuse",
    "Peer",
    "Permit",
    "PlainEngine",
    "Received",
    "State",
]


class LocalMisuse(AssertionError):
    """Our own program broke the rules of its connection: a bug here, not the peer's fault."""


@dataclass(frozen=True)
class Established:
    """The peer is proven; messages may pass."""

    peer: Peer


class Received(NamedTuple):
    """A whole message of a permitted channel other than control."""

    channel: Channel
    body: bytes | bytearray


@dataclass(frozen=True)
class Closed:
    """The peer or its fault ended the connection; the last event. `error` is None after an orderly goodbye."""

    error: QuStreamError | None


Event = Established | Received | Closed
# Which channels a peer may use, decided when it is proven and before its next frame is read.
Permit = Callable[[Peer], Collection[Channel]]


class State(Enum):
    IDLE = "idle"
    HANDSHAKE = "handshake"
    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


NEXT: dict[tuple[State, str], State] = {
    (State.IDLE, "start"): State.HANDSHAKE,
    (State.HANDSHAKE, "secured"): State.GREETING,
    (State.GREETING, "greeted"): State.OPEN,
    (State.IDLE, "closed"): State.CLOSED,
    (State.HANDSHAKE, "closed"): State.CLOSED,
    (State.GREETING, "closed"): State.CLOSED,
    (State.OPEN, "closed"): State.CLOSED,
}


class _Engine:
    """What both engines share; they differ in the layer and in who is permitted what by default."""

    def __init__(self, role: Side, layer: Layer, *, key: SigningKey | None, hello: LocalHello, expect: bytes | None) -> None:
        self.role = role
        self.state = State.IDLE
        self.peer: Peer | None = None
        self.heard = 0  # whole messages of the peer, of every channel: its signs of life
        self.work = 0  # what the peer made us do: a TLS record or a message counts one
        self.dropped = 0  # gossip messages that found their queue full
        self._layer = layer
        self._key = key
        self._hello = hello
        self._expect = expect
        self._reader = FrameReader(self._check_channel)
        self._queues = SendQueues()
        self._farewell: Goodbye | None = None
        self._finished = False
        self._abandoned = False
        self._permit: Permit | None = None
        self._permitted: frozenset[Channel] = UNKNOWN_PEER_CHANNELS

    @property
    def is_closed(self) -> bool:
        """Whether nothing more comes in; the goodbye may still have to go out."""
        return self.state is State.CLOSED

    # -- what the socket brings ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. The client's first bytes are in `data_to_send` afterwards."""
        self._move("start")
        if self.role == "client":
            self._layer.start()
        self._secure_if_ready()

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes from the network and return what they mean. `data` may be reused afterwards. Never raises on hostile input."""
        if self.state is State.CLOSED:
            return []
        if self.state is State.IDLE:
            raise LocalMisuse("receive before start")
        events: list[Event] = []
        records = self._layer.received_records
        try:
            chunks = self._layer.receive(data)
            self._secure_if_ready()
            self.work += self._layer.received_records - records
            for chunk in chunks:
                for channel, body in self._reader.feed(chunk):
                    self._take(channel, body, events)
                    if self.is_closed:
                        return events
            if self._layer.ended:
                events.append(self._lost("the peer closed the connection without a goodbye"))
        except QuStreamError as error:
            events.append(self._fail(error))
        return events

    def receive_eof(self) -> list[Event]:
        """The stream ended."""
        if self.state is State.CLOSED:
            return []
        early = self.state in (State.IDLE, State.HANDSHAKE)
        return [self._lost("the connection ended during the handshake" if early else "the connection ended without a goodbye")]

    # -- what our program says ----------------------------------------------------------------------------------------

    def send(self, channel: Channel, body: bytes) -> bool:
        """Queue a message. False: its queue is full. On gossip it is dropped then, and counted; on consensus the connection is
        closed, for a peer that does not take votes is of no use; on the others nothing happened, wait for room.

        Errors: the peer is gone, `E-PEER-CLOSED`; our bug, `LocalMisuse`.
        """
        self._check_sendable(channel, len(body))
        return self._enqueue(channel, body)

    def send_parts(self, channel: Channel, parts: Sequence[bytes | memoryview], on_taken: Callable[[], None]) -> bool:
        """Queue the message that `parts` make together, where they lie. False and errors: as `send`, and `on_taken` is not called then.

        The parts stay as they are until `on_taken` is called, once: they are protected, or the network has them, or the connection ended.
        It must not call back into this engine. A memoryview must be of contiguous single bytes.
        """
        for part in parts:
            if isinstance(part, memoryview) and not (part.contiguous and part.nbytes == len(part)):
                raise LocalMisuse("a part that is not plain bytes")
        self._check_sendable(channel, sum(map(len, parts)))
        return self._enqueue(channel, *parts, on_taken=on_taken)

    def _check_sendable(self, channel: Channel, size: int) -> None:
        if self.state is State.CLOSED or self._abandoned:
            raise fault("E-PEER-CLOSED", "the connection is closed")
        if self.state is not State.OPEN:
            raise LocalMisuse("a message before the connection is open")
        if self._layer.worn:
            self.close()
            raise fault("E-PEER-CLOSED", "the connection carried as much as its keys may: connect again")
        limit = CHANNEL_LIMITS[channel].message_max_bytes
        if channel is Channel.CONTROL:
            raise LocalMisuse("the control channel belongs to the engine")
        if not 0 < size <= limit:
            raise LocalMisuse(f"a message of {size} bytes on {channel.name}, which takes 1 to {limit}")

    def has_room(self, channel: Channel, size: int) -> bool:
        """Whether `send` of `size` bytes would be queued now."""
        return self._queues.has_room(channel, size)

    def ping(self, number: int) -> None:
        """Ask for a sign of life; the answer is bytes received, no event."""
        if self.state is State.OPEN:
            self._enqueue(Channel.CONTROL, encode(Ping(number)))

    @property
    def is_licensed(self) -> bool:
        """Whether the peer may use more than every stranger may."""
        return not self._permitted <= UNKNOWN_PEER_CHANNELS

    def permit(self, channels: Collection[Channel]) -> None:
        """From now on the peer may use these channels, besides control. At a server, a peer that has no more than a stranger's is
        held to a stranger's sizes as well."""
        self._permitted = frozenset(channels) | {Channel.CONTROL}
        small = self.role == "server" and not self.is_licensed
        self._reader.limit_to(UNLICENSED_MESSAGE_MAX_BYTES if small else MESSAGE_MAX_BYTES)

    def close(self, code: str = "", detail: str = "") -> None:
        """End the connection from here: orderly after what is queued, or at once and with the reason if there is a `code`."""
        if self.state is State.CLOSED:
            return
        if self.state in (State.GREETING, State.OPEN):
            self._farewell = Goodbye(code, detail[:256])
        self._move("closed")
        if code:
            self._queues.clear()

    def data_to_send(self) -> bytes:
        """The next bytes for the network, at most about 256 KiB of messages; empty when there are none for now."""
        parts = self.parts_to_send()
        data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
        del parts
        self._queues.taken()
        return data

    @property
    def has_output(self) -> bool:
        """Whether `parts_to_send` would give anything."""
        if self._abandoned:
            return False
        return bool(self._queues) or self._layer.owes or (self.is_closed and not self._finished)

    def parts_to_send(self) -> list[bytes | memoryview]:
        """The same in parts, which may lie where their senders keep them. To ask again says that the network has those of before and that
        the caller refers to them no more."""
        self._queues.taken()
        if self._abandoned:
            return []
        if not self._queues and self._farewell is not None:
            self._queues.put(Channel.CONTROL, encode(self._farewell))
            self._farewell = None
        if self._queues:
            self._layer.write(*self._queues.take(COALESCE_BYTES))
            if not self._layer.borrows:
                self._queues.taken()
        elif self.is_closed and not self._finished:
            self._finished = True
            self._layer.shutdown()
        return self._layer.pull()

    def abandon(self) -> None:
        """The network takes nothing more, and the caller refers to no part any more: forget what waits. Harmless when repeated."""
        self._abandoned = True
        self._layer.pull()
        self._queues.taken()
        self._queues.clear()

    # -- within -------------------------------------------------------------------------------------------------------

    def _move(self, fact: str) -> None:
        try:
            self.state = NEXT[self.state, fact]
        except KeyError:
            raise LocalMisuse(f"{fact} in state {self.state.value}") from None

    def _enqueue(self, channel: Channel, *parts: bytes | memoryview, on_taken: Callable[[], None] | None = None) -> bool:
        if self._queues.has_room(channel, sum(map(len, parts))):
            self._queues.put(channel, *parts, on_taken=on_taken)
            return True
        if channel is Channel.GOSSIP:
            self.dropped += 1
        elif channel is Channel.CONSENSUS:
            self.close("E-PEER-LIMIT", "the peer does not take what is sent on consensus")
        return False

    def _secure_if_ready(self) -> None:
        if self.state is not State.HANDSHAKE or not self._layer.ready:
            return
        key = self._layer.peer_key
        self._move("secured")
        if self._expect is not None and (key is None or key.id != self._expect):
            raise fault("E-PEER-IDENTITY", "another identity answers than the one expected")
        hello = make_hello(self._hello, self.role, self._key, self._layer.exporter)
        # Past the queues, which a close may empty: the peer shall always know who closed.
        self._layer.write(frames_of(Channel.CONTROL, encode(hello)))

    def _check_channel(self, channel: Channel) -> None:
        if channel is Channel.CONTROL:
            return
        if self.state is not State.OPEN:
            raise fault("E-FRAME-ORDER", f"a message on {channel.name.lower()} before the Hello")
        if channel not in self._permitted:
            raise fault("E-PEER-UNLICENSED", f"the {channel.name.lower()} channel is for licensed nodes")

    def _take(self, channel: Channel, body: bytes | bytearray, events: list[Event]) -> None:
        self.heard += 1
        self.work += 1
        if channel is Channel.CONTROL:
            self._take_control(body, events)
        else:
            events.append(Received(channel, body))

    def _take_control(self, body: bytes | bytearray, events: list[Event]) -> None:
        message = decode(body, Hello | Ping | Pong | Goodbye, max_bytes=HELLO_MAX_BYTES)
        if isinstance(message, Goodbye):
            self._move("closed")
            self._queues.clear()
            events.append(Closed(_reason_of(message)))
        elif isinstance(message, Hello):
            if self.state is not State.GREETING:
                raise fault("E-FRAME-ORDER", "a second Hello")
            events.append(self._greet(message))
        elif self.state is not State.OPEN:
            raise fault("E-FRAME-ORDER", f"a {type(message).__name__} before the Hello")
        elif isinstance(message, Ping) and not self._enqueue(Channel.CONTROL, encode(Pong(message.number))):
            raise fault("E-PEER-LIMIT", "the peer makes us answer and does not read the answers")

    def _greet(self, message: Hello) -> Established:
        layer = self._layer
        peer = check_hello(message, self._hello, other(self.role), layer.peer_key, layer.exporter)
        self.peer = peer
        self._move("greeted")
        self.permit(self._permitted if self._permit is None else self._permit(peer))
        return Established(peer)

    def _fail(self, error: QuStreamError) -> Closed:
        self.close(error.code, error.detail)
        return Closed(error)

    def _lost(self, detail: str) -> Closed:
        self._move("closed")
        self._queues.clear()
        return Closed(fault("E-PEER-CLOSED", detail))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.role} {self.state.value} {self.peer!r}>"


class Engine(_Engine):
    """The engine over TLS. A peer that was named (`expect`) may use every channel; an unknown one control and request, unless
    `permit`, asked once when the peer is proven, says otherwise."""

    def __init__(
        self, role: Side, *, key: SigningKey, hello: LocalHello, expect: bytes | None = None, permit: Permit | None = None
    ) -> None:
        super().__init__(role, TlsLayer(role, key), key=key, hello=hello, expect=expect)
        self._permit = permit
        if expect is not None:
            self._permitted = ALL_CHANNELS


class PlainEngine(_Engine):
    """The same conversation without TLS, for Unix sockets only. The peer proves no id; every channel is permitted unless `permit`
    says otherwise, because the file system and the peer's user id have decided who may connect."""

    def __init__(self, role: Side, *, hello: LocalHello, permit: Permit | None = None) -> None:
        super().__init__(role, PlainLayer(), key=None, hello=hello, expect=None)
        self._permit = permit
        self._permitted = ALL_CHANNELS


def _reason_of(goodbye: Goodbye) -> QuStreamError | None:
    """What a Goodbye means to us. A peer cannot make us believe that our own operator must act."""
    if not goodbye.code:
        return None
    detail = "".join(c if c.isprintable() else "?" for c in goodbye.detail)
    row = CODES.get(goodbye.code)
    if row is None or row.family is Family.OPERATOR:
        return fault("E-PEER-CLOSED", "the peer closed the connection for a reason of its own")
    return fault(goodbye.code, f"the peer closed the connection: {detail or row.meaning}")
