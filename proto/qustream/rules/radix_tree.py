"""Changing the state's tree and reading proofs out of it (`proto/spec/state.md`), over whatever holds its nodes.

Each touched node is read once, checked against the hash its parent has of it, and written once. The root depends on the entries alone: a
bucket above 16 is split, an inner node with no more than 16 beneath it is a bucket again. Inner nodes whose children are all buckets, the
lowest, are not held: nearly all that a block changes are such, and what stands beneath one says what it is.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from qustream.errors import QuStreamError, fault
from qustream.rules.radix import (
    BUCKET_MAX_ENTRIES,
    EMPTY_ROOT,
    HASH_BYTES,
    MAPS_BYTES,
    PAIR_BYTES,
    Child,
    Pair,
    Proof,
    bucket_hash,
    child,
    children,
    inner_bytes,
    inner_hash,
    is_lowest,
    nibble,
    path_of,
)  # fmt: skip
from qustream.rules.radix_prefix import DIGITS, groups, prefix_of

__all__ = [
    "Backing", "Change", "Known", "Proven", "Subtree", "Updated", "Visited", "build", "change", "check", "inner",
    "is_inner", "prove", "update",
]  # fmt: skip

# A path and the hash of its new value, None if the entry goes.
Change = tuple[bytes, bytes | None]
# Beneath one of the lowest inner nodes: as many buckets as it can have.
LOWEST_MAX_ENTRIES = 16 * BUCKET_MAX_ENTRIES
# All inner nodes of a state of 1.5 million entries, three quarters of one of ten: to make one of the lowest anew its entries have to be
# read, up to a hundred. A node has 0.7 KB: 46 MB then, and 6 MB in a state of 200,000.
KNOWN_NODES_MAX = 65_536
KNOWN_BUCKETS_MAX = 8192  # what some blocks touch; a bucket has 0.5 KB mostly


class Backing(Protocol):
    """What holds a tree: its entries, and the inner nodes that have inner nodes beneath them. A prefix is a string of nibbles, one a byte;
    entries are as they were before an `update`."""

    def node(self, prefix: bytes) -> bytes | None:
        """The bytes of the inner node at `prefix`, if one is held."""
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


# What there is beneath a prefix: its hash, None for nothing; whether it is an inner node.
Subtree = tuple[bytes | None, bool]


class Known:
    """Inner nodes and buckets by their hashes, as they were checked or made. What is known by its hash cannot be wrong, whatever became of
    the update that made it; it is only not asked for any more. Bounded; of one thread."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.buckets: dict[bytes, bytes] = {}

    def trim(self) -> None:
        """Forget what was put in longest ago, if it is too many."""
        for held, most in ((self.nodes, KNOWN_NODES_MAX), (self.buckets, KNOWN_BUCKETS_MAX)):
            for digest in list(islice(held, max(0, len(held) - most))):
                del held[digest]


class Updated(NamedTuple):
    """What an update came to. `came`: paths that had no entry before; `went`: paths that have none now."""

    root: bytes
    came: list[bytes]
    went: list[bytes]


def update(backing: Backing, root: bytes, changes: Sequence[Change]) -> bytes:
    """As `change`; the root alone."""
    return change(backing, root, changes, Known()).root


def change(backing: Backing, root: bytes, changes: Sequence[Change], known: Known) -> Updated:
    """The tree after `changes` (rising paths, none twice); `root` is the one before. Errors: `E-DATA-CORRUPT` if what is stored is not what
    `root` stands for."""
    if not changes:
        return Updated(root, [], [])
    made = _Changing(backing, known)
    if root in known.nodes or is_inner(backing, b""):
        after, _ = made.inner(0, root, changes)
    else:
        after, _ = made.bucket(0, root if root != EMPTY_ROOT else None, changes)
    known.trim()
    return Updated(after or EMPTY_ROOT, made.came, made.went)


