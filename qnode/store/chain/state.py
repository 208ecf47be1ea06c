"""The state on the disk: entries by path, keys in order, the tree's inner nodes (`proto/spec/state.md` §3).

`entries`: path → value hash ‖ length of the key ‖ key ‖ value. `keys`: key → nothing. `nodes`: depth ‖ nibbles → inner node. Buckets, and
inner nodes that have buckets alone, are not stored: they are what stands beneath a prefix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from qnode.store.chain.environment import Table
from qustream.errors import QuStreamError, fault
from qustream.rules.radix import DEPTH_MAX, HASH_BYTES, Pair, is_lowest, path_of, value_hash
from qustream.rules.radix_prefix import prefix_range
from qustream.rules.radix_tree import Change, Known, change

__all__ = [
    "StoredTree",
    "all_entries",
    "apply",
    "clear",
    "clear_beneath",
    "count_lowest",
    "drop_lowest",
    "entries_beneath",
    "get",
    "put_entries",
    "scan",
    "value_of",
]

KEY_AT = HASH_BYTES + 1
# What a node's key begins with. By depth first: the upper nodes, which every block changes, lie together.
_DEPTHS = [bytes((depth,)) for depth in range(DEPTH_MAX + 1)]


class StoredTree:
    """A tree in a transaction (`qustream.rules.radix_tree.Backing`)."""

    def __init__(self, txn: Any, tables: Table) -> None:
        self._txn, self._nodes = txn, tables.nodes
        self._made: dict[bytes, bytes] = {}  # inner nodes that are not stored yet
        self.put_node: Callable[[bytes, bytes], None] = self._made.__setitem__  # called for every node of a block
        self._cursor = txn.cursor(db=tables.entries)

    def node(self, prefix: bytes) -> bytes | None:
        return self._txn.get(_DEPTHS[len(prefix)] + prefix, db=self._nodes)  # type: ignore[no-any-return]  # LMDB has no types

    def drop_node(self, prefix: bytes) -> None:
        self._made.pop(prefix, None)
        self._txn.delete(_DEPTHS[len(prefix)] + prefix, db=self._nodes)

    def flush(self) -> None:
        """Store the inner nodes that were put: all at once, in order."""
        put_all(self._txn, self._nodes, sorted([(_DEPTHS[len(prefix)] + prefix, node) for prefix, node in self._made.items()]))
        self._made.clear()

    def pairs(self, prefix: bytes, limit: int) -> list[Pair]:
        low, last = prefix_range(prefix)
        found: list[Pair] = []
        if self._cursor.set_range(low) if low else self._cursor.first():
            for path, stored in self._cursor.iternext():
                if path > last:
                    break
                found.append(path + stored[:HASH_BYTES])
                if len(found) == limit:
                    break
        return found


def apply(txn: Any, tables: Table, root: bytes, changes: Mapping[bytes, bytes | None], known: Known | None = None) -> bytes:
    """Change the entries and the tree; the root that follows. `known`: from the updates before. Errors: `E-DATA-CORRUPT`."""
    sha256 = hashlib.sha256
    keys = dict(zip(map(path_of, changes), changes, strict=True))
    entries: list[tuple[bytes, bytes]] = []
    moves: list[Change] = []
    for path in sorted(keys):
        key = keys[path]
        value = changes[key]
        if value is None:
            moves.append((path, None))
        else:
            digest = sha256(b"\x00" + value).digest()
            moves.append((path, digest))
            entries.append((path, b"%b%c%b%b" % (digest, len(key), key, value)))
    tree = StoredTree(txn, tables)
    made = change(tree, root, moves, Known() if known is None else known)
    for path in made.went:
        txn.delete(path, db=tables.entries)
        txn.delete(keys[path], db=tables.keys)
    tree.flush()
    put_all(txn, tables.entries, entries)
    put_all(txn, tables.keys, sorted((keys[path], b"") for path in made.came))
    return made.root


def get(txn: Any, tables: Table, key: bytes) -> bytes | None:
    """The value under `key`. Errors: `E-DATA-CORRUPT`."""
    stored = txn.get(path_of(key), db=tables.entries)
    if stored is None:
        return None
    return value_of(key, stored)


def scan(txn: Any, tables: Table, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    """At most `limit` entries whose keys begin with `prefix` and are greater than `after`, in order. Errors: `E-DATA-CORRUPT`."""
    cursor = txn.cursor(db=tables.keys)
    start = max(prefix, after + b"\0") if after else prefix
    if not (cursor.set_range(start) if start else cursor.first()):
        return []
    found = []
    for key in islice(cursor.iternext(values=False), limit):
        key = bytes(key)
        if not key.startswith(prefix):
            break
        value = get(txn, tables, key)
        if value is None:
            raise _damaged(key)
        found.append((key, value))
    return found


def entries_beneath(txn: Any, tables: Table, prefix: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(path, key, value) of everything beneath a prefix, in order of the paths. Errors: `E-DATA-CORRUPT`."""
    low, last = prefix_range(prefix)
    cursor = txn.cursor(db=tables.entries)
    if not (cursor.set_range(low) if low else cursor.first()):
        return
    for path, stored in cursor.iternext():
        if path > last:
            return
        key, value = _opened(stored)
        if path_of(key) != path:
            raise _damaged(key)
        yield bytes(path), key, value


