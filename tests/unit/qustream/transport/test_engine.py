"""Two real engines over a fake link: greeted, used, closed, and every way a peer can break the rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.engine import (
    NEXT,
    Channel,
    Closed,
    Engine,
    Established,
    Event,
    LocalHello,
    LocalMisuse,
    PlainEngine,
    Received,
    State,
)
from qustream.transport.frames import frames_of
from qustream.transport.greeting import make_hello
from qustream.transport.limits import (
    ALL_CHANNELS,
    CHANNEL_LIMITS,
    COALESCE_BYTES,
    PIECE_BYTES,
    READ_BYTES,
    UNLICENSED_MESSAGE_MAX_BYTES,
)
from qustream.wire.codec import Message, encode
from qustream.wire.hello import Goodbye, Hello, Ping, Pong, Role

ALICE, BOB, CAROL = SigningKey(b"a" * 32), SigningKey(b"b" * 32), SigningKey(b"c" * 32)
HELLO = LocalHello("test", (Role.NODE,))
AnyEngine = Engine | PlainEngine


class Link:
    """The wire between alice (who dialled) and bob (who listens); keeps what came out of each."""

    def __init__(self, alice: AnyEngine, bob: AnyEngine) -> None:
        self.alice, self.bob = alice, bob
        self.at_alice: list[Event] = []
        self.at_bob: list[Event] = []

    def run(self, step: int = READ_BYTES) -> Link:
        """Carry bytes both ways, `step` at a time, until neither has any."""
        while True:
            there, back = self.alice.data_to_send(), self.bob.data_to_send()
            if not there and not back:
                return self
            for at in range(0, len(there), step):
                self.at_bob += self.bob.receive(there[at : at + step])
            for at in range(0, len(back), step):
                self.at_alice += self.alice.receive(back[at : at + step])


def tls(expect: bytes | None = BOB.id, bob: SigningKey = BOB, bobs_hello: LocalHello = HELLO) -> Link:
    alice = Engine("client", key=ALICE, hello=HELLO, expect=expect)
    return Link(alice, Engine("server", key=bob, hello=bobs_hello, permit=lambda _peer: ALL_CHANNELS))


def plain() -> Link:
    return Link(PlainEngine("client", hello=HELLO), PlainEngine("server", hello=HELLO))


def started(link: Link) -> Link:
    link.alice.start()
    link.bob.start()
    return link


def opened(link: Link, step: int = READ_BYTES) -> Link:
    started(link).run(step)
    assert isinstance(link.at_alice[0], Established)
    assert isinstance(link.at_bob[0], Established)
    link.at_alice.clear()
    link.at_bob.clear()
    return link


def secured_without_hello(link: Link) -> Link:
    """Carry the handshake to its end at alice, whose Hello never leaves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link.alice._layer, "write", lambda _plaintext: None)
        started(link)
        while link.alice.state is State.HANDSHAKE:
            link.at_bob += link.bob.receive(link.alice.data_to_send())
            link.at_alice += link.alice.receive(link.bob.data_to_send())
    return link


def inject(engine: AnyEngine, plaintext: bytes) -> None:
    """Make `engine` protect and send bytes that its own rules would never let out."""
    engine._layer.write(plaintext)


def control(message: Message) -> bytes:
    return frames_of(Channel.CONTROL, encode(message))


def closed_code(events: list[Event]) -> str:
    last = events[-1]
    assert isinstance(last, Closed)
    assert last.error is not None
    return last.error.code


both = pytest.mark.parametrize("make", [tls, plain])


# -- the ordinary life ------------------------------------------------------------------------------------------------


def test_both_ends_learn_who_the_other_is() -> None:
    link = started(tls()).run()
    alice_sees, bob_sees = link.at_alice[0], link.at_bob[0]
    assert isinstance(alice_sees, Established)
    assert isinstance(bob_sees, Established)
    assert (alice_sees.peer.id, bob_sees.peer.id) == (BOB.id, ALICE.id)
    assert (alice_sees.peer.key, bob_sees.peer.key) == (BOB.public, ALICE.public)
    assert alice_sees.peer.exporter == bob_sees.peer.exporter
    assert len(alice_sees.peer.exporter) == 32
    assert (link.alice.state, link.bob.state) == (State.OPEN, State.OPEN)


