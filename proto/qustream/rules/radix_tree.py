"""Changing the state's tree and reading proofs out of it (`proto/spec/state.md`), over whatever holds its nodes.

Each touched node is read once, checked against the hash its parent has of it, and written once. The root depends on the entries alone: a
bucket above 16 is split, an inner node with no more than 16 beneath it is a bucket again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from qustream.errors import QuStreamError, fault
from qustream.rules.radix import (
    BUCKET_MAX_ENTRIES,
    DEPTH_MAX,
    EMPTY_ROOT,
    HASH_BYTES,
    MAPS_BYTES,
    Child,
    Pair,
    Proof,
    bucket_hash,
    child,
    children,
    inner_bytes,
    inner_hash,
    nibble,
    path_of,
)

__all__ = ["Backing", "Change", "Subtree", "build", "check", "prefix_range", "prove", "update"]

# A path and the hash of its new value, None if the entry goes.
Change = tuple[bytes, bytes | None]
_DIGITS = [bytes((number,)) for number in range(16)]
_HEX = b"0123456789abcdef".ljust(256, b"?")


class Backing(Protocol):
    """What holds a tree. A prefix is a string of nibbles, one a byte; entries are as they were before an `update`."""

    def node(self, prefix: bytes) -> bytes | None:
        """The bytes of the inner node at `prefix`."""
        ...

    def put_node(self, prefix: bytes, node: bytes) -> None:
        """Keep an inner node in place of any other there."""
        ...

    def drop_node(self, prefix: bytes) -> None:
        """Forget the inner node there."""
        ...

    def pairs(self, prefix: bytes, limit: int) -> list[Pair]:
        """The first `limit` pairs whose paths begin with `prefix`, in order."""
        ...


# What there is beneath a prefix: its hash, None for nothing; whether it is an inner node; all its pairs, if it is a bucket.
Subtree = tuple[bytes | None, bool, list[Pair] | None]


def update(backing: Backing, root: bytes, changes: Sequence[Change]) -> bytes:
    """The root after `changes` (rising paths, none twice); `root` is the one before. Errors: `E-DATA-CORRUPT` if what is stored is not what
    `root` stands for."""
    if not changes:
        return root
    if backing.node(b"") is not None:
        change = _Changing(backing, shrinks=any(value is None for _, value in changes))
        after, _, _ = change.inner(b"", root, changes)
    else:
        after, _, _ = _change_bucket(backing, b"", root if root != EMPTY_ROOT else None, changes)
    return after or EMPTY_ROOT


def _change_bucket(backing: Backing, prefix: bytes, before: bytes | None, changes: Sequence[Change]) -> Subtree:
    pairs = {} if before is None else {pair[:HASH_BYTES]: pair for pair in _bucket(backing, prefix, before)}
    for path, value in changes:
        if value is not None:
            pairs[path] = path + value
        else:
            pairs.pop(path, None)
    return build(backing, prefix, sorted(pairs.values()))


class _Changing:
    """One update, and whether anything goes in it."""

    def __init__(self, backing: Backing, *, shrinks: bool) -> None:
        self._backing, self._shrinks = backing, shrinks

    def inner(self, prefix: bytes, before: bytes, changes: Sequence[Change]) -> Subtree:
        """Most of what a block costs: hashes are exchanged where they stand, and a node is taken apart only if a child comes or goes."""
        backing = self._backing
        node = _stored(backing, prefix, before)
        here, deeper = node[0] << 8 | node[1], node[2] << 8 | node[3]
        after = bytearray(node)
        moved: dict[int, bytes | None] = {}  # children that came, or went
        touched: dict[int, list[Pair] | None] = {}
        for number, group in _groups(changes, len(prefix)):
            bit = 0x8000 >> number
            at = MAPS_BYTES + HASH_BYTES * (here >> (16 - number)).bit_count() if here & bit else 0
            if deeper & bit:
                digest, is_inner, pairs = self.inner(prefix + _DIGITS[number], node[at : at + HASH_BYTES], group)
            else:
                digest, is_inner, pairs = _change_bucket(
                    backing, prefix + _DIGITS[number], node[at : at + HASH_BYTES] if at else None, group
                )
            if at and digest is not None:
                after[at : at + HASH_BYTES] = digest
            elif at or digest is not None:
                moved[number] = digest
            deeper = deeper | bit if is_inner else deeper & ~bit
            touched[number] = pairs
        after[2:MAPS_BYTES] = deeper.to_bytes(2, "big")
        made = bytes(after) if not moved else _moved(bytes(after), moved, deeper)
        if self._shrinks and not deeper and any(value is None for _, value in changes):
            few = _few(backing, prefix, children(made) if made else {}, touched)
            if few is not None:
                backing.drop_node(prefix)
                return build(backing, prefix, few)
        backing.put_node(prefix, made)
        return inner_hash(made), True, None


def _moved(node: bytes, moved: dict[int, bytes | None], deeper: int) -> bytes:
    """A node with other children; nothing, if there is none left."""
    # What has just gone is no inner node any more, and what has come is not here yet: the maps are set apart.
    kept = {number: each.hash for number, each in children(node[:2] + b"\0\0" + node[MAPS_BYTES:]).items()}
    for number, digest in moved.items():
        if digest is None:
            del kept[number]
        else:
            kept[number] = digest
    return inner_bytes({number: Child(digest, bool(deeper & 0x8000 >> number)) for number, digest in kept.items()}) if kept else b""


def build(backing: Backing, prefix: bytes, pairs: list[Pair]) -> Subtree:
    """A subtree of these pairs alone (in order, all beneath `prefix`), its inner nodes put into `backing`."""
    if len(pairs) <= BUCKET_MAX_ENTRIES:
        return bucket_hash(b"".join(pairs)) if pairs else None, False, pairs
    present = {}
    for number, group in _groups([(pair, None) for pair in pairs], len(prefix)):
        digest, deeper, _ = build(backing, prefix + _DIGITS[number], [pair for pair, _ in group])
        assert digest is not None
        present[number] = Child(digest, deeper)
    node = inner_bytes(present)
    backing.put_node(prefix, node)
    return inner_hash(node), True, None


def prove(backing: Backing, root: bytes, key: bytes) -> Proof:
    """A proof of what stands under `key`, or that nothing does. Errors: `E-DATA-CORRUPT`."""
    path = path_of(key)
    inner: list[bytes] = []
    at: Child | None = Child(root, backing.node(b"") is not None)
    prefix = b""
    while at is not None and at.deeper:
        node = _stored(backing, prefix, at.hash)
        inner.append(node)
        number = nibble(path, len(prefix))
        prefix, at = prefix + _DIGITS[number], child(node, number)
    return Proof(tuple(inner), b"" if at is None else b"".join(_bucket(backing, prefix, at.hash)))


def check(backing: Backing, root: bytes) -> Iterator[tuple[bytes, bool]]:
    """Walk the whole tree and compare every node with its parent's hash of it; yields every prefix visited, and whether an inner node is
    there. Errors: `E-DATA-CORRUPT`."""
    waiting: list[tuple[bytes, Child]] = [(b"", Child(root, backing.node(b"") is not None))]
    while waiting:
        prefix, at = waiting.pop()
        yield prefix, at.deeper
        if not at.deeper:
            _bucket(backing, prefix, at.hash)
            continue
        for number, each in children(_stored(backing, prefix, at.hash)).items():
            waiting.append((prefix + _DIGITS[number], each))


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """Below the least path beneath a prefix there is nothing of it (the first), nor above the greatest (the second)."""
    digits = prefix.translate(_HEX).decode()
    return bytes.fromhex(digits + "0" if len(digits) & 1 else digits), bytes.fromhex(digits.ljust(DEPTH_MAX, "f"))


def _groups(changes: Sequence[Change], depth: int) -> Iterator[tuple[int, Sequence[Change]]]:
    """The changes of each child, by the nibble at `depth`."""
    at, shift = depth >> 1, 0 if depth & 1 else 4
    if len(changes) == 1:
        yield changes[0][0][at] >> shift & 15, changes
        return
    numbers = [change[0][at] >> shift & 15 for change in changes]
    low = 0
    while low < len(numbers):
        number = numbers[low]
        high = low + numbers.count(number)  # they rise
        yield number, changes[low:high]
        low = high


def _few(backing: Backing, prefix: bytes, kept: dict[int, Child], touched: dict[int, list[Pair] | None]) -> list[Pair] | None:
    """All pairs of an inner node whose children are buckets, if they fit into one."""
    found: list[Pair] = []
    for number, each in kept.items():
        known = touched.get(number)
        found += _bucket(backing, prefix + _DIGITS[number], each.hash) if known is None else known
        if len(found) > BUCKET_MAX_ENTRIES:
            return None
    return found


def _stored(backing: Backing, prefix: bytes, digest: bytes) -> bytes:
    node = backing.node(prefix)
    if node is None or inner_hash(node) != digest:
        raise _corrupt("inner node", prefix)
    return node


def _bucket(backing: Backing, prefix: bytes, digest: bytes) -> list[Pair]:
    pairs = backing.pairs(prefix, BUCKET_MAX_ENTRIES + 1)
    if bucket_hash(b"".join(pairs)) != digest:
        raise _corrupt("bucket", prefix)
    return pairs


def _corrupt(what: str, prefix: bytes) -> QuStreamError:
    place = "".join(f"{number:x}" for number in prefix) or "the root"
    return fault("E-DATA-CORRUPT", f"the state's {what} at {place} is not what its hash says")
