"""The state's root and proofs of single entries: a radix tree over SHA-256(key) (`proto/spec/state.md`). What changes it: `radix_tree`.

A proof may be hostile: it is checked in full, in time bounded by its size, and its size is bounded by its type.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, NamedTuple

from msgspec import Meta

from qustream.errors import QuStreamError, fault
from qustream.model.base import Noun

__all__ = [
    "BUCKET_MAX_ENTRIES", "DEPTH_MAX", "EMPTY_ROOT", "HASH_BYTES", "MAPS_BYTES", "PAIR_BYTES", "Child", "InnerBytes", "Pair", "Proof",
    "bucket_hash", "child", "children", "inner_bytes", "inner_hash", "is_lowest", "nibble", "path_of", "require", "value_hash", "verify",
]  # fmt: skip

HASH_BYTES = 32  # SHA-256
# Above this a bucket is split: a proof carries one bucket (1 KiB), and an entry costs a sixteenth of a hash to rebuild.
BUCKET_MAX_ENTRIES = 16
CHILDREN_MAX = 16  # one a value of a nibble
DEPTH_MAX = 2 * HASH_BYTES  # nibbles of a path
PAIR_BYTES = 2 * HASH_BYTES
MAPS_BYTES = 4  # two bit maps of the children
# Paths that are remembered: what a full block touches. It is read, changed and stored under the same keys; 1 MB.
PATHS_KEPT = 4096
InnerBytes = Annotated[bytes, Meta(min_length=MAPS_BYTES + HASH_BYTES, max_length=MAPS_BYTES + CHILDREN_MAX * HASH_BYTES)]
# A path followed by the hash of the value that stands there: in order of the paths, as they are.
Pair = bytes


class Proof(Noun, frozen=True):
    """That a key has a value, or none. `inner`: the inner nodes from the root down to where the key would be; `bucket`: the pairs of the
    bucket it would be in, empty if there is none."""

    inner: Annotated[tuple[InnerBytes, ...], Meta(max_length=DEPTH_MAX)]
    bucket: Annotated[bytes, Meta(max_length=BUCKET_MAX_ENTRIES * PAIR_BYTES)]


class Child(NamedTuple):
    """What an inner node says of one child. `deeper`: it is an inner node itself, not a bucket."""

    hash: bytes
    deeper: bool


@lru_cache(maxsize=PATHS_KEPT)
def path_of(key: bytes) -> bytes:
    """Where a key stands in the tree."""
    return hashlib.sha256(key).digest()


def value_hash(value: bytes) -> bytes:
    """What stands for a value in the tree."""
    return hashlib.sha256(b"\x00" + value).digest()


def bucket_hash(pairs: bytes) -> bytes:
    """The hash of a bucket: of its pairs, path ‖ value hash, in order of the paths."""
    return hashlib.sha256(b"\x01" + pairs).digest()


def inner_hash(node: bytes) -> bytes:
    """The hash of an inner node's bytes (`inner_bytes`)."""
    return hashlib.sha256(b"\x02" + node).digest()


# What a tree without entries has.
EMPTY_ROOT = bucket_hash(b"")


def nibble(path: bytes, depth: int) -> int:
    """Nibble number `depth` of a path, the high one of a byte first."""
    byte = path[depth >> 1]
    return byte & 15 if depth & 1 else byte >> 4


def inner_bytes(present: dict[int, Child]) -> bytes:
    """An inner node: which children it has (bit 15 for child 0), which of them are inner nodes, their hashes in order."""
    here = deeper = 0
    hashes = []
    for number in sorted(present):
        each = present[number]
        here |= 0x8000 >> number
        if each.deeper:
            deeper |= 0x8000 >> number
        hashes.append(each.hash)
    return here.to_bytes(2, "big") + deeper.to_bytes(2, "big") + b"".join(hashes)


def children(node: bytes) -> dict[int, Child]:
    """What `inner_bytes` was made of. Errors: `E-PROOF` for what is no inner node."""
    here, deeper = int.from_bytes(node[:2], "big"), int.from_bytes(node[2:MAPS_BYTES], "big")
    if not here or deeper & ~here or len(node) != MAPS_BYTES + HASH_BYTES * here.bit_count():
        raise fault("E-PROOF", "not an inner node of a state tree")
    found, at = {}, MAPS_BYTES
    for number in range(CHILDREN_MAX):
        bit = 0x8000 >> number
        if here & bit:
            found[number] = Child(node[at : at + HASH_BYTES], bool(deeper & bit))
            at += HASH_BYTES
    return found


def is_lowest(node: bytes) -> bool:
    """Whether all children of an inner node are buckets: what stands beneath it then says what it is."""
    return node[2:MAPS_BYTES] == b"\0\0"


def child(node: bytes, number: int) -> Child | None:
    """One child of an inner node, if it has that one. Errors: `E-PROOF`."""
    return children(node).get(number)


def verify(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """Whether `proof` shows that under `root` the key has this value; None: that there is no such key."""
    try:
        require(root, key, value, proof)
    except QuStreamError:
        return False
    return True


def require(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> None:
    """As `verify`. Errors: `E-PROOF`, and which part of it does not hold."""
    path = path_of(key)
    wanted: Child | None = Child(root, bool(proof.inner))
    for depth, node in enumerate(proof.inner):
        if wanted is None or not wanted.deeper:
            raise fault("E-PROOF", "the proof goes on below the end of its path")
        if inner_hash(node) != wanted.hash:
            raise fault("E-PROOF", f"the inner node at depth {depth} is not the one its parent names")
        wanted = child(node, nibble(path, depth))
    if wanted is None:
        if proof.bucket:
            raise fault("E-PROOF", "a bucket where there is none")
    elif wanted.deeper:
        raise fault("E-PROOF", "the proof ends above the end of its path")
    elif bucket_hash(proof.bucket) != wanted.hash:
        raise fault("E-PROOF", "the bucket is not the one its parent names")
    found = _pairs(proof.bucket, path, len(proof.inner)).get(path)
    if found != (None if value is None else value_hash(value)):
        raise fault("E-PROOF", "the state says something else of this key")


def _pairs(bucket: bytes, path: bytes, depth: int) -> dict[bytes, bytes]:
    """The pairs of a bucket at `depth` on the way of `path`. Errors: `E-PROOF` for what is no bucket."""
    if len(bucket) % PAIR_BYTES or len(bucket) > BUCKET_MAX_ENTRIES * PAIR_BYTES:
        raise fault("E-PROOF", "not a bucket of a state tree")
    pairs = {bucket[at : at + HASH_BYTES]: bucket[at + HASH_BYTES : at + PAIR_BYTES] for at in range(0, len(bucket), PAIR_BYTES)}
    paths = list(pairs)
    if len(paths) * PAIR_BYTES != len(bucket) or paths != sorted(paths):
        raise fault("E-PROOF", "a bucket out of order")
    if any(each.hex()[:depth] != path.hex()[:depth] for each in paths):
        raise fault("E-PROOF", "a bucket with what does not belong there")
    return pairs
