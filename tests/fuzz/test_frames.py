"""Hypothesis against everything in the transport that reads a stranger's bytes: never anything but a coded error, never more memory
than the limits allow, and the same meaning however the stream is cut."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.errors import PeerFault, QuStreamError, Unavailable
from qustream.identity.signing import SigningKey
from qustream.model.entropy import UNIT_BYTES, LeafProof
from qustream.transport.address import parse_address
from qustream.transport.calls import read_rpc
from qustream.transport.certificate import make_certificate, read_certificate
from qustream.transport.engine import Closed, Engine, Established, Event, LocalHello, PlainEngine, Received, State
from qustream.transport.frames import FrameReader, SendQueues, frames_of
from qustream.transport.limits import CHANNEL_LIMITS, PIECE_BYTES, Channel
from qustream.wire.codec import decode, encode
from qustream.wire.feed import FEED_MAX_BYTES, FeedMessage, FeedUnit, ReceivedUnit, decode_feed
from qustream.wire.hello import Goodbye, Hello, Ping, Pong, Role
from qustream.wire.rpc import Refusal, Request, Response

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
HELLO = LocalHello("test", (Role.NODE,))
CERTIFICATE = make_certificate(KEY).public_bytes(Encoding.DER)
_In = TypeVar("_In")
_Out = TypeVar("_Out")
# No deadline: the first example pays for imports and keys, and the machine is shared.
quick = settings(deadline=None, max_examples=200)

channels = st.sampled_from(list(Channel))
sizes = st.one_of(st.integers(1, 300), st.sampled_from([PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 9]))
tags = st.one_of(st.sampled_from([channel | more for channel in Channel for more in (0, 0x80)]), st.integers(0, 255))
lengths = st.one_of(st.integers(0, 40), st.sampled_from([PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 0xFFFFFFFF]))
loose_frames = st.builds(lambda size, tag, body: size.to_bytes(4, "big") + bytes([tag]) + body, lengths, tags, st.binary(max_size=60))
streams = st.lists(st.one_of(loose_frames, st.builds(frames_of, channels, st.binary(min_size=1, max_size=60))), max_size=8).map(b"".join)
steps = st.sampled_from([1, 2, 3, 5, 17, 4095, 4096, 4097, 1 << 20])


def attempt(function: Callable[[_In], _Out], argument: _In) -> tuple[_Out | None, str]:
    """What `function` makes of `argument`, or the code of its refusal."""
    try:
        return function(argument), ""
    except QuStreamError as error:
        return None, error.code


def read_all(data: bytes, step: int) -> tuple[list[tuple[Channel, bytes]], str]:
    """The messages in `data`, and the code of the error that ended it."""
    reader, found = FrameReader(lambda _channel: None), list[tuple[Channel, bytes]]()
    try:
        for at in range(0, len(data), step):
            for message in reader.feed(data[at : at + step]):
                found.append(message)
            assert reader.held_bytes <= sum(limits.message_max_bytes for limits in CHANNEL_LIMITS.values())
    except PeerFault as error:
        return found, error.code
    return found, ""


@quick
@given(streams, steps)
def test_a_stream_means_the_same_however_it_is_cut(data: bytes, step: int) -> None:
    whole = read_all(data, max(1, len(data)))
    assert read_all(data, step) == whole
    assert whole[1] in ("", "E-WIRE-MALFORMED", "E-WIRE-OVERSIZE")
    for channel, body in whole[0]:
        assert 0 < len(body) <= CHANNEL_LIMITS[channel].message_max_bytes


@quick
@given(st.lists(st.tuples(channels, sizes, st.integers(0, 255)), max_size=12), st.integers(1, 300_000), steps)
def test_what_is_queued_arrives_in_the_order_of_its_channel(messages: list[tuple[Channel, int, int]], budget: int, step: int) -> None:
    queues, sent = SendQueues(), list[tuple[Channel, bytes]]()
    data = b""
    for channel, size, fill in messages:
        body = bytes([fill]) * min(size, CHANNEL_LIMITS[channel].message_max_bytes)
        if queues.has_room(channel, len(body)):
            queues.put(channel, body)
            sent.append((channel, body))
        if fill % 3 == 0:
            data += b"".join(queues.take(budget))
    while queues:
        data += b"".join(queues.take(budget))
    got, code = read_all(data, max(step, 100))
    assert not code
    for channel in Channel:
        assert [body for c, body in got if c is channel] == [body for c, body in sent if c is channel]


texts = st.text(max_size=64)
numbers = st.integers(0, 0xFFFFFFFF)
control_messages = st.one_of(
    st.builds(Ping, numbers),
    st.builds(Pong, numbers),
    st.builds(Goodbye, texts, texts),
    st.builds(Goodbye, st.sampled_from(["", "E-PEER-LIMIT", "E-DISK-FULL"]), texts),
    st.builds(
        Hello,
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from(["test", "other"]),
        st.just(()),
        st.just(()),
        numbers,
        st.just(bytes(64)),
    ),
).map(lambda message: frames_of(Channel.CONTROL, encode(message)))
rpc_messages = st.one_of(
    st.builds(Request, numbers, numbers, st.binary(max_size=40)),
    st.builds(Response, numbers, st.binary(max_size=40)),
    st.builds(Refusal, numbers, texts, texts, numbers),
).map(lambda message: frames_of(Channel.REQUEST, encode(message)))
conversations = st.lists(st.one_of(control_messages, rpc_messages, loose_frames), max_size=10).map(b"".join)


@quick
@given(conversations, steps, st.sampled_from(["client", "server"]))
def test_an_engine_takes_any_conversation_calmly(data: bytes, step: int, role: str) -> None:
    engine = PlainEngine("client" if role == "client" else "server", hello=HELLO)
    engine.start()
    events: list[Event] = []
    for at in range(0, len(data), step):
        events += engine.receive(data[at : at + step])
        engine.data_to_send()
    events += engine.receive_eof()
    assert engine.state is State.CLOSED
    assert [type(event) for event in events].count(Closed) == 1
    assert isinstance(events[-1], Closed)
    assert isinstance(events[-1].error, PeerFault | Unavailable | None)
    greeted = [at for at, event in enumerate(events) if isinstance(event, Established)]
    assert len(greeted) <= 1
    assert all(greeted and at > greeted[0] for at, event in enumerate(events) if isinstance(event, Received))


def shaken() -> tuple[Engine, Engine, list[bytes], list[bytes]]:
    """Two engines at the start, and what each would have sent to the other in an undisturbed handshake."""
    alice, bob = Engine("client", key=KEY, hello=HELLO), Engine("server", key=OTHER, hello=HELLO)
    alice.start()
    bob.start()
    there, back = [alice.data_to_send()], list[bytes]()
    bob.receive(there[0])
    back.append(bob.data_to_send())
    alice.receive(back[0])
    there.append(alice.data_to_send())
    return alice, bob, there, back


mutations = st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 255)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=40)
@given(mutations, st.sampled_from(["first", "second", "third"]), st.booleans())
def test_a_handshake_with_altered_bytes_never_opens_for_whoever_got_them(changes: list[tuple[int, int]], flight: str, cut: bool) -> None:
    alice, bob, there, back = shaken()
    if flight == "first":
        victim, data = Engine("server", key=OTHER, hello=HELLO), there[0]
        victim.start()
    elif flight == "second":
        victim, data = Engine("client", key=KEY, hello=HELLO), back[0]
        victim.start()
        victim.data_to_send()
    else:
        victim, data = bob, there[1]
    altered = bytearray(data)
    for at, change in changes:
        altered[at % len(data)] ^= change
    if cut:
        del altered[changes[0][0] % len(altered) :]
    if altered == data:
        return
    events = victim.receive(bytes(altered)) + victim.receive_eof()
    victim.data_to_send()
    assert isinstance(events[-1], Closed)
    assert isinstance(events[-1].error, PeerFault | Unavailable)
    # Only the last flight can open the connection before its altered end is seen, and then nothing has passed.
    assert not any(isinstance(event, Received) for event in events)
    assert alice.state is State.GREETING


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=400), st.sampled_from(["client", "server"]))
def test_noise_instead_of_tls_is_a_coded_error(data: bytes, role: str) -> None:
    engine = Engine("client" if role == "client" else "server", key=KEY, hello=HELLO)
    engine.start()
    events = engine.receive(data) + engine.receive_eof()
    assert len(events) == 1
    assert isinstance(events[0], Closed)
    assert events[0].error is not None
    assert events[0].error.code in ("E-TLS-HANDSHAKE", "E-PEER-CLOSED", "E-TLS-GROUP", "E-TLS-CERTIFICATE")


@quick
@given(mutations, st.integers(-3, 3))
def test_an_altered_certificate_is_refused(changes: list[tuple[int, int]], more: int) -> None:
    altered = bytearray(CERTIFICATE)
    for at, change in changes:
        altered[at % len(altered)] ^= change
    altered = altered + bytes(more) if more > 0 else altered[: len(altered) + more]
    if altered == CERTIFICATE:
        return
    assert attempt(read_certificate, bytes(altered)) == (None, "E-TLS-CERTIFICATE")


@quick
@given(st.one_of(st.binary(max_size=200), rpc_messages.map(lambda frames: frames[5:])))
def test_requests_decode_to_themselves_or_not_at_all(data: bytes) -> None:
    message, code = attempt(read_rpc, data)
    assert code.startswith("E-WIRE-") if message is None else encode(message) == data


@quick
@given(st.one_of(st.text(max_size=40), st.from_regex(r"\[?[0-9a-f:.]{0,20}\]?:[0-9]{0,6}", fullmatch=True)))
def test_addresses_read_to_themselves_or_not_at_all(text: str) -> None:
    address, code = attempt(parse_address, text)
    assert code == "E-PEER-UNREACHABLE" if address is None else parse_address(str(address)) == address


UNIT = bytes(UNIT_BYTES)
GOOD_UNIT = encode(FeedUnit(bytes(32), LeafProof(1 << 40, 70, (bytes(32),) * 8), UNIT))
HEAD = GOOD_UNIT[:-UNIT_BYTES]
splices = st.lists(st.tuples(st.integers(0, len(HEAD)), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=3)


@settings(deadline=None, max_examples=150)
@given(splices, st.integers(-2, 2))
def test_a_unit_decodes_where_it_lies_exactly_if_it_decodes_at_all(changes: list[tuple[int, int, bytes]], more: int) -> None:
    head = HEAD
    for at, gone, new in changes:
        head = head[:at] + new + head[at + gone :]
    body = head + UNIT + bytes(more) if more > 0 else head + UNIT[: len(UNIT) + more]
    in_place, code = attempt(decode_feed, body)
    whole, wanted = attempt(lambda data: decode(data, FeedMessage, max_bytes=FEED_MAX_BYTES), body)
    assert code == wanted
    if isinstance(in_place, ReceivedUnit):
        in_place = FeedUnit(in_place.root, in_place.proof, bytes(in_place.unit))
    assert in_place == whole


class Lender:
    """Lends a buffer and counts how often it came back; one that somebody still looks into cannot be cleared."""

    def __init__(self, size: int) -> None:
        self.memory = bytearray(size)
        self.returns = 0

    def __call__(self) -> None:
        self.memory.clear()
        self.returns += 1


def greeted(tls: bool) -> tuple[Engine | PlainEngine, Engine | PlainEngine]:
    alice: Engine | PlainEngine = Engine("client", key=KEY, hello=HELLO, expect=OTHER.id) if tls else PlainEngine("client", hello=HELLO)
    bob: Engine | PlainEngine = Engine("server", key=OTHER, hello=HELLO) if tls else PlainEngine("server", hello=HELLO)
    alice.start()
    bob.start()
    while any(there := (alice.data_to_send(), bob.data_to_send())):
        bob.receive(there[0])
        alice.receive(there[1])
    return alice, bob


deeds = st.one_of(
    st.tuples(st.just("lend"), st.lists(st.sampled_from([0, 1, 300, PIECE_BYTES - 1, PIECE_BYTES, 150_000, 300_000]), max_size=3)),
    st.tuples(st.just("ask"), st.just([])),
    st.tuples(st.sampled_from(["close", "close with a code", "eof", "abandon", "goodbye"]), st.just([])),
)
lives = st.lists(st.one_of(deeds, st.tuples(st.just("ask"), st.just([]))), max_size=25)


def lend(engine: Engine | PlainEngine, lender: Lender, sizes: list[int]) -> bool:
    ends = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    return engine.send_parts(Channel.BULK, [memoryview(lender.memory)[a:b] for a, b in pairwise(ends)], lender)


def live(tls: bool, life: list[tuple[str, list[int]]]) -> None:
    alice, bob = greeted(tls)
    queued, refused, parts = list[Lender](), list[Lender](), list[bytes | memoryview]()
    for deed, sizes in life:
        if deed == "lend":
            if 0 < sum(sizes) <= CHANNEL_LIMITS[Channel.BULK].message_max_bytes:
                lender = Lender(sum(sizes))
                taken, _ = attempt(lambda given: lend(alice, *given), (lender, sizes))
                (queued if taken else refused).append(lender)
        elif deed == "ask":
            parts.clear()
            parts = alice.parts_to_send()
        elif deed == "abandon":
            parts.clear()
            alice.abandon()
        elif deed == "eof":
            alice.receive_eof()
        elif deed == "goodbye":
            bob.close("E-CHAIN-STALE")
            alice.receive(bob.data_to_send())
        else:
            alice.close("E-PEER-LIMIT" if "code" in deed else "")
    parts.clear()
    alice.abandon()
    assert [lender.returns for lender in queued] == [1] * len(queued)
    assert [lender.returns for lender in refused] == [0] * len(refused)


@quick
@given(lives)
def test_a_lent_buffer_comes_back_once_and_only_when_nobody_looks_into_it(life: list[tuple[str, list[int]]]) -> None:
    live(False, life)


@settings(deadline=None, max_examples=40)
@given(lives)
def test_a_lent_buffer_comes_back_once_under_tls(life: list[tuple[str, list[int]]]) -> None:
    live(True, life)
