"""Objects in pieces, the network file that travels, and the probe of a line (`proto/spec/bulk.md`). Tags 80-89.

Pieces and probe data travel on the bulk channel, everything else in requests and their answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import IntEnum
from typing import Annotated

from msgspec import Meta

from qustream.errors import fault
from qustream.model.base import U63, Bytes32, Count32
from qustream.wire.codec import Message, decode, encode

__all__ = [
    "BULK_ASK_MAX_BYTES",
    "BULK_MESSAGE_MAX_BYTES",
    "MANIFEST_MAX_BYTES",
    "OBJECT_MAX_BYTES",
    "OBJECT_PIECES_MAX",
    "PIECES_ASKED_MAX",
    "PIECE_BYTES",
    "PROBE_MAX_BYTES",
    "BulkAsk",
    "BulkMessage",
    "BulkPiece",
    "BulkSent",
    "BulkServed",
    "Manifest",
    "ManifestAsk",
    "NetworkFileAsk",
    "NetworkFileOffer",
    "ProbeAsk",
    "ProbeData",
    "ProbeTold",
    "ProbeWay",
    "checked_manifest",
    "manifest_of",
    "object_id",
    "piece_bytes",
]

# Four frames of the transport: 21 ms at 100 Mbit/s, checked in a fifth of a millisecond.
PIECE_BYTES = 256 * 1024
# A manifest of so many has 140 KiB and fits into one answer; an object of so many is 1 GiB. What is larger is several objects.
OBJECT_PIECES_MAX = 4096
OBJECT_MAX_BYTES = OBJECT_PIECES_MAX * PIECE_BYTES
MANIFEST_MAX_BYTES = OBJECT_PIECES_MAX * 34 + 16
# 1 MiB: an ask costs its round trip little, and whoever stops asking gets no more than that.
PIECES_ASKED_MAX = 4
# Three seconds at 90 Mbit/s; a quicker line needs less time.
PROBE_MAX_BYTES = 32 << 20
# The largest ask has 45 bytes.
BULK_ASK_MAX_BYTES = 64
# A piece with its tag, object, index and lengths.
BULK_MESSAGE_MAX_BYTES = PIECE_BYTES + 64
_OBJECT = b"qustream/1/object"
_OBJECT_PREFIX = bytes([len(_OBJECT)]) + _OBJECT

PieceIndex = Annotated[int, Meta(ge=0, le=OBJECT_PIECES_MAX - 1)]
PieceCount = Annotated[int, Meta(ge=1, le=PIECES_ASKED_MAX)]
ObjectSize = Annotated[int, Meta(ge=1, le=OBJECT_MAX_BYTES)]


class ProbeWay(IntEnum):
    """What is asked for; the numbers stand on the wire."""

    DOWN = 1  # send me so much
    UP = 2  # let me send you so much
    HEARD = 3  # how much of it came, and how fast?


class ManifestAsk(Message, frozen=True, tag=80):
    """What is this object made of?"""

    object: Bytes32


class Manifest(Message, frozen=True, tag=81):
    """Size of an object and SHA-256 of each piece, in order; its own hash is the object's id."""

    size: ObjectSize
    pieces: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=OBJECT_PIECES_MAX)]


class BulkAsk(Message, frozen=True, tag=82):
    """Send me `count` pieces from `first` on."""

    object: Bytes32
    first: PieceIndex
    count: PieceCount


class BulkSent(Message, frozen=True, tag=83):
    """So many have been handed to the bulk channel."""

    count: PieceCount


class BulkPiece(Message, frozen=True, tag=84):
    """One piece."""

    object: Bytes32
    index: PieceIndex
    data: Annotated[bytes, Meta(min_length=1, max_length=PIECE_BYTES)]


class NetworkFileAsk(Message, frozen=True, tag=85):
    """Which network file do you have, if it is newer than this?"""

    above: U63


class NetworkFileOffer(Message, frozen=True, tag=86):
    """This one."""

    height: U63
    object: Bytes32
    size: ObjectSize


class ProbeAsk(Message, frozen=True, tag=87):
    """About the line between us. `size`: bytes of data at most; for `HEARD`, how many were sent."""

    way: ProbeWay
    size: Annotated[int, Meta(ge=1, le=PROBE_MAX_BYTES)]


class ProbeTold(Message, frozen=True, tag=88):
    """`size`: bytes sent or heard; `late_bytes` came within `late_us`, the second half of the time."""

    size: Annotated[int, Meta(ge=0, le=PROBE_MAX_BYTES)]
    late_bytes: Annotated[int, Meta(ge=0, le=PROBE_MAX_BYTES)]
    late_us: Count32


class ProbeData(Message, frozen=True, tag=89):
    """Bytes without a meaning."""

    data: Annotated[bytes, Meta(min_length=1, max_length=PIECE_BYTES)]


BulkServed = ManifestAsk | BulkAsk | NetworkFileAsk | ProbeAsk
BulkMessage = BulkPiece | ProbeData


def manifest_of(size: int, hashes: Iterable[bytes]) -> Manifest:
    """The manifest of an object of `size` bytes whose pieces have these hashes."""
    manifest = Manifest(size, tuple(hashes))
    assert len(manifest.pieces) == -(-size // PIECE_BYTES)
    assert 0 < size <= OBJECT_MAX_BYTES
    return manifest


def object_id(manifest: Manifest) -> bytes:
    """The id of the object with this manifest, 32 bytes."""
    return hashlib.sha256(_OBJECT_PREFIX + encode(manifest)).digest()


def checked_manifest(data: bytes, name: bytes) -> Manifest:
    """The manifest of the object `name` out of a peer's bytes. Errors: those of `decode`; `E-ANSWER-INVALID`: it is another's."""
    manifest: Manifest = decode(data, Manifest, max_bytes=MANIFEST_MAX_BYTES)
    if len(manifest.pieces) != -(-manifest.size // PIECE_BYTES):
        raise fault("E-WIRE-MALFORMED", f"{len(manifest.pieces)} pieces do not make {manifest.size} bytes")
    if object_id(manifest) != name:
        raise fault("E-ANSWER-INVALID", "not the manifest of the object that was asked for")
    return manifest


def piece_bytes(manifest: Manifest, index: int) -> int:
    """The length of piece `index`: all but the last are whole."""
    return min(PIECE_BYTES, manifest.size - index * PIECE_BYTES)
