"""A connection without TLS, at either end, fed with anything in any pieces: it closes with a code or goes on, the pieces make no
difference, and what it keeps and answers is bounded.

    input: how (1 byte: role, greeted, stranger) ‖ how long the pieces are (2 bytes) ‖ the stream
"""

from __future__ import annotations

from support.fuzzing.choices import Choices
from support.fuzzing.vectors import vectors

from qustream.errors import CODES
from qustream.transport.engine import Closed, Event, PlainEngine, Received
from qustream.transport.frames import frames_of
from qustream.transport.greeting import LocalHello, Side, make_hello, other
from qustream.transport.limits import ALL_CHANNELS, CHANNEL_LIMITS, UNKNOWN_PEER_CHANNELS, UNLICENSED_MESSAGE_MAX_BYTES, Channel
from qustream.wire.codec import encode
from qustream.wire.hello import Role

__all__ = ["check_events", "run", "seeds"]

LOCAL = LocalHello("vectors", (Role.NODE,))
GREETED, STRANGER = 2, 4
# What one end may owe a peer that does not read: its Hello, a full queue of control, a Goodbye, and the headers of all these.
OWED_MAX_BYTES = 3 * CHANNEL_LIMITS[Channel.CONTROL].queue_max_bytes


def check_events(events: list[Event], *, is_stranger: bool) -> None:
    """What an engine may say about a hostile peer."""
    for place, event in enumerate(events):
        if isinstance(event, Received):
            assert 0 < len(event.body) <= CHANNEL_LIMITS[event.channel].message_max_bytes
            assert not is_stranger or (event.channel is Channel.REQUEST and len(event.body) <= UNLICENSED_MESSAGE_MAX_BYTES)
        elif isinstance(event, Closed):
            assert place == len(events) - 1
            assert event.error is None or event.error.code in CODES


def _told(how: int, side: Side, stream: bytes, piece: int) -> list[tuple[object, ...]]:
    """What comes of it, in words that can be compared."""
    is_stranger = side == "server" and how & STRANGER > 0
    engine = PlainEngine(side, hello=LOCAL, permit=lambda _peer: UNKNOWN_PEER_CHANNELS if is_stranger else ALL_CHANNELS)
    engine.start()
    events: list[Event] = []
    if how & GREETED:
        events += engine.receive(frames_of(Channel.CONTROL, encode(make_hello(LOCAL, other(side), None, b""))))
    for at in range(0, len(stream), piece):
        events += engine.receive(stream[at : at + piece])
        assert engine._reader.held_bytes <= sum(limits.message_max_bytes for limits in CHANNEL_LIMITS.values())
    events += engine.receive_eof()
    check_events(events, is_stranger=is_stranger)
    assert engine.is_closed
    owed = 0
    while part := engine.data_to_send():
        owed += len(part)
    assert owed <= OWED_MAX_BYTES
    return [
        (each.channel, bytes(each.body)) if isinstance(each, Received)
        else ("closed", each.error and each.error.code) if isinstance(each, Closed)
        else ("established",)
        for each in events
    ]  # fmt: skip


def run(data: bytes) -> None:
    choices = Choices(data)
    how = choices.number(1)
    side: Side = "client" if how & 1 else "server"
    piece, stream = 1 + choices.number(2), choices.rest()
    if len(stream) // piece > 300:  # many small pieces show what some show
        piece = 1 + len(stream) // 300
    assert _told(how, side, stream, piece) == _told(how, side, stream, len(stream) or 1)


def seeds() -> list[bytes]:
    frames = vectors("frames")
    streams = [bytes.fromhex(case["frame"]) for case in (*frames["control"], *frames["rpc"])]
    streams += [bytes.fromhex(case["bytes"]) for case in frames["refused"]]
    streams += [frames_of(channel, bytes([channel]) * size) for channel in Channel for size in (1, 65_536, 65_537) if channel]
    streams.append(b"".join(streams[:6]))
    streams.append(frames_of(Channel.CONTROL, encode(make_hello(LOCAL, "client", None, b""))) + streams[0])
    return [bytes([how]) + (40).to_bytes(2, "big") + stream for stream in streams for how in (0, GREETED, GREETED + STRANGER, GREETED + 1)]