class _Changing:
    """One update. Nearly all that a block costs is in here: so hashes are exchanged where they stand, nothing is taken apart unless a child
    comes or goes, and what is called for every node is written out."""

    def __init__(self, backing: Backing, known: Known) -> None:
        self._backing, self._put_node = backing, backing.put_node
        self._nodes, self._buckets = known.nodes, known.buckets
        self.came: list[bytes] = []
        self.went: list[bytes] = []

    def inner(self, depth: int, before: bytes, changes: Sequence[Change]) -> Subtree:
        """The subtree of an inner node after its changes."""
        # It is taken out: from now on nothing has this hash, mostly.
        node = made = self._nodes.pop(before, None) or _stored(self._backing, prefix_of(changes[0][0], depth), before)
        here, deeper = node[0] << 8 | node[1], node[2] << 8 | node[3]
        deeper_now, gone = deeper, len(self.went)
        moved: dict[int, bytes | None] = {}  # children that came, or went
        where, shift, size, low = depth >> 1, 0 if depth & 1 else 4, len(changes), 0
        numbers = [change[0][where] >> shift & 15 for change in changes]
        while low < size:
            number = numbers[low]
            high = bisect_right(numbers, number, low)  # they rise
            bit, at = 0x8000 >> number, 0
            digest: bytes | None = None
            if here & bit:
                at = MAPS_BYTES + HASH_BYTES * (here >> (16 - number)).bit_count()
                if high - low == 1:
                    path, value = changes[low]
                    if value is not None:
                        digest = self._exchanged(depth + 1, node[at : at + HASH_BYTES], path, value, deeper & bit)
            if digest is None:
                group = changes[low:high]
                if deeper & bit:
                    digest, is_inner = self.inner(depth + 1, node[at : at + HASH_BYTES], group)
                else:
                    digest, is_inner = self.bucket(depth + 1, node[at : at + HASH_BYTES] if at else None, group)
                deeper_now = deeper_now | bit if is_inner else deeper_now & ~bit
            if at and digest is not None:
                made = made[:at] + digest + made[at + HASH_BYTES :]
            elif at or digest is not None:
                moved[number] = digest
            low = high
        if deeper_now != deeper:
            made = made[:2] + deeper_now.to_bytes(2, "big") + made[MAPS_BYTES:]
        if moved:
            made = _moved(made, moved, deeper_now)
        if deeper or deeper_now or len(self.went) > gone:
            prefix = prefix_of(changes[0][0], depth)
            if len(self.went) > gone and not deeper_now:
                few = self._few(prefix, children(made) if made else {})
                if few is not None:
                    if deeper:
                        self._backing.drop_node(prefix)
                    return self._built(prefix, few)
            if deeper_now:
                self._put_node(prefix, made)
            elif deeper:
                self._backing.drop_node(prefix)
        digest = hashlib.sha256(b"\x02" + made).digest()
        self._nodes[digest] = made
        return digest, True

    def _exchanged(self, depth: int, before: bytes, path: bytes, value: bytes, is_inner: int) -> bytes | None:
        """By far the most frequent: another value for one entry, or one more in a bucket that has room. The hash of the subtree; None, and
        nothing is done, if it becomes one of another form."""
        if not is_inner:
            held = self._buckets.pop(before, None) or _bucket(self._backing, prefix_of(path, depth), before)
            at = held.find(path)
            if at >= 0 and not at % PAIR_BYTES:
                made = held[: at + HASH_BYTES] + value + held[at + PAIR_BYTES :]
            elif len(held) < BUCKET_MAX_ENTRIES * PAIR_BYTES:
                at = 0
                while at < len(held) and held[at : at + HASH_BYTES] < path:
                    at += PAIR_BYTES
                made = held[:at] + path + value + held[at:]
                self.came.append(path)
            else:
                self._buckets[before] = held
                return None
            digest = hashlib.sha256(b"\x01" + made).digest()
            self._buckets[digest] = made
            return digest
        node = self._nodes.pop(before, None) or _stored(self._backing, prefix_of(path, depth), before)
        here = node[0] << 8 | node[1]
        number = path[depth >> 1] & 15 if depth & 1 else path[depth >> 1] >> 4
        bit = 0x8000 >> number
        if here & bit:
            at = MAPS_BYTES + HASH_BYTES * (here >> (16 - number)).bit_count()
            deeper = node[2] << 8 | node[3]
            below = self._exchanged(depth + 1, node[at : at + HASH_BYTES], path, value, deeper & bit)
            if below is not None:
                made = node[:at] + below + node[at + HASH_BYTES :]
                if deeper:
                    self._put_node(prefix_of(path, depth), made)
                digest = hashlib.sha256(b"\x02" + made).digest()
                self._nodes[digest] = made
                return digest
        self._nodes[before] = node
        return None

    def bucket(self, depth: int, before: bytes | None, changes: Sequence[Change]) -> Subtree:
        """The subtree of a bucket, or of none, after its changes."""
        prefix = prefix_of(changes[0][0], depth)
        known = None if before is None else self._buckets.pop(before, None)
        held = known or (b"" if before is None else _bucket(self._backing, prefix, before))
        pairs = {held[at : at + HASH_BYTES]: held[at : at + PAIR_BYTES] for at in range(0, len(held), PAIR_BYTES)}
        for path, value in changes:
            if value is not None:
                if path not in pairs:
                    self.came.append(path)
                pairs[path] = path + value
            elif pairs.pop(path, None) is not None:
                self.went.append(path)
        return self._built(prefix, sorted(pairs.values()))

    def _built(self, prefix: bytes, pairs: list[Pair]) -> Subtree:
        digest, is_inner = build(self._backing, prefix, pairs)
        if digest is not None and not is_inner:
            self._buckets[digest] = b"".join(pairs)
        return digest, is_inner

    def _few(self, prefix: bytes, kept: dict[int, Child]) -> list[Pair] | None:
        """All pairs of an inner node whose children are buckets, if they fit into one."""
        found = b""
        for number, each in kept.items():
            # What this update has made is known, and nowhere else yet.
            found += self._buckets.get(each.hash) or _bucket(self._backing, prefix + DIGITS[number], each.hash)
            if len(found) > BUCKET_MAX_ENTRIES * PAIR_BYTES:
                return None
        return [found[at : at + PAIR_BYTES] for at in range(0, len(found), PAIR_BYTES)]


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
    """A subtree of these pairs alone (in order, all beneath `prefix`), its inner nodes but the lowest put into `backing`."""
    if len(pairs) <= BUCKET_MAX_ENTRIES:
        return bucket_hash(b"".join(pairs)) if pairs else None, False
    present = {}
    for number, group in groups(pairs, len(prefix)):
        digest, deeper = build(backing, prefix + DIGITS[number], group)
        assert digest is not None
        present[number] = Child(digest, deeper)
    node = inner_bytes(present)
    if any(each.deeper for each in present.values()):
        backing.put_node(prefix, node)
    return inner_hash(node), True


