"""What nodes ask of each other as peers (`proto/spec/peers.md`). Tags 70-79, in requests and their answers."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta

from qustream.model.base import U63, Bytes32, Count32, Label, Noun, Signed, Text
from qustream.wire.codec import Message

__all__ = [
    "PEER_ASK_MAX_BYTES",
    "RECORDS_MAX",
    "AddressAnswer",
    "AddressAsk",
    "DialBackAnswer",
    "DialBackAsk",
    "DialResult",
    "HeightHeard",
    "HeightTold",
    "LinkAccepted",
    "LinkOpen",
    "LinkReason",
    "PeerAsk",
]

# Of the requests below the largest has 43 bytes.
PEER_ASK_MAX_BYTES = 64
# Signed records are at most 5 KiB: 320 KiB in an answer, which takes 512.
RECORDS_MAX = 64


class LinkReason(IntEnum):
    """Why somebody opens a link; the numbers stand on the wire."""

    ASSIGNED = 1
    CHOSEN = 2
    MESHED = 3


class LinkOpen(Message, frozen=True, tag=70):
    """Let this connection be a link. `epoch`: the opener's."""

    reason: LinkReason
    epoch: U63


class LinkAccepted(Message, frozen=True, tag=71):
    """It is one. `seen`: the opener's `host:port` as the acceptor sees it."""

    seen: Text


class AddressAsk(Message, frozen=True, tag=72):
    """The newest address records of nodes with ids above `after`, in order of id. `within_s`: only those that the answerer has taken in the
    last so many seconds; 0: all."""

    after: Bytes32
    within_s: Count32


class AddressAnswer(Message, frozen=True, tag=73):
    """Signed `AddressRecord`s; fewer than `RECORDS_MAX`: there are no more."""

    records: Annotated[tuple[Signed, ...], Meta(max_length=RECORDS_MAX)]


class DialBackAsk(Message, frozen=True, tag=74):
    """Try to reach me where the network says I am."""


class DialResult(Noun, frozen=True):
    """`code`: why it was not reached; empty if it was."""

    address: Text
    code: Label


class DialBackAnswer(Message, frozen=True, tag=75):
    """What came of each address."""

    results: Annotated[tuple[DialResult, ...], Meta(max_length=8)]


class HeightTold(Message, frozen=True, tag=76):
    """The sender's view of the network has this height."""

    height: U63


class HeightHeard(Message, frozen=True, tag=77):
    """And the answerer's has this."""

    height: U63


PeerAsk = LinkOpen | AddressAsk | DialBackAsk | HeightTold
