"""A state tree in memory, and its root by the definition: what the tree that changes is compared with."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping

from qustream.rules.radix import EMPTY_ROOT, Pair, Proof, path_of, value_hash
from qustream.rules.radix_prefix import prefix_range
from qustream.rules.radix_tree import Known, change, prove

__all__ = ["MemoryTree", "root_by_definition"]


def root_by_definition(entries: Mapping[bytes, bytes]) -> bytes:
    """`proto/spec/state.md` §1 word for word, with nothing of ours."""
    pairs = sorted((hashlib.sha256(k).digest(), hashlib.sha256(b"\x00" + v).digest()) for k, v in entries.items())
    return _node(pairs, 0)[0]


def _node(pairs: list[tuple[bytes, bytes]], depth: int) -> tuple[bytes, bool]:
    if len(pairs) <= 16:
        return hashlib.sha256(b"\x01" + b"".join(path + value for path, value in pairs)).digest(), False
    here = deeper = 0
    hashes = b""
    for number in range(16):
        beneath = [pair for pair in pairs if pair[0].hex()[depth] == f"{number:x}"]
        if beneath:
            digest, is_inner = _node(beneath, depth + 1)
            here |= 1 << (15 - number)
            deeper |= is_inner << (15 - number)
            hashes += digest
    return hashlib.sha256(b"\x02" + here.to_bytes(2, "big") + deeper.to_bytes(2, "big") + hashes).digest(), True


class MemoryTree:
    """Entries and inner nodes in dictionaries."""

    def __init__(self) -> None:
        self.root = EMPTY_ROOT
        self.entries: dict[bytes, bytes] = {}
        self.nodes: dict[bytes, bytes] = {}
        self._pairs: list[Pair] = []
        self.came: list[bytes] = []  # paths that had no entry before the last change, and that have none since
        self.went: list[bytes] = []

    def apply(self, changes: Mapping[bytes, bytes | None], known: Known | None = None) -> bytes:
        """Change the entries and the tree; the new root."""
        ordered = sorted((path_of(key), None if value is None else value_hash(value)) for key, value in changes.items())
        self.root, self.came, self.went = change(self, self.root, ordered, Known() if known is None else known)
        for key, value in changes.items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
        self._pairs = sorted(path_of(key) + value_hash(value) for key, value in self.entries.items())
        return self.root

    def copy(self) -> MemoryTree:
        """The same tree, to go another way with."""
        other = MemoryTree()
        other.root, other.entries, other.nodes, other._pairs = self.root, dict(self.entries), dict(self.nodes), list(self._pairs)
        return other

    def prove(self, key: bytes) -> Proof:
        return prove(self, self.root, key)

    def node(self, prefix: bytes) -> bytes | None:
        return self.nodes.get(prefix)

    def put_node(self, prefix: bytes, node: bytes) -> None:
        self.nodes[prefix] = node

    def drop_node(self, prefix: bytes) -> None:
        del self.nodes[prefix]

    def pairs(self, prefix: bytes, limit: int) -> list[Pair]:
        low, last = prefix_range(prefix)
        start = bisect.bisect_left(self._pairs, low)
        end = bisect.bisect_right(self._pairs, last + b"\xff" * 32)
        return self._pairs[start : min(end, start + limit)]