def test_every_channel_of_contact_has_its_own_exporter() -> None:
    first, second = opened(tls()), opened(tls())
    assert first.alice.peer is not None
    assert second.alice.peer is not None
    assert first.alice.peer.exporter != second.alice.peer.exporter


def test_a_unix_peer_has_no_id() -> None:
    link = opened(plain())
    assert link.alice.peer is not None
    assert (link.alice.peer.id, link.alice.peer.key, link.alice.peer.exporter) == (b"", None, b"")


@both
@pytest.mark.parametrize("step", [1, 1000])
def test_any_cutting_of_the_stream_will_do(make: Callable[[], Link], step: int) -> None:
    link = opened(make(), step)
    body = bytes(range(256)) * 300
    assert link.alice.send(Channel.BULK, body)
    assert link.bob.send(Channel.REQUEST, b"ask")
    link.run(step)
    assert link.at_bob == [Received(Channel.BULK, body)]
    assert link.at_alice == [Received(Channel.REQUEST, b"ask")]


@both
def test_urgent_messages_overtake(make: Callable[[], Link]) -> None:
    link = opened(make())
    blocks = [bytes([n]) * CHANNEL_LIMITS[Channel.BULK].message_max_bytes for n in range(2)]
    for block in blocks:
        assert link.alice.send(Channel.BULK, block)
    link.at_bob += link.bob.receive(link.alice.data_to_send())
    assert link.alice.send(Channel.CONSENSUS, b"vote")
    link.run()
    assert link.at_bob == [Received(Channel.CONSENSUS, b"vote"), *(Received(Channel.BULK, block) for block in blocks)]


@both
def test_one_helping_is_bounded(make: Callable[[], Link]) -> None:
    link = opened(make())
    for _ in range(2):
        link.alice.send(Channel.BULK, bytes(CHANNEL_LIMITS[Channel.BULK].message_max_bytes))
    assert COALESCE_BYTES <= len(link.alice.data_to_send()) <= COALESCE_BYTES + PIECE_BYTES + 1024


@both
def test_a_goodbye_lets_what_is_queued_go_first(make: Callable[[], Link]) -> None:
    link = opened(make())
    link.alice.send(Channel.BULK, bytes(CHANNEL_LIMITS[Channel.BULK].message_max_bytes))
    link.alice.close()
    link.alice.close()
    link.run()
    assert [type(event) for event in link.at_bob] == [Received, Closed]
    assert link.at_bob[-1] == Closed(None)
    assert link.at_alice == []
    assert link.alice.data_to_send() == b""


@both
def test_a_goodbye_with_a_code_does_not_wait(make: Callable[[], Link]) -> None:
    link = opened(make())
    link.alice.send(Channel.BULK, bytes(600_000))
    link.alice.close("E-PEER-LIMIT", "too many")
    link.run()
    assert len(link.at_bob) == 1
    assert closed_code(link.at_bob) == "E-PEER-LIMIT"
    assert "too many" in str(link.at_bob[0])


def test_a_goodbye_cannot_make_our_operator_act() -> None:
    for code in ("E-DISK-FULL", "E-NO-SUCH", "\x1b[2J"):
        link = opened(tls())
        inject(link.alice, control(Goodbye(code, "x")))
        assert closed_code(link.run().at_bob) == "E-PEER-CLOSED"
    link = opened(tls())
    inject(link.alice, control(Goodbye("E-PEER-LIMIT", "red \x1b[31m")))
    assert "\x1b" not in str(link.run().at_bob[-1])


@both
def test_ping_is_answered_by_the_engine(make: Callable[[], Link]) -> None:
    link = opened(make())
    heard = link.alice.heard
    link.alice.ping(7)
    link.run()
    assert link.alice.heard == heard + 1
    assert link.at_alice == link.at_bob == []


@both
def test_the_end_of_the_stream_is_no_goodbye(make: Callable[[], Link]) -> None:
    link = opened(make())
    assert closed_code(link.alice.receive_eof()) == "E-PEER-CLOSED"
    assert link.alice.receive_eof() == []
    assert link.alice.receive(b"more") == []


