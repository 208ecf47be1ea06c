"""What who keeps no chain asks nodes about it (`proto/spec/light-client.md`). Tags 109-122, on the request channel."""

from __future__ import annotations

import hashlib
from typing import Annotated, TypeAlias

from msgspec import Meta

from qustream.model.base import U63, Bytes16, Bytes32, Label, Noun
from qustream.model.network import Addresses, NodeClass
from qustream.model.state import Seat
from qustream.rules.radix import Proof
from qustream.wire.codec import Message, encode
from qustream.wire.consensus import VALIDATORS_MAX, Certificate, ChainHeader

__all__ = [
    "GRANTS_LISTED_MAX", "HAND_OVERS_MAX", "HEADERS_MAX", "KEYS_MAX", "LIGHT_ANSWER_MAX_BYTES", "LIGHT_ASK_MAX_BYTES", "NODES_PAGE",
    "Checkpoint", "CheckpointAsk", "GrantsAsk", "GrantsListed", "HandOver", "HandOvers", "HandOversAsk", "KeysAsk",
    "LightAsk", "ListedNode", "NodesAsk", "NodesListed", "Proofs", "ProofsAsk", "ProvenEntry", "SetAsk", "SetTold", "VoteKeys",
    "checkpoint_digest",
]  # fmt: skip

# What a response may carry (`wire.rpc`).
LIGHT_ANSWER_MAX_BYTES = 524_288
# 100 hashes of vote keys, 16 keys of the state: both below 4 KiB.
LIGHT_ASK_MAX_BYTES = 4096
# Entries asked for at once: an assignment of ten nodes has twenty, so two questions.
KEYS_MAX = 16
# From the header that names a root to one with a certificate: a few blocks, and an idle chain's certificates are of every block.
HEADERS_MAX = 64
# A hand-over of a full set has 170 kB, of four validators 9: what fits.
HAND_OVERS_MAX = 32
# A listed node has some 150 bytes. One with addresses of the longest has nine kilobytes, and then fewer fit.
NODES_PAGE = 400
# A user buys a handful an epoch, and they go after two and their lifetime.
GRANTS_LISTED_MAX = 256
# A key of the state: the longest is an expiry's, 9 bytes and another key.
STATE_KEY_MAX_BYTES = 96
StateKey = Annotated[bytes, Meta(min_length=1, max_length=STATE_KEY_MAX_BYTES)]
_CHECKPOINT = b"qustream/1/checkpoint"


class CheckpointAsk(Message, frozen=True, tag=109):
    """Which checkpoint has this digest? Zeros: the newest."""

    digest: Bytes32


class Checkpoint(Message, frozen=True, tag=110):
    """A rotation's set, to begin from. `set`: its hash; `time_ms`: of the rotation's base."""

    chain: Label
    rotation: U63
    set: Bytes32
    time_ms: U63


class HandOversAsk(Message, frozen=True, tag=111):
    """How did this rotation and those after it name the next set?"""

    rotation: U63


class HandOver(Noun, frozen=True):
    """A final header with `next_set`, and the finalisation of it."""

    header: ChainHeader
    certificate: Certificate


class HandOvers(Message, frozen=True, tag=112):
    """Of the rotation asked for and of those that follow, in order."""

    items: Annotated[tuple[HandOver, ...], Meta(max_length=HAND_OVERS_MAX)]


class SetAsk(Message, frozen=True, tag=113):
    """Who votes in this rotation?"""

    rotation: U63


class SetTold(Message, frozen=True, tag=114):
    """The seats, and the seed of the order of leaders."""

    rotation: U63
    seats: Annotated[tuple[Seat, ...], Meta(min_length=1, max_length=VALIDATORS_MAX)]
    seed: Bytes32


class KeysAsk(Message, frozen=True, tag=115):
    """Vote keys by their SHA-256."""

    hashes: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=VALIDATORS_MAX)]


class VoteKeys(Message, frozen=True, tag=116):
    """In the order asked for."""

    keys: Annotated[tuple[Annotated[bytes, Meta(min_length=1312, max_length=1312)], ...], Meta(max_length=VALIDATORS_MAX)]


class ProofsAsk(Message, frozen=True, tag=117):
    """What stands under these keys of the state?"""

    keys: Annotated[
        tuple[Annotated[bytes, Meta(min_length=1, max_length=STATE_KEY_MAX_BYTES)], ...], Meta(min_length=1, max_length=KEYS_MAX)
    ]


class ProvenEntry(Noun, frozen=True):
    """A value, or that there is none, and the proof of it."""

    value: Annotated[bytes, Meta(max_length=65_536)] | None
    proof: Proof


class Proofs(Message, frozen=True, tag=118):
    """`headers`: each the parent of the next; the first names the root, the last has the certificate. `entries`: in the order asked for."""

    headers: Annotated[tuple[ChainHeader, ...], Meta(min_length=1, max_length=HEADERS_MAX)]
    certificate: Certificate
    entries: Annotated[tuple[ProvenEntry, ...], Meta(max_length=KEYS_MAX)]


class NodesAsk(Message, frozen=True, tag=119):
    """Which active nodes are there, with ids above this?"""

    after: Bytes32


class ListedNode(Noun, frozen=True):
    """An active node, as somebody says."""

    id: Bytes32
    node_class: NodeClass
    operator: Label
    licence: Bytes16
    addresses: Addresses
    since_epoch: U63


class NodesListed(Message, frozen=True, tag=120):
    """A page, in order of id. An empty one is the end."""

    nodes: Annotated[tuple[ListedNode, ...], Meta(max_length=NODES_PAGE)]


class GrantsAsk(Message, frozen=True, tag=121):
    """Which grants has this user?"""

    user: Bytes32


class GrantsListed(Message, frozen=True, tag=122):
    """Their ids, the good ones first, the largest of them in front."""

    grants: Annotated[tuple[Bytes32, ...], Meta(max_length=GRANTS_LISTED_MAX)]


LightAsk: TypeAlias = CheckpointAsk | HandOversAsk | SetAsk | KeysAsk | ProofsAsk | NodesAsk | GrantsAsk


def checkpoint_digest(checkpoint: Checkpoint) -> bytes:
    """What is pinned, 32 bytes."""
    return hashlib.sha256(bytes([len(_CHECKPOINT)]) + _CHECKPOINT + encode(checkpoint)).digest()