def inner(backing: Backing, prefix: bytes) -> bytes | None:
    """The bytes of the inner node at `prefix`, held or made from what stands beneath it; None if there is none. It is not checked."""
    return _held(backing, prefix) or _lowest(backing.pairs(prefix, LOWEST_MAX_ENTRIES + 1), len(prefix))


def is_inner(backing: Backing, prefix: bytes) -> bool:
    """Whether `inner` has one, for a tree that is whole: looked at no further than that takes."""
    return _held(backing, prefix) is not None or len(backing.pairs(prefix, BUCKET_MAX_ENTRIES + 1)) > BUCKET_MAX_ENTRIES


def _held(backing: Backing, prefix: bytes) -> bytes | None:
    """One of the lowest may have been left by an earlier version: what stands beneath it is the truth."""
    node = backing.node(prefix)
    return None if node is None or is_lowest(node) else node


def _lowest(pairs: list[Pair], depth: int) -> bytes | None:
    """The inner node over these pairs, if it is one, and its children are all buckets."""
    if not BUCKET_MAX_ENTRIES < len(pairs) <= LOWEST_MAX_ENTRIES:
        return None
    present = {}
    for number, group in groups(pairs, depth):
        if len(group) > BUCKET_MAX_ENTRIES:
            return None
        present[number] = Child(bucket_hash(b"".join(group)), False)
    return inner_bytes(present)