def test_a_tls_close_without_goodbye_is_no_goodbye() -> None:
    link = opened(tls())
    link.alice._layer.shutdown()
    assert closed_code(link.bob.receive(b"".join(link.alice._layer.pull()))) == "E-PEER-CLOSED"


# -- our own mistakes -------------------------------------------------------------------------------------------------


@both
def test_our_own_mistakes_raise(make: Callable[[], Link]) -> None:
    link = make()
    with pytest.raises(LocalMisuse):
        link.alice.receive(b"x")
    with pytest.raises(LocalMisuse):
        link.alice.send(Channel.BULK, b"x")
    opened(link)
    for channel, body in ((Channel.BULK, b""), (Channel.CONSENSUS, bytes(64 * 1024 + 1)), (Channel.CONTROL, b"x")):
        with pytest.raises(LocalMisuse):
            link.alice.send(channel, body)
    with pytest.raises(LocalMisuse):
        link.alice.start()
    link.alice.close()
    with pytest.raises(QuStreamError) as caught:
        link.alice.send(Channel.BULK, b"x")
    assert caught.value.code == "E-PEER-CLOSED"


def test_every_state_can_be_left_and_closed_is_the_end() -> None:
    states = {state for state, _ in NEXT}
    assert states == set(State) - {State.CLOSED}
    assert all((state, "closed") in NEXT for state in states)


@both
def test_full_queues(make: Callable[[], Link]) -> None:
    link = opened(make())
    for channel in (Channel.REQUEST, Channel.BULK, Channel.GOSSIP):
        while link.alice.has_room(channel, 1):
            assert link.alice.send(channel, b"x")
        assert not link.alice.send(channel, b"x")
    assert link.alice.dropped == 1
    assert link.alice.state is State.OPEN
    while link.alice.has_room(Channel.CONSENSUS, 1):
        assert link.alice.send(Channel.CONSENSUS, b"x")
    assert not link.alice.send(Channel.CONSENSUS, b"x")
    assert link.alice.is_closed
    assert closed_code(link.run().at_bob) == "E-PEER-LIMIT"


# -- who may speak ----------------------------------------------------------------------------------------------------


def test_another_identity_than_the_expected_is_refused_before_the_hello() -> None:
    link = started(tls(expect=CAROL.id)).run()
    assert closed_code(link.at_alice) == "E-PEER-IDENTITY"
    assert closed_code(link.at_bob) == "E-PEER-IDENTITY"
    assert not any(isinstance(event, Established) for event in link.at_bob)


def test_another_network_is_refused_by_both() -> None:
    link = started(tls(bobs_hello=LocalHello("other", ()))).run()
    assert closed_code(link.at_alice) == "E-PEER-CHAIN"
    assert closed_code(link.at_bob) == "E-PEER-CHAIN"


@pytest.mark.parametrize("channel", [Channel.CONSENSUS, Channel.GOSSIP, Channel.BULK])
def test_a_stranger_gets_the_request_channel_alone(channel: Channel) -> None:
    alice = Engine("client", key=ALICE, hello=HELLO, expect=BOB.id)
    link = opened(Link(alice, Engine("server", key=BOB, hello=HELLO)))
    assert not link.bob.is_licensed
    link.alice.send(Channel.REQUEST, b"may I")
    assert link.run().at_bob == [Received(Channel.REQUEST, b"may I")]
    link.alice.send(channel, b"x")
    link.run()
    assert closed_code(link.at_bob) == "E-PEER-UNLICENSED"
    assert closed_code(link.at_alice) == "E-PEER-UNLICENSED"


def test_a_stranger_is_held_to_small_requests_and_may_get_long_answers() -> None:
    alice = Engine("client", key=ALICE, hello=HELLO)
    link = opened(Link(alice, Engine("server", key=BOB, hello=HELLO)))
    link.alice.send(Channel.REQUEST, bytes(UNLICENSED_MESSAGE_MAX_BYTES))
    link.bob.send(Channel.REQUEST, bytes(300_000))
    link.run()
    assert len(link.at_bob) == len(link.at_alice) == 1
    link.alice.send(Channel.REQUEST, bytes(UNLICENSED_MESSAGE_MAX_BYTES + 1))
    assert closed_code(link.run().at_bob) == "E-WIRE-OVERSIZE"


