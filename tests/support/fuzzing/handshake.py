"""The handshake, at either end: flights that somebody on the path has changed, a peer that says anything before, in and after TLS. The
engine never raises, closes with a code, owes little, and knows its peer rightly if it knows it.

    input: what (1 byte) ‖ for *bytes*, *words* how long the pieces are (2 bytes) and what is said; for *flights* what is done to each
"""

from __future__ import annotations

from collections.abc import Callable

from support.fuzzing.choices import Choices
from support.fuzzing.frames import OWED_MAX_BYTES, check_events
from support.fuzzing.vectors import vectors

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.engine import Engine, Established, Event, State
from qustream.transport.frames import frames_of
from qustream.transport.greeting import LocalHello, Side, make_hello, other
from qustream.transport.limits import HANDSHAKE_MAX_BYTES, TLS_OWED_MAX_BYTES, Channel
from qustream.transport.tls import TlsLayer
from qustream.wire.codec import encode
from qustream.wire.hello import Role

__all__ = ["run", "seeds"]

KEYS: dict[Side, SigningKey] = {"client": SigningKey(b"c" * 32), "server": SigningKey(b"s" * 32)}
LOCAL = LocalHello("vectors", (Role.NODE,))
BYTES, FLIGHTS, WORDS, GREETED_WORDS = range(4)
ROUNDS_MAX = 6  # there and back; an honest handshake takes two
# A first flight of the server, everything TLS may owe, the frames' share.
SAID_MAX_BYTES = HANDSHAKE_MAX_BYTES + TLS_OWED_MAX_BYTES + OWED_MAX_BYTES


def _engine(side: Side, *, knows: bool) -> Engine:
    """One of our ends; it `knows` whom it wants to reach, or takes anybody."""
    engine = Engine(side, key=KEYS[side], hello=LOCAL, expect=KEYS[other(side)].id if knows else None)
    engine.start()
    return engine


def _check(engine: Engine, events: list[Event]) -> None:
    check_events(events, is_stranger=False)
    if any(isinstance(event, Established) for event in events):
        assert engine.peer is not None
        assert engine.peer.id == KEYS[other(engine.role)].id
    assert engine.state is not State.OPEN or engine.peer is not None


def _said(engine: Engine) -> bytes:
    said = b""
    while part := engine.data_to_send():
        said += part
    assert len(said) <= SAID_MAX_BYTES
    return said


