"""Changing the state's tree and reading proofs out of it (`proto/spec/state.md`), over whatever holds its nodes.

Each touched node is read once, checked against the hash its parent has of it, and written once. The root depends on the entries alone: a
bucket above 16 is split, an inner node with no more than 16 beneath it is a bucket again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from qustream.errors import QuStreamError, fault
from qustream.rules.radix import (
    BUCKET_MAX_ENTRIES,
    EMPTY_ROOT,
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
_Ordered = TypeVar("_Ordered", Pair, Change)


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


class Subtree(NamedTuple):
    """What there is beneath a prefix. `hash`: None for nothing; `pairs`: all of them, if it is a bucket."""

    hash: bytes | None
    deeper: bool
    pairs: list[Pair] | None


def update(backing: Backing, root: bytes, changes: Sequence[Change]) -> bytes:
    """The root after `changes` (rising paths, none twice); `root` is the one before. Errors: `E-DATA-CORRUPT` if what is stored is not what
    `root` stands for."""
    if not changes:
        return root
    before = Child(root, backing.node(b"") is not None)
    after = _change(backing, b"", before if root != EMPTY_ROOT else None, changes)
    return after.hash or EMPTY_ROOT


def _change(backing: Backing, prefix: bytes, before: Child | None, changes: Sequence[Change]) -> Subtree:
    if before is None or not before.deeper:
        merged: dict[bytes, bytes | None] = dict(_bucket(backing, prefix, before))
        merged.update(changes)
        return build(backing, prefix, sorted((path, value) for path, value in merged.items() if value is not None))
    kept = _inner(backing, prefix, before)
    touched: dict[int, list[Pair] | None] = {}
    for number, group in _groups(changes, len(prefix)):
        after = _change(backing, prefix + bytes((number,)), kept.get(number), group)
        touched[number] = after.pairs
        if after.hash is None:
            kept.pop(number, None)
        else:
            kept[number] = Child(after.hash, after.deeper)
    if any(value is None for _, value in changes):
        few = _few(backing, prefix, kept, touched)
        if few is not None:
            backing.drop_node(prefix)
            return build(backing, prefix, few)
    node = inner_bytes(kept)
    backing.put_node(prefix, node)
    return Subtree(inner_hash(node), True, None)


def build(backing: Backing, prefix: bytes, pairs: list[Pair]) -> Subtree:
    """A subtree of these pairs alone (rising paths, all beneath `prefix`), its inner nodes put into `backing`."""
    if len(pairs) <= BUCKET_MAX_ENTRIES:
        return Subtree(_hash_of(pairs) if pairs else None, False, pairs)
    present = {}
    for number, group in _groups(pairs, len(prefix)):
        beneath = build(backing, prefix + bytes((number,)), group)
        assert beneath.hash is not None
        present[number] = Child(beneath.hash, beneath.deeper)
    node = inner_bytes(present)
    backing.put_node(prefix, node)
    return Subtree(inner_hash(node), True, None)


def prove(backing: Backing, root: bytes, key: bytes) -> Proof:
    """A proof of what stands under `key`, or that nothing does. Errors: `E-DATA-CORRUPT`."""
    path = path_of(key)
    inner: list[bytes] = []
    at: Child | None = Child(root, backing.node(b"") is not None)
    prefix = b""
    while at is not None and at.deeper:
        node = _stored(backing, prefix, at)
        inner.append(node)
        number = nibble(path, len(prefix))
        prefix, at = prefix + bytes((number,)), child(node, number)
    return Proof(tuple(inner), _joined(_bucket(backing, prefix, at)))


def check(backing: Backing, root: bytes) -> Iterator[tuple[bytes, bool]]:
    """Walk the whole tree and compare every node with its parent's hash of it; yields every prefix visited, and whether an inner node is
    there. Errors: `E-DATA-CORRUPT`."""
    waiting: list[tuple[bytes, Child]] = [(b"", Child(root, backing.node(b"") is not None))]
    while waiting:
        prefix, at = waiting.pop()
        yield prefix, at.deeper
        if not at.deeper:
            _bucket(backing, prefix, at)
            continue
        for number, each in _inner(backing, prefix, at).items():
            waiting.append((prefix + bytes((number,)), each))


def prefix_range(prefix: bytes) -> tuple[bytes, bytes | None]:
    """The least path beneath a prefix, and what all of them are below of; None: there is no such."""
    digits = "".join(f"{number:x}" for number in prefix)
    above = f"{int(digits, 16) + 1:0{len(digits)}x}" if digits else ""
    return _padded(digits), _padded(above) if len(above) == len(digits) and digits else None


def _padded(digits: str) -> bytes:
    return bytes.fromhex(digits + "0" * (len(digits) & 1))


def _groups(changes: Sequence[_Ordered], depth: int) -> Iterator[tuple[int, list[_Ordered]]]:
    """The changes of each child, by the nibble at `depth`."""
    if len(changes) == 1:
        yield nibble(changes[0][0], depth), list(changes)
        return
    low = 0
    while low < len(changes):
        number = nibble(changes[low][0], depth)
        high = low + 1
        if high < len(changes) and nibble(changes[high][0], depth) == number:
            high = bisect_left(changes, number + 1, low, key=lambda change: nibble(change[0], depth))
        yield number, list(changes[low:high])
        low = high


def _few(backing: Backing, prefix: bytes, kept: dict[int, Child], touched: dict[int, list[Pair] | None]) -> list[Pair] | None:
    """All pairs of an inner node, if they fit into a bucket."""
    if any(each.deeper for each in kept.values()):
        return None
    found: list[Pair] = []
    for number in sorted(kept):
        known = touched.get(number)
        found += _bucket(backing, prefix + bytes((number,)), kept[number]) if known is None else known
        if len(found) > BUCKET_MAX_ENTRIES:
            return None
    return found


def _inner(backing: Backing, prefix: bytes, at: Child) -> dict[int, Child]:
    return children(_stored(backing, prefix, at))


def _stored(backing: Backing, prefix: bytes, at: Child) -> bytes:
    node = backing.node(prefix)
    if node is None or inner_hash(node) != at.hash:
        raise _corrupt("inner node", prefix)
    return node


def _bucket(backing: Backing, prefix: bytes, at: Child | None) -> list[Pair]:
    if at is None:
        return []
    pairs = backing.pairs(prefix, BUCKET_MAX_ENTRIES + 1)
    if _hash_of(pairs) != at.hash:
        raise _corrupt("bucket", prefix)
    return pairs


def _joined(pairs: list[Pair]) -> bytes:
    return b"".join([part for pair in pairs for part in pair])


def _hash_of(pairs: list[Pair]) -> bytes:
    return bucket_hash(_joined(pairs))


def _corrupt(what: str, prefix: bytes) -> QuStreamError:
    place = "".join(f"{number:x}" for number in prefix) or "the root"
    return fault("E-DATA-CORRUPT", f"the state's {what} at {place} is not what its hash says")