def test_a_licence_can_come_later() -> None:
    link = opened(Link(Engine("client", key=ALICE, hello=HELLO, expect=BOB.id), Engine("server", key=BOB, hello=HELLO)))
    link.bob.permit({Channel.BULK})
    assert link.bob.is_licensed
    link.alice.send(Channel.BULK, bytes(500_000))
    assert len(link.run().at_bob) == 1
    link.alice.send(Channel.REQUEST, b"not among them")
    assert closed_code(link.run().at_bob) == "E-PEER-UNLICENSED"


def test_who_was_named_may_use_every_channel_and_who_was_not_may_not() -> None:
    for expect, code in ((BOB.id, ""), (None, "E-PEER-UNLICENSED")):
        link = opened(tls(expect=expect))
        link.bob.send(Channel.GOSSIP, b"news")
        link.run()
        assert isinstance(link.at_alice[0], Closed if code else Received)
        assert not code or closed_code(link.at_alice) == code


# -- frames where they may not stand ----------------------------------------------------------------------------------

OTHER_HELLO = Hello(1, 1, "test", (), (), 0, bytes(64))


@both
@pytest.mark.parametrize(
    ("plaintext", "code"),
    [
        (b"\0\0\0\0\x04", "E-WIRE-MALFORMED"),
        (b"\0\0\0\1\x05x", "E-WIRE-MALFORMED"),
        (b"\xff\xff\xff\xff\x04", "E-WIRE-OVERSIZE"),
        (b"\0\0\x40\1\x00", "E-WIRE-OVERSIZE"),
        (frames_of(Channel.CONTROL, b"\xc1"), "E-WIRE-MALFORMED"),
        (frames_of(Channel.CONTROL, b"\x92\x02\xcc\x07"), "E-WIRE-NONCANONICAL"),
        (frames_of(Channel.CONTROL, b"\x92\x63\x07"), "E-WIRE-MALFORMED"),
        (frames_of(Channel.CONTROL, b"\x91" * 16000), "E-WIRE-MALFORMED"),
        (control(OTHER_HELLO), "E-FRAME-ORDER"),
    ],
)
def test_bad_frames_close_with_their_code_and_tell_the_peer(make: Callable[[], Link], plaintext: bytes, code: str) -> None:
    link = opened(make())
    inject(link.alice, plaintext)
    link.run()
    assert closed_code(link.at_bob) == code
    assert closed_code(link.at_alice) == code


@both
@pytest.mark.parametrize(
    "early",
    [frames_of(Channel.REQUEST, b"x"), frames_of(Channel.BULK, b"x"), control(Ping(1)), control(Pong(1)), b"\0\1\0\0\x84"],
)
def test_nothing_but_a_hello_may_come_first(make: Callable[[], Link], early: bytes) -> None:
    link = secured_without_hello(make())
    inject(link.alice, early)
    link.run()
    assert closed_code(link.at_bob) == "E-FRAME-ORDER"
    assert not any(isinstance(event, Established) for event in link.at_bob)


def test_a_hello_replayed_from_another_channel_proves_nothing() -> None:
    first, second = opened(tls()), secured_without_hello(tls())
    assert first.bob.peer is not None
    inject(second.alice, control(first.bob.peer.hello))
    assert closed_code(second.run().at_bob) == "E-SIGNATURE"


def test_a_reflected_hello_proves_nothing() -> None:
    """What bob says of himself, said back to bob by somebody with bob's key in the other role."""
    link = secured_without_hello(Link(Engine("client", key=BOB, hello=HELLO), Engine("server", key=BOB, hello=HELLO)))
    inject(link.alice, control(make_hello(HELLO, "server", BOB, link.alice._layer.exporter)))
    assert closed_code(link.run().at_bob) == "E-SIGNATURE"


