"""Messages in parts through two real engines: not copied where the layer needs no copy, given back once however the connection ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.engine import Channel, Engine, LocalHello, LocalMisuse, PlainEngine, Received
from qustream.transport.frames import frames_of
from qustream.transport.limits import ALL_CHANNELS, CHANNEL_LIMITS
from qustream.wire.codec import encode
from qustream.wire.hello import Goodbye, Role

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
HELLO = LocalHello("test", (Role.NODE,))
LARGE = CHANNEL_LIMITS[Channel.BULK].message_max_bytes
AnyEngine = Engine | PlainEngine
Pair = tuple[AnyEngine, AnyEngine]


class Lender:
    """Lends a buffer, and counts how often it came back; a buffer somebody still looks into could not be cleared."""

    def __init__(self, size: int = LARGE) -> None:
        self.memory = bytearray(size)
        self.returns = 0

    def __call__(self) -> None:
        self.memory.clear()
        self.returns += 1

    def lend(self, engine: AnyEngine, channel: Channel = Channel.BULK) -> bool:
        return engine.send_parts(channel, [memoryview(self.memory)], self)


def tls() -> Pair:
    return Engine("client", key=ALICE, hello=HELLO, expect=BOB.id), Engine(
        "server", key=BOB, hello=HELLO, permit=lambda _peer: ALL_CHANNELS
    )


def plain() -> Pair:
    return PlainEngine("client", hello=HELLO), PlainEngine("server", hello=HELLO)


def opened(make: Callable[[], Pair]) -> Pair:
    alice, bob = make()
    alice.start()
    bob.start()
    while there := (alice.data_to_send(), bob.data_to_send()):
        if not any(there):
            return alice, bob
        bob.receive(there[0])
        alice.receive(there[1])
    raise AssertionError


both = pytest.mark.parametrize("make", [tls, plain])


@both
def test_parts_arrive_as_one_message(make: Callable[[], Pair]) -> None:
    alice, bob = opened(make)
    lender = Lender()
    body = b"head" + bytes(lender.memory[4:])
    assert alice.send_parts(Channel.BULK, [b"head", memoryview(lender.memory)[4:]], lender)
    events = []
    while data := alice.data_to_send():
        events += bob.receive(data)
    assert events == [Received(Channel.BULK, body)]
    assert lender.returns == 1


def test_without_tls_a_buffer_is_lent_until_its_bytes_are_gone() -> None:
    alice, _ = opened(plain)
    lender = Lender(300)
    assert lender.lend(alice)
    parts = alice.parts_to_send()
    assert not lender.returns
    lender.memory[:] = b"y" * 300
    assert b"".join(parts) == frames_of(Channel.BULK, b"y" * 300)
    parts.clear()
    assert alice.parts_to_send() == []
    assert lender.returns == 1


def test_under_tls_a_buffer_comes_back_as_soon_as_it_is_encrypted() -> None:
    alice, _ = opened(tls)
    lender = Lender(300)
    assert lender.lend(alice)
    assert alice.parts_to_send()
    assert lender.returns == 1


ENDINGS: dict[str, Callable[[AnyEngine], object]] = {
    "our close with a code": lambda engine: engine.close("E-PEER-LIMIT"),
    "the peer's goodbye": lambda engine: engine._take_control(encode(Goodbye("", "")), []),
    "the peer's fault": lambda engine: engine._fail(QuStreamError("E-FRAME-ORDER", "x")),
    "the end of the stream": lambda engine: engine.receive_eof(),
    "the end of the socket": lambda engine: engine.abandon(),
}


@both
@pytest.mark.parametrize("end", ENDINGS.values(), ids=list(ENDINGS))
@pytest.mark.parametrize("begun", [False, True])
def test_buffers_come_back_once_however_it_ends(make: Callable[[], Pair], end: Callable[[AnyEngine], object], begun: bool) -> None:
    alice, _ = opened(make)
    lenders = [Lender(), Lender()]
    for lender in lenders:
        assert lender.lend(alice)
    parts = alice.parts_to_send() if begun else []
    if end is ENDINGS["the end of the socket"]:
        parts.clear()  # whoever abandons refers to nothing any more
    end(alice)
    if begun and make is plain and parts:
        assert [lender.returns for lender in lenders] == [0, 0]
    else:
        assert [lender.returns for lender in lenders] == [1, 1]
    parts.clear()
    while alice.data_to_send():
        pass
    alice.abandon()
    alice.abandon()
    assert [lender.returns for lender in lenders] == [1, 1]


@both
def test_an_orderly_close_sends_what_is_queued_first(make: Callable[[], Pair]) -> None:
    alice, bob = opened(make)
    lender = Lender()
    assert lender.lend(alice)
    alice.close()
    assert not lender.returns
    events = []
    while data := alice.data_to_send():
        events += bob.receive(data)
    assert [event for event in events if isinstance(event, Received)] == [Received(Channel.BULK, bytes(LARGE))]
    assert lender.returns == 1


@both
def test_what_is_not_queued_is_not_given_back(make: Callable[[], Pair]) -> None:
    alice, _ = opened(make)
    queued = [Lender(), Lender()]
    for lender in queued:
        assert lender.lend(alice)
    refused = Lender(1)
    assert not Lender(LARGE).lend(alice)
    alice.abandon()
    with pytest.raises(QuStreamError, match="closed"):
        refused.lend(alice)
    assert refused.returns == 0
    assert alice.parts_to_send() == []


@both
def test_misuse_is_a_bug_of_ours(make: Callable[[], Pair]) -> None:
    alice, _ = make()
    with pytest.raises(LocalMisuse, match="before"):
        Lender(1).lend(alice)
    alice, _ = opened(make)
    wide = memoryview(bytearray(8)).cast("I")
    for parts in ([wide], [memoryview(bytes(8))[::2]], [b""], [], [bytes(LARGE), b"x"]):
        with pytest.raises(LocalMisuse):
            alice.send_parts(Channel.BULK, parts, lambda: None)
    with pytest.raises(LocalMisuse):
        Lender(1).lend(alice, Channel.CONTROL)
