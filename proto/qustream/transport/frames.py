"""Frames: how messages of five channels share one byte stream (`proto/spec/transport.md`, "Frames").

    length (u32, big-endian) | more (1 bit) channel (7 bits) | body (length bytes)

A message of at most 64 KiB is one frame. A longer one is cut into pieces of exactly 64 KiB with the `more` bit set and a last
piece of 1 to 64 KiB without it, so there is one way to cut a message and no other. Pieces of different channels may
interleave, pieces of one channel stand in order. No message is empty.

`FrameReader` turns bytes into messages in time linear in the input and refuses a message at the first header that shows it
too long, before its body is buffered. `SendQueues` holds what waits to be sent and hands it out by priority, a piece at a time.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from qustream.errors import fault
from qustream.transport.limits import CHANNEL_LIMITS, HEADER_BYTES, MESSAGE_MAX_BYTES, PIECE_BYTES, Channel, ChannelLimits

__all__ = ["FrameReader", "SendQueues", "frames_of"]

_HEADER = struct.Struct(">IB")
_MORE = 0x80
_CHANNELS = {int(channel): channel for channel in Channel}
# Room for a message that is not whole: about four times what is here at most, whatever its peer announced. A message of more than one
# piece gets room for a unit of the feed, which is four pieces and some bytes, then for the largest.
_ROOMS = (64, 256, 1024, 4096, 16384, PIECE_BYTES, 4 * PIECE_BYTES + 4096, MESSAGE_MAX_BYTES)


def _header(size: int, channel: Channel, more: bool) -> bytes:
    return _HEADER.pack(size, channel | _MORE if more else channel)


_FULL_HEADERS = {channel: _header(PIECE_BYTES, channel, True) for channel in Channel}


def frames_of(channel: Channel, body: bytes) -> bytes:
    """The frames of one message, end to end."""
    parts: list[bytes | memoryview] = []
    view = memoryview(body)
    for start in range(0, len(body), PIECE_BYTES):
        piece = view[start : start + PIECE_BYTES]
        parts += (_header(len(piece), channel, start + PIECE_BYTES < len(body)), piece)
    return b"".join(parts)


class _Assembly:
    """A message of which some bytes are here, in one buffer that grows with them."""

    __slots__ = ("_buffer", "_view", "size")

    def __init__(self) -> None:
        self.size = 0
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)

    def add(self, part: memoryview) -> None:
        end = self.size + len(part)
        if end > len(self._view):
            self._grow(end)
        self._view[self.size : end] = part
        self.size = end

    def _grow(self, needed: int) -> None:
        larger = bytearray(next((room for room in _ROOMS if room > needed), needed))
        memoryview(larger)[: self.size] = self._view[: self.size]
        self._buffer, self._view = larger, memoryview(larger)

    def take(self) -> bytes | bytearray:
        """The message; one that came in pieces is not copied."""
        if self.size <= PIECE_BYTES:
            return bytes(self._view[: self.size])
        self._view.release()
        del self._buffer[self.size :]
        return self._buffer


class FrameReader:
    """Bytes in, whole messages out. One a connection; after it raised it is of no further use.

    `gate` is asked at every header whether its channel may be used now, and raises if not: before a byte of the body is kept.
    """

    def __init__(self, gate: Callable[[Channel], None]) -> None:
        self._gate = gate
        self._limits = {channel: limits.message_max_bytes for channel, limits in CHANNEL_LIMITS.items()}
        self._header = bytearray()
        self._body_left = 0
        self._channel = Channel.CONTROL
        self._more = False
        self._open: dict[Channel, _Assembly] = {}  # at most one a channel

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[tuple[Channel, bytes | bytearray]]:
        """Yield the messages that `data` completes. `data` may be reused when all are taken; what is kept is copied.

        Errors: `E-WIRE-MALFORMED` (unknown channel, empty frame, wrong cut), `E-WIRE-OVERSIZE`.
        """
        view, at, end = memoryview(data), 0, len(data)
        while at < end:
            if not self._body_left:
                if self._header or end - at < HEADER_BYTES:
                    at = self._take_header(view, at)
                    continue
                self._begin(*_HEADER.unpack_from(view, at))
                at += HEADER_BYTES
            stop = at + self._body_left
            if stop > end:
                stop = end
            part = view[at:stop]
            self._body_left -= stop - at
            at = stop
            channel = self._channel
            assembly = self._open.get(channel)
            if self._body_left or self._more:
                if assembly is None:
                    assembly = self._open[channel] = _Assembly()
                assembly.add(part)
            elif assembly is None:
                yield channel, bytes(part)
            else:
                assembly.add(part)
                del self._open[channel]
                yield channel, assembly.take()

    def _take_header(self, view: memoryview, at: int) -> int:
        """Read what is here of a header that comes in parts; returns where that ends."""
        end = min(at + HEADER_BYTES - len(self._header), len(view))
        self._header += view[at:end]
        if len(self._header) == HEADER_BYTES:
            size, tag = _HEADER.unpack(self._header)
            self._header.clear()
            self._begin(size, tag)
        return end

    def _begin(self, size: int, tag: int) -> None:
        channel = _CHANNELS.get(tag & ~_MORE)
        if channel is None:
            raise fault("E-WIRE-MALFORMED", f"a frame on channel {tag & ~_MORE}, which does not exist")
        self._gate(channel)
        if not size:
            raise fault("E-WIRE-MALFORMED", "an empty frame")
        more = tag >= _MORE
        assembly = self._open.get(channel)
        held = assembly.size if assembly is not None else 0
        limit = self._limits[channel]
        if held + size + more > limit:  # what continues has at least one byte more
            raise fault("E-WIRE-OVERSIZE", f"a message above {limit} bytes on the {channel.name.lower()} channel")
        if size > PIECE_BYTES or (more and size != PIECE_BYTES):
            raise fault("E-WIRE-MALFORMED", f"a message cut at {size} bytes instead of {PIECE_BYTES}")
        self._channel, self._more, self._body_left = channel, more, size

    def limit_to(self, most_bytes: int) -> None:
        """Take no message above `most_bytes` from now on, whatever its channel allows."""
        for channel, limits in CHANNEL_LIMITS.items():
            self._limits[channel] = min(most_bytes, limits.message_max_bytes)

    @property
    def held_bytes(self) -> int:
        """How much of unfinished messages is in memory; bounded by the sum of the channels' maximum sizes."""
        return sum(assembly.size for assembly in self._open.values())