def _bytes(side: Side, choices: Choices) -> None:
    """A peer that says what it likes instead of TLS."""
    engine, events = _engine(side, knows=False), []
    piece, stream = 1 + choices.number(2), choices.rest()
    for at in range(0, len(stream), max(piece, len(stream) // 1000)):
        events += engine.receive(stream[at : at + max(piece, len(stream) // 1000)])
    events += engine.receive_eof()
    _check(engine, events)
    assert engine.is_closed
    assert engine.peer is None
    _said(engine)


# -- somebody on the path ------------------------------------------------------------------------------------------------


def _records(flight: bytes) -> list[bytes]:
    found = []
    while flight:
        size = 5 + int.from_bytes(flight[3:5], "big")
        found.append(flight[:size])
        flight = flight[size:]
    return found


def _flip(flight: bytes, choices: Choices) -> bytes:
    data = bytearray(flight)
    for _ in range(1 + choices.below(3)):
        data[choices.number(2) % len(data)] ^= 1 << choices.below(8)
    return bytes(data)


def _cut(flight: bytes, choices: Choices) -> bytes:
    return flight[: choices.number(2) % len(flight)]


def _insert(flight: bytes, choices: Choices) -> bytes:
    place = choices.number(2) % len(flight)
    return flight[:place] + choices.bytes(choices.below(64)) + flight[place:]


def _replace(flight: bytes, choices: Choices) -> bytes:
    place, new = choices.number(2) % len(flight), choices.bytes(choices.below(64))
    return flight[:place] + new + flight[place + len(new) :]


def _double(flight: bytes, choices: Choices) -> bytes:
    records = _records(flight)
    records.insert(choices.below(len(records) + 1), records[choices.below(len(records))])
    return b"".join(records)


def _drop(flight: bytes, choices: Choices) -> bytes:
    records = _records(flight)
    del records[choices.below(len(records))]
    return b"".join(records)


def _swap(flight: bytes, choices: Choices) -> bytes:
    records = _records(flight)
    a, b = choices.below(len(records)), choices.below(len(records))
    records[a], records[b] = records[b], records[a]
    return b"".join(records)


CHANGES: list[Callable[[bytes, Choices], bytes]] = [_flip, _cut, _insert, _replace, _double, _drop, _swap]


def _flights(choices: Choices) -> None:
    """Two honest ends, and somebody between them."""
    ends: dict[Side, Engine] = {"client": _engine("client", knows=True), "server": _engine("server", knows=False)}
    heard: dict[Side, list[Event]] = {"client": [], "server": []}
    side: Side = "client"
    for _ in range(ROUNDS_MAX):
        flight, way = _said(ends[side]), choices.number(1)
        if flight and way % 2:
            flight = CHANGES[way // 2 % len(CHANGES)](flight, choices)
        side = other(side)
        heard[side] += ends[side].receive(flight)
    for side, engine in ends.items():
        heard[side] += engine.receive_eof()
        _check(engine, heard[side])


# -- a peer that has shaken hands ----------------------------------------------------------------------------------------


def _words(side: Side, choices: Choices, *, greets: bool) -> None:
    """`side` is ours. Its peer has a key, shakes hands as it should, and then says what it likes, with or without its Hello first."""
    engine, layer = _engine(side, knows=False), TlsLayer(other(side), KEYS[other(side)])
    if layer._role == "client":
        layer.start()
    events: list[Event] = []
    for _ in range(2):
        events += engine.receive(b"".join(layer.pull()))
        layer.receive(_said(engine))
    assert layer.ready
    if greets:
        layer.write(frames_of(Channel.CONTROL, encode(make_hello(LOCAL, other(side), KEYS[other(side)], layer.exporter))))
    piece, stream = 1 + choices.number(2), choices.rest()
    for at in range(0, len(stream), max(piece, len(stream) // 200)):
        layer.write(stream[at : at + max(piece, len(stream) // 200)])
    events += engine.receive(b"".join(layer.pull()))
    events += engine.receive_eof()
    _check(engine, events)
    assert engine.is_closed
    assert (engine.peer is not None) == any(isinstance(event, Established) for event in events)
    assert not greets or engine.peer is not None
    try:
        layer.receive(_said(engine))
    except QuStreamError:
        raise AssertionError("what we say last is no TLS") from None


def run(data: bytes) -> None:
    choices = Choices(data)
    what = choices.number(1)
    side: Side = "client" if what & 4 else "server"
    kind = what % 4
    if kind == FLIGHTS:
        _flights(choices)
    elif kind == BYTES:
        _bytes(side, choices)
    else:
        _words(side, choices, greets=kind == GREETED_WORDS)


def seeds() -> list[bytes]:
    pieces = (300).to_bytes(2, "big")
    frames = vectors("frames")
    streams = [bytes.fromhex(case["frame"]) for case in (*frames["control"], *frames["rpc"])]
    streams += [bytes.fromhex(case["bytes"]) for case in frames["refused"]]
    found = [bytes([kind + end]) + pieces + stream for stream in streams for kind in (WORDS, GREETED_WORDS) for end in (0, 4)]
    hello = _said(_engine("client", knows=False))
    answer = _engine("server", knows=False)
    answer.receive(hello)
    found += [bytes([BYTES]) + pieces + hello, bytes([BYTES + 4]) + pieces + _said(answer)]
    found += [bytes([FLIGHTS]) + bytes([0] * before + [1 + 2 * change]) + bytes(range(7, 40)) for before in range(4) for change in range(7)]
    return found
