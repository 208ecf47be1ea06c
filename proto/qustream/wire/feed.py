"""The feed from a QRNG server to a node (`proto/spec/entropy-feed.md`). Tags 40-49.

The node sends `FeedOpen` and `FeedCredit` as requests (`proto/spec/transport.md`, "Requests"); each is answered with the `FeedHealth`
of that moment. The server pushes `FeedHealth` at every change, `FeedBatch` and `FeedUnit` on the bulk channel, a batch always before
its units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from qustream.model.base import Bytes32, Count32, Label, Signed, Text
from qustream.model.entropy import UNIT_BYTES, LeafProof
from qustream.wire.codec import Message, decode, encode

__all__ = [
    "FEED_MAX_BYTES",
    "FeedBatch",
    "FeedCredit",
    "FeedHealth",
    "FeedMessage",
    "FeedOpen",
    "FeedUnit",
    "ReceivedUnit",
    "decode_feed",
    "encode_unit",
    "encode_unit_parts",
]

FEED_MAX_BYTES = UNIT_BYTES + 4096


class FeedOpen(Message, frozen=True, tag=40):
    """Opens the feed for `node` (over TLS it must be the connection's own id) with a first credit in units."""

    node: Bytes32
    credit: Count32


class FeedCredit(Message, frozen=True, tag=41):
    """Grants `units` more units. The server sends exactly what it has credit for, and never queues beyond it."""

    units: Annotated[int, Meta(ge=1, le=4096)]


class FeedHealth(Message, frozen=True, tag=42):
    """The state of the server's device, as an answer and pushed at every change: starting, testing, live, suspect, failed, absent.
    `code`: of the error table, '' when nothing is wrong; `reason`: in words."""

    state: Label
    code: Label
    reason: Text


class FeedBatch(Message, frozen=True, tag=43):
    """A signed attestation; the units that follow prove membership in it."""

    attestation: Signed


class FeedUnit(Message, frozen=True, tag=44):
    """One unit: material ‖ scatter, made for this node, sent once. `root`: the root of the batch it belongs to."""

    root: Bytes32
    proof: LeafProof
    unit: Annotated[bytes, Meta(min_length=UNIT_BYTES, max_length=UNIT_BYTES)]


class _BeforeUnit(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=44):
    """A `FeedUnit` without its unit. Nothing that travels, so no `Message`."""

    root: Bytes32
    proof: LeafProof
    unit: Annotated[bytes, Meta(max_length=0)]


class ReceivedUnit(NamedTuple):
    """A `FeedUnit` whose `unit` lies in the message it came in."""

    root: bytes
    proof: LeafProof
    unit: memoryview


FeedMessage = FeedOpen | FeedCredit | FeedHealth | FeedBatch | FeedUnit
_Short = FeedOpen | FeedCredit | FeedHealth | FeedBatch
# A unit is the last field of its message: a byte string with a 32-bit length, which no other way to write it has, and that length.
_UNIT_MARK = b"\xc6" + UNIT_BYTES.to_bytes(4, "big")
_NO_UNIT = b"\xc4\x00"  # an empty byte string instead
_BEFORE_UNIT_MAX_BYTES = FEED_MAX_BYTES - UNIT_BYTES - len(_UNIT_MARK) + len(_NO_UNIT)


def decode_feed(body: bytes | bytearray) -> _Short | ReceivedUnit:
    """Decode any hostile message of the feed; a unit is not copied. Its memoryview keeps all of `body`, which must stay as it is.

    Errors: as `decode`. As there, nothing passes that does not re-encode to itself: the bytes of a unit stand for themselves, so it is
    enough that the one mark of their length stands before them, that nothing comes behind them, and that what comes first is canonical.
    """
    at = len(body) - UNIT_BYTES
    mark = at - len(_UNIT_MARK)
    if mark < 0 or body[mark:at] != _UNIT_MARK:
        short: _Short = decode(body, _Short, max_bytes=FEED_MAX_BYTES)
        return short
    before = decode(bytes(body[:mark]) + _NO_UNIT, _BeforeUnit, max_bytes=_BEFORE_UNIT_MAX_BYTES)
    return ReceivedUnit(before.root, before.proof, memoryview(body).toreadonly()[at:])


def encode_unit(root: bytes, proof: LeafProof, pieces: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """The canonical bytes of `FeedUnit(root, proof, unit)` for a unit that lies in pieces (`UNIT_BYTES` together), copied once."""
    return b"".join((_before_unit(root, proof), *pieces))


def encode_unit_parts(root: bytes, proof: LeafProof, pieces: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """The same in parts, nothing copied: what stands before the unit, then `pieces` themselves."""
    return [_before_unit(root, proof), *pieces]


def _before_unit(root: bytes, proof: LeafProof) -> bytes:
    without = encode(FeedUnit(root, proof, b""))
    return without[: -len(_NO_UNIT)] + _UNIT_MARK