class _Outgoing:
    """A message that waits, or what is left of it, where its sender keeps it."""

    __slots__ = ("frames", "on_taken", "size")
    frames: Iterator[tuple[list[bytes | memoryview], int, int]]  # each with its size and how many bytes of the message come after it

    def __init__(self, channel: Channel, parts: Sequence[bytes | memoryview], on_taken: Callable[[], None] | None) -> None:
        self.size = size = sum(map(len, parts))
        if size <= PIECE_BYTES:  # most messages
            self.frames = iter((([_header(size, channel, False), *parts], HEADER_BYTES + size, 0),))
        else:
            self.frames = _frames_of_parts(channel, parts, size)
        self.on_taken = on_taken


def _frames_of_parts(
    channel: Channel, parts: Iterable[bytes | memoryview], size: int
) -> Iterator[tuple[list[bytes | memoryview], int, int]]:
    """The frames of a message of `size` bytes in parts, uncopied; each with its size and how many bytes of the message come after it."""
    waiting, part, at = iter(parts), memoryview(b""), 0
    left = size
    while left:
        piece_bytes = wanted = min(PIECE_BYTES, left)
        left -= wanted
        frame: list[bytes | memoryview] = [_FULL_HEADERS[channel] if left else _header(wanted, channel, False)]
        while wanted:
            if at == len(part):
                part, at = memoryview(next(waiting)), 0
            piece = part[at : at + wanted]
            at += len(piece)
            wanted -= len(piece)
            frame.append(piece)
        yield frame, HEADER_BYTES + piece_bytes, left


class _Queue:
    """The messages of one channel that wait, oldest first; the first may be half sent."""

    __slots__ = ("limits", "messages", "size")

    def __init__(self, limits: ChannelLimits) -> None:
        self.limits = limits
        self.messages: deque[_Outgoing] = deque()
        self.size = 0

    def has_room(self, size: int) -> bool:
        return self.size + size <= self.limits.queue_max_bytes and len(self.messages) < self.limits.queue_max_messages

    def put(self, message: _Outgoing) -> None:
        self.messages.append(message)
        self.size += message.size

    def take(self, budget_bytes: int, parts: list[bytes | memoryview], lent: list[Callable[[], None]]) -> int:
        """Move frames to `parts` until the budget is used up, and to `lent` whom to tell of the messages that are gone by then.

        Returns what is left of the budget.
        """
        while self.messages and budget_bytes > 0:
            message = self.messages[0]
            frame, size, left = next(message.frames)
            parts += frame
            budget_bytes -= size
            if not left:
                self.messages.popleft()
                self.size -= message.size
                if message.on_taken is not None:
                    lent.append(message.on_taken)
        return budget_bytes


class SendQueues:
    """What waits to be sent on one connection, a bounded queue a channel, handed out in the order of `Channel`.

    Messages stay where their sender keeps them. He is told by `on_taken`, once, when nobody needs them there any more: `taken` says so of
    what the last `take` handed out, `clear` of what waits.
    """

    def __init__(self) -> None:
        self._queues = {channel: _Queue(CHANNEL_LIMITS[channel]) for channel in Channel}
        self._waiting = [queue.messages for queue in self._queues.values()]
        self._lending = False
        self._lent: list[Callable[[], None]] = []  # whom to tell when what was handed out is taken

    def __bool__(self) -> bool:
        return any(self._waiting)

    def has_room(self, channel: Channel, size: int) -> bool:
        """Whether a message of `size` bytes may be queued on `channel` now. Any allowed message fits into an empty queue."""
        return self._queues[channel].has_room(size)

    def put(self, channel: Channel, *parts: bytes | memoryview, on_taken: Callable[[], None] | None = None) -> None:
        """Queue the message that `parts` make together, for which `has_room` holds."""
        message = _Outgoing(channel, parts, on_taken)
        queue = self._queues[channel]
        assert 0 < message.size <= queue.limits.message_max_bytes
        assert queue.has_room(message.size)
        queue.put(message)

    def take(self, budget_bytes: int) -> list[bytes | memoryview]:
        """Frames of about `budget_bytes` (a piece more at most), the most urgent channel first, in parts; none if nothing waits."""
        parts: list[bytes | memoryview] = []
        left = budget_bytes
        self._lending = True
        for queue in self._queues.values():
            if queue.messages:
                left = queue.take(left, parts, self._lent)
        return parts

    def taken(self) -> None:
        """Whoever took parts has them elsewhere by now and refers to them no more."""
        lent, self._lent, self._lending = self._lent, [], False
        for on_taken in lent:
            on_taken()

    def clear(self) -> None:
        """Forget everything that waits. While parts are out its owners are told together with theirs: one message may be in both."""
        for queue in self._queues.values():
            self._lent += [message.on_taken for message in queue.messages if message.on_taken is not None]
            queue.messages.clear()
            queue.size = 0
        if not self._lending:
            self.taken()