class Proven(Protocol):
    """Lowest inner nodes by their hashes, as they were made for proofs and checked."""

    def get(self, digest: bytes) -> bytes | None:
        """What has this hash."""
        ...

    def put(self, digest: bytes, node: bytes) -> None:
        """Keep it for a while."""
        ...


def prove(backing: Backing, root: bytes, key: bytes, proven: Proven | None = None) -> Proof:
    """A proof of what stands under `key`, or that nothing does. `proven`: from proofs before. Errors: `E-DATA-CORRUPT`."""
    path, prefix = path_of(key), b""
    nodes: list[bytes] = []
    at: Child | None = Child(root, is_inner(backing, b""))
    while at is not None and at.deeper:
        node = _held(backing, prefix)
        if node is not None:
            _same_node(node, prefix, at.hash)
        elif (node := None if proven is None else proven.get(at.hash)) is None:
            node = _stored(backing, prefix, at.hash)
            if proven is not None:
                proven.put(at.hash, node)
        nodes.append(node)
        number = nibble(path, len(prefix))
        prefix, at = prefix + DIGITS[number], child(node, number)
    return Proof(tuple(nodes), b"" if at is None else _bucket(backing, prefix, at.hash))


class Visited(NamedTuple):
    """A place of a tree that was looked at: whether an inner node is held there, and the entries that were compared there."""

    prefix: bytes
    is_held: bool
    entries: int


def check(backing: Backing, root: bytes) -> Iterator[Visited]:
    """Walk the whole tree and compare every node with its parent's hash of it, and every entry once. Errors: `E-DATA-CORRUPT`."""
    waiting: list[tuple[bytes, Child]] = [(b"", Child(root, is_inner(backing, b"")))]
    while waiting:
        prefix, at = waiting.pop()
        if not at.deeper:
            yield Visited(prefix, False, len(_bucket(backing, prefix, at.hash)) // PAIR_BYTES)
            continue
        node = _held(backing, prefix)
        if node is None:
            pairs = backing.pairs(prefix, LOWEST_MAX_ENTRIES + 1)
            _same_node(_lowest(pairs, len(prefix)), prefix, at.hash)
            yield Visited(prefix, False, len(pairs))
            continue
        for number, each in children(_same_node(node, prefix, at.hash)).items():
            waiting.append((prefix + DIGITS[number], each))
        yield Visited(prefix, True, 0)


def _stored(backing: Backing, prefix: bytes, digest: bytes) -> bytes:
    return _same_node(inner(backing, prefix), prefix, digest)


def _same_node(node: bytes | None, prefix: bytes, digest: bytes) -> bytes:
    if node is None or inner_hash(node) != digest:
        raise _corrupt("inner node", prefix)
    return node


def _bucket(backing: Backing, prefix: bytes, digest: bytes) -> bytes:
    pairs = b"".join(backing.pairs(prefix, BUCKET_MAX_ENTRIES + 1))
    if bucket_hash(pairs) != digest:
        raise _corrupt("bucket", prefix)
    return pairs


def _corrupt(what: str, prefix: bytes) -> QuStreamError:
    place = "".join(f"{number:x}" for number in prefix) or "the root"
    return fault("E-DATA-CORRUPT", f"the state's {what} at {place} is not what its hash says")
