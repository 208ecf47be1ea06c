"""The limits fit the messages they carry, and each other."""

from qustream.model.entropy import UNIT_BYTES
from qustream.transport.limits import (
    ALL_CHANNELS,
    CERTIFICATE_MAX_BYTES,
    CHANNEL_LIMITS,
    HANDSHAKE_MAX_BYTES,
    PIECE_BYTES,
    UNKNOWN_PEER_CHANNELS,
    UNLICENSED_MESSAGE_MAX_BYTES,
    Channel,
)
from qustream.wire.codec import encode
from qustream.wire.feed import FEED_MAX_BYTES
from qustream.wire.hello import HELLO_MAX_BYTES
from qustream.wire.keys import REQUEST_MAX_BYTES
from qustream.wire.rpc import BODY_MAX_BYTES, Request, Response


def test_every_channel_has_limits_and_room_for_its_largest_message() -> None:
    assert set(CHANNEL_LIMITS) == ALL_CHANNELS
    for limits in CHANNEL_LIMITS.values():
        assert limits.queue_max_bytes >= limits.message_max_bytes
        assert limits.queue_max_messages > 0


def test_channels_carry_what_is_sent_on_them() -> None:
    assert CHANNEL_LIMITS[Channel.CONTROL].message_max_bytes == HELLO_MAX_BYTES
    longest = encode(Response(0xFFFFFFFF, bytes(BODY_MAX_BYTES)))
    assert len(longest) <= CHANNEL_LIMITS[Channel.REQUEST].message_max_bytes
    assert max(FEED_MAX_BYTES, UNIT_BYTES) <= CHANNEL_LIMITS[Channel.BULK].message_max_bytes


def test_a_stranger_can_send_the_largest_key_request_whole() -> None:
    request = encode(Request(0xFFFFFFFF, 0xFFFFFFFF, bytes(REQUEST_MAX_BYTES + 4096)))
    assert len(request) <= UNLICENSED_MESSAGE_MAX_BYTES <= PIECE_BYTES


def test_a_handshake_has_room_for_certificate_and_hello() -> None:
    assert 2 * (CERTIFICATE_MAX_BYTES + HELLO_MAX_BYTES) < HANDSHAKE_MAX_BYTES


def test_strangers_may_ask_and_nothing_else() -> None:
    assert {Channel.CONTROL, Channel.REQUEST} == UNKNOWN_PEER_CHANNELS