def test_a_peer_that_makes_us_answer_and_does_not_read_is_closed() -> None:
    link = opened(tls())
    inject(link.alice, control(Ping(1)) * 1000)
    assert closed_code(link.bob.receive(link.alice.data_to_send())) == "E-PEER-LIMIT"
    assert closed_code(link.run().at_alice) == "E-PEER-LIMIT"


# -- bytes altered on the way -----------------------------------------------------------------------------------------


def records(data: bytes) -> list[bytes]:
    """Cut a TLS stream into its records."""
    found = []
    while data:
        size = 5 + int.from_bytes(data[3:5], "big")
        found.append(data[:size])
        data = data[size:]
    return found


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "mangle",
    [
        pytest.param(lambda one, two: two + one, id="reordered"),
        pytest.param(lambda one, two: one + one + two, id="replayed"),
        pytest.param(lambda one, two: two, id="dropped"),
        pytest.param(lambda one, two: flip(one) + two, id="flipped"),
        pytest.param(lambda one, two: b"\x17\x03\x03\xff\xff" + one + two, id="oversized record"),
        pytest.param(lambda one, two: b"GET / HTTP/1.1\r\n\r\n", id="plain text"),
    ],
)
def test_altered_records_end_the_connection(mangle: Callable[[bytes, bytes], bytes]) -> None:
    link = opened(tls())
    link.alice.send(Channel.REQUEST, b"one")
    one = link.alice.data_to_send()
    link.alice.send(Channel.REQUEST, b"two")
    two = link.alice.data_to_send()
    assert len(records(one)) == len(records(two)) == 1
    events = link.bob.receive(mangle(one, two))
    assert closed_code(events) == "E-TLS-RECORD"
    assert Received(Channel.REQUEST, b"two") not in events


def test_a_truncated_record_is_waited_for_and_then_missed() -> None:
    link = opened(tls())
    link.alice.send(Channel.REQUEST, b"one")
    assert link.bob.receive(link.alice.data_to_send()[:-1]) == []
    assert closed_code(link.bob.receive_eof()) == "E-PEER-CLOSED"


def test_an_altered_handshake_fails() -> None:
    """A byte changed anywhere in either first flight never leads to an open connection."""
    for at in range(10, 1300, 97):
        link = started(tls())
        first = bytearray(link.alice.data_to_send())
        first[at % len(first)] ^= 0x55
        link.at_bob += link.bob.receive(first)
        link.run()
        assert not any(isinstance(event, Established) for event in link.at_bob + link.at_alice)
    for at in range(10, 9000, 997):
        link = started(tls())
        link.bob.receive(link.alice.data_to_send())
        second = bytearray(link.bob.data_to_send())
        second[at] ^= 0x55
        link.at_alice += link.alice.receive(second)
        link.run()
        assert not any(isinstance(event, Established) for event in link.at_bob + link.at_alice)


def test_an_endless_handshake_is_refused() -> None:
    """A ClientHello that promises 16 MiB in records of 16 KiB, each well-formed."""
    link = started(tls())
    flood = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(16380)
    events: list[Event] = []
    for _ in range(10):
        events += link.bob.receive(flood)
    assert closed_code(events) in ("E-WIRE-OVERSIZE", "E-TLS-HANDSHAKE")
    assert link.bob.is_closed


def test_a_connection_whose_keys_are_worn_ends_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    link = opened(tls())
    monkeypatch.setattr("qustream.transport.tls.RECORDS_MAX", link.alice._layer._records + 2)
    for number in range(2):
        assert link.alice.send(Channel.BULK, bytes([number]))
        link.run()
    assert link.alice.has_room(Channel.BULK, 1)
    with pytest.raises(QuStreamError, match="connect again") as caught:
        link.alice.send(Channel.BULK, b"one too many")
    assert caught.value.code == "E-PEER-CLOSED"
    assert link.run().at_bob == [Received(Channel.BULK, b"\0"), Received(Channel.BULK, b"\1"), Closed(None)]


def test_reprs_show_the_state_and_no_secret() -> None:
    link = opened(tls())
    text = repr(link.alice)
    assert "client open" in text
    assert BOB.id.hex()[:12] in text
    assert ALICE.seed.hex() not in text
