"""What things of the chain are called: digests over a label and their canonical bytes (`proto/spec/ledger.md`, §3, §5, §8)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from qustream.model.base import Noun
from qustream.model.genesis import Genesis
from qustream.model.state import IncidentKind, Seat
from qustream.wire.codec import encode

__all__ = ["genesis_digest", "grant_id", "incident_id", "leaders_seed", "next_fold", "rolled_id", "rotation_set_hash"]


class _Set(Noun, frozen=True):
    rotation: int
    seats: tuple[Seat, ...]
    seed: bytes


def _labelled(label: bytes, message: bytes) -> bytes:
    return hashlib.sha256(bytes([len(label)]) + label + message).digest()


def genesis_digest(genesis: Genesis) -> bytes:
    """The digest of block 0."""
    return _labelled(b"qustream/1/genesis", encode(genesis))


def rotation_set_hash(rotation: int, seats: Sequence[Seat], seed: bytes) -> bytes:
    """What a header's `next_set` says of the rotation that comes: who votes in it, and the seed of its order of leaders."""
    return _labelled(b"qustream/1/rotation-set", encode(_Set(rotation, tuple(seats), seed)))


def incident_id(kind: IncidentKind, licence: bytes, rotation: int) -> bytes:
    """What an offence is called: whoever reports it, it is the same, and all of one kind in one rotation are one."""
    return _labelled(b"qustream/1/incident", bytes([kind]) + licence + rotation.to_bytes(8, "big"))


def grant_id(transaction: bytes) -> bytes:
    """What the grant is called that the transaction with this id buys."""
    return _labelled(b"qustream/1/grant-id", transaction)


def rolled_id(grant: bytes) -> bytes:
    """What the grant is called that this one was rolled over into: there is one at most."""
    return _labelled(b"qustream/1/grant-rolled", grant)


def next_fold(fold: bytes, reveal: bytes) -> bytes:
    """The fold after one more reveal."""
    return _labelled(b"qustream/1/fold", fold + reveal)


def leaders_seed(fold: bytes) -> bytes:
    """The seed of an order of leaders, from the fold."""
    return _labelled(b"qustream/1/leaders-seed", fold)
