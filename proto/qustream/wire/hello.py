"""The control channel: who speaks, in which versions, and goodbye (`proto/spec/transport.md`). Tags 1-9."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta

from qustream.model.base import U16, U63, Bytes64, Count32, Label, Text
from qustream.wire.codec import Message

__all__ = ["HELLO_MAX_BYTES", "PROTOCOL_MAX", "PROTOCOL_MIN", "Goodbye", "Hello", "Ping", "Pong", "Role"]

# The oldest and newest protocol version this code speaks.
PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
# 8 addresses of 256 characters (up to 1 KiB each in UTF-8), the rest small.
HELLO_MAX_BYTES = 16_384


class Role(IntEnum):
    """What the sender of a Hello claims to be; the registry decides what is believed."""

    DEVICE = 1
    NODE = 2
    QRNG_SERVER = 3
    VALIDATOR = 4


class Hello(Message, frozen=True, tag=1):
    """The first message either way. `proof`: Ed25519 signature, purpose `qustream/1/hello`, over role in the handshake
    (`client` or `server`) ‖ TLS exporter, by the key the certificate carries; on a Unix socket 64 zero bytes."""

    protocol_min: U16
    protocol_max: U16
    chain: Label
    roles: Annotated[tuple[Role, ...], Meta(max_length=4)]
    addresses: Annotated[tuple[Text, ...], Meta(max_length=8)]
    height: U63
    proof: Bytes64


class Ping(Message, frozen=True, tag=2):
    """Answered by a `Pong` with the same number."""

    number: Count32


class Pong(Message, frozen=True, tag=3):
    """The answer to a `Ping`."""

    number: Count32


class Goodbye(Message, frozen=True, tag=4):
    """Why the sender is about to close: a code of the error table and a sentence."""

    code: Label
    detail: Text
