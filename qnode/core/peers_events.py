"""What happens to the network of peers, and what follows from it (`proto/spec/peers.md`): plain data, recorded and replayed as it is.

A link, or a connection that wants to become one, has a number of the shell's, never used twice; a peer is a node id.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from qustream.wire.peers import LinkReason

__all__ = [
    "AddressesLearnt", "Admit", "AskDialBack", "Dial", "DialBackTold", "DialFailed", "Effect", "Event", "Expelled", "HangUp", "KeepAnchors",
    "Known", "LinkAsked", "LinkLost", "LinkMade", "NetworkChanged", "Purpose", "Refuse", "Ticked", "prefix_of_unknown",
]  # fmt: skip


class Purpose(StrEnum):
    """Why we dial: as the link's reason, or to see whether the node is there."""

    ASSIGNED = "assigned"
    CHOSEN = "chosen"
    MESHED = "meshed"
    FEELER = "feeler"


def prefix_of_unknown(node: bytes) -> str:
    """The prefix of a node of whose address nothing is known: its own, shared with nobody."""
    return node.hex()


# ---------------------------------------------------------------------------------------------------------------- events


class Known(Struct, frozen=True):
    """A known node. `addresses`: the registry's, `host:port` each."""

    operator: str
    addresses: tuple[str, ...]


class NetworkChanged(Struct, frozen=True):
    """The registry, or the epoch, is another; also the first event of all. `nodes`: the active nodes by id, ourselves among them if we are
    one. `seeds`: of the epochs before this, this and the next, by number. `meshed`: nodes that are all linked to each other.
    `records_from_ms`: address records issued before this count no more."""

    epoch: int
    seeds: Mapping[int, bytes]
    nodes: Mapping[bytes, Known]
    meshed: frozenset[bytes] = frozenset()
    records_from_ms: int = 0


class AddressesLearnt(Struct, frozen=True):
    """A node's newest address record, checked."""

    node: bytes
    issued_ms: int
    addresses: tuple[str, ...]


class LinkMade(Struct, frozen=True):
    """A dial has led to a connection, and the peer has accepted the link (a feeler: it was reached). `prefix`: of the address reached.
    Answered by `Admit` or, of a feeler always, `HangUp` of this link."""

    link: int
    peer: bytes
    purpose: Purpose
    prefix: str


class DialFailed(Struct, frozen=True):
    """It has not. `code`: why; `retry_after_ms`: what the peer says of when to come again, 0 if nothing."""

    peer: bytes
    purpose: Purpose
    code: str
    retry_after_ms: int = 0


class LinkAsked(Struct, frozen=True):
    """A peer, whose id is proven, asks that its connection be a link. Answered by `Admit` or `Refuse` of this link. `reason` is its word,
    and nothing follows from it."""

    link: int
    peer: bytes
    reason: LinkReason
    prefix: str


class LinkLost(Struct, frozen=True):
    """An admitted link is gone, whoever ended it."""

    link: int
    code: str


class Expelled(Struct, frozen=True):
    """Gossip will have nothing of this peer before `until_ms` (`E-PEER-LIMIT` is what the peer is told)."""

    peer: bytes
    until_ms: int


class DialBackTold(Struct, frozen=True):
    """What a peer said when it was asked to dial back. `reached`: at one address at least; None: it did not answer."""

    peer: bytes
    reached: bool | None


class Ticked(Struct, frozen=True):
    """A second has passed. `draw`: 64 random bits."""

    draw: int


Event: TypeAlias = NetworkChanged | AddressesLearnt | LinkMade | DialFailed | LinkAsked | LinkLost | Expelled | DialBackTold | Ticked

# --------------------------------------------------------------------------------------------------------------- effects


class Dial(Struct, frozen=True):
    """Connect to the peer at these addresses in turn, and for anything but a feeler ask for a link; `LinkMade` or `DialFailed` says what
    came of it, exactly once."""

    peer: bytes
    purpose: Purpose
    addresses: tuple[str, ...]


class Admit(Struct, frozen=True):
    """The connection is a link from now on: gossip begins. For an inbound one, answer `LinkAccepted`."""

    link: int
    peer: bytes
    operator: str
    ours: bool
    assigned: bool


class Refuse(Struct, frozen=True):
    """Answer `LinkAsked` with this; the connection itself may stay for requests."""

    link: int
    code: str
    retry_after_ms: int = 0


class HangUp(Struct, frozen=True):
    """End the connection, admitted or not, with this reason (none: in order). No `LinkLost` follows: it is gone when this is ordered."""

    link: int
    code: str = ""


class KeepAnchors(Struct, frozen=True):
    """Put these on disk, in place of what is there."""

    anchors: tuple[bytes, ...]


class AskDialBack(Struct, frozen=True):
    """Ask this peer to dial back; `DialBackTold` is the answer."""

    peer: bytes


Effect: TypeAlias = Dial | Admit | Refuse | HangUp | KeepAnchors | AskDialBack
