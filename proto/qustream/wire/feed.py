"""The feed from a QRNG server to a node (`proto/spec/entropy-feed.md`). Tags 40-49.

The node sends `FeedOpen` and `FeedCredit` as requests (`proto/spec/transport.md`, "Requests"); each is answered with the `FeedHealth`
of that moment. The server pushes `FeedHealth` at every change, `FeedBatch` and `FeedUnit` on the bulk channel, a batch always before
its units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from qustream.model.base import Bytes32, Count32, Label, Signed, Text
from qustream.model.entropy import UNIT_BYTES, LeafProof
from qustream.wire.codec import Message, encode

__all__ = [
    "FEED_MAX_BYTES",
    "FeedBatch",
    "FeedCredit",
    "FeedHealth",
    "FeedMessage",
    "FeedOpen",
    "FeedUnit",
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


FeedMessage = FeedOpen | FeedCredit | FeedHealth | FeedBatch | FeedUnit


def encode_unit(root: bytes, proof: LeafProof, pieces: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """The canonical bytes of `FeedUnit(root, proof, unit)` for a unit that lies in pieces (`UNIT_BYTES` together), copied once."""
    return b"".join((_before_unit(root, proof), *pieces))


def encode_unit_parts(root: bytes, proof: LeafProof, pieces: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """The same in parts, nothing copied: what stands before the unit, then `pieces` themselves."""
    return [_before_unit(root, proof), *pieces]


def _before_unit(root: bytes, proof: LeafProof) -> bytes:
    without = encode(FeedUnit(root, proof, b""))
    # The unit is the last field: an empty byte string (c4 00) gives way to one with a 32-bit length (c6).
    return without[:-2] + b"\xc6" + UNIT_BYTES.to_bytes(4, "big")