def all_entries(txn: Any, tables: Table) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of everything. Errors: `E-DATA-CORRUPT`."""
    for _, key, value in entries_beneath(txn, tables, b""):
        yield key, value


def put_entries(txn: Any, tables: Table, entries: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
    """Store (path, value hash, key, value) that are new, without the tree: for a snapshot's chunk."""
    for path, digest, key, value in entries:
        txn.put(path, digest + bytes((len(key),)) + key + value, db=tables.entries)
        txn.put(key, b"", db=tables.keys)


def clear(txn: Any, tables: Table) -> None:
    """Take everything out."""
    for table in (tables.entries, tables.keys, tables.nodes, tables.roots):
        txn.drop(table, delete=False)


def clear_beneath(txn: Any, tables: Table, prefix: bytes) -> None:
    """Take out a chunk of a snapshot: the entries beneath a prefix, and the inner nodes there."""
    low, last = prefix_range(prefix)
    cursor = txn.cursor(db=tables.entries)
    found = cursor.set_range(low) if low else cursor.first()
    while found and cursor.key() <= last:
        key, _ = _opened(cursor.value())
        txn.delete(key, db=tables.keys)
        found = cursor.delete() and bool(cursor.key())  # and stands on the next
    cursor = txn.cursor(db=tables.nodes)
    for depth in range(len(prefix), DEPTH_MAX + 1):
        beneath = _DEPTHS[depth] + prefix
        if not cursor.set_range(beneath) or not cursor.key().startswith(beneath):
            return  # nodes have parents
        while cursor.key().startswith(beneath):
            cursor.delete()


def drop_lowest(txn: Any, tables: Table) -> int:
    """Take out the inner nodes that are held no more, since all their children are buckets; how many there were."""
    cursor, gone = txn.cursor(db=tables.nodes), 0
    found = cursor.first()
    while found:
        if is_lowest(cursor.value()):
            gone += 1
            found = cursor.delete() and bool(cursor.key())  # it stands on the next; beyond the last it has no key
        else:
            found = cursor.next()
    return gone


def count_lowest(txn: Any, tables: Table) -> int:
    """How many of the lowest inner nodes are held all the same."""
    return sum(is_lowest(node) for node in txn.cursor(db=tables.nodes).iternext(keys=False))


def value_of(key: bytes, stored: bytes) -> bytes:
    """The value of an entry whose key has to be this one. Errors: `E-DATA-CORRUPT`."""
    end = KEY_AT + stored[HASH_BYTES]
    value = stored[end:]
    if stored[KEY_AT:end] != key or hashlib.sha256(b"\x00" + value).digest() != stored[:HASH_BYTES]:
        raise _damaged(key)
    return value


def _opened(stored: bytes) -> tuple[bytes, bytes]:
    """Key and value of an entry. Errors: `E-DATA-CORRUPT`."""
    end = KEY_AT + stored[HASH_BYTES]
    key, value = stored[KEY_AT:end], stored[end:]
    if value_hash(value) != stored[:HASH_BYTES]:
        raise _damaged(key)
    return key, value


def _damaged(key: bytes) -> QuStreamError:
    return fault("E-DATA-CORRUPT", f"the state's entry {key.hex()} is not what was written")


def put_all(txn: Any, table: Any, items: list[tuple[bytes, bytes]]) -> None:
    """Put many, in order: a fraction of what one call each costs."""
    txn.cursor(db=table).putmulti(items)
