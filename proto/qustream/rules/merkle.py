"""RFC 6962 Merkle trees over SHA-256 (`proto/spec/grants.md`, "Trees"; RFC 6962 §2.1, RFC 9162 §2.1.3).

Leaves and inner nodes are hashed with different first bytes and without a purpose, so the public vectors of Certificate
Transparency apply.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from qustream.errors import fault

__all__ = ["HASH_BYTES", "SIZE_MAX", "Tree", "leaf_hash", "node_hash", "path", "root", "root_of_path"]

HASH_BYTES = 32  # SHA-256
# A path on the wire has at most 32 hashes (`qustream.model.base.Path`).
SIZE_MAX = 1 << 32


def leaf_hash(data: bytes) -> bytes:
    """The 32-byte hash of a leaf's data: SHA-256(0x00 ‖ data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The 32-byte hash of an inner node: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A whole tree in memory, for many paths: 64 bytes a leaf, each level one string of hashes.

    Pairing level by level and lifting an odd last hash unchanged gives the same root as RFC 6962's recursive definition.
    """

    __slots__ = ("_levels", "size")

    def __init__(self, leaves: Iterable[bytes]) -> None:
        """`leaves`: the leaf data in order, at most `SIZE_MAX`."""
        sha256 = hashlib.sha256
        # Appending keeps the peak at the size of the tree: a list of a million hashes would take three times as much.
        level = bytearray()
        for data in leaves:
            level += sha256(b"\x00" + data).digest()
        self.size = len(level) // HASH_BYTES
        self._levels = [bytes(level)]
        while len(self._levels[-1]) > HASH_BYTES:
            below, level = self._levels[-1], bytearray()
            paired = len(below) - len(below) % (2 * HASH_BYTES)
            for at in range(0, paired, 2 * HASH_BYTES):
                level += sha256(b"\x01" + below[at : at + 2 * HASH_BYTES]).digest()
            level += below[paired:]
            self._levels.append(bytes(level))

    @property
    def root(self) -> bytes:
        """The 32-byte root; of no leaves SHA-256 of nothing."""
        return self._levels[-1] or hashlib.sha256().digest()

    def path(self, index: int) -> tuple[bytes, ...]:
        """The audit path of leaf `index`, from the leaf upwards. `IndexError` if there is no such leaf."""
        if not 0 <= index < self.size:
            raise IndexError(f"leaf {index} of a tree of {self.size}")
        steps = []
        for level in self._levels[:-1]:
            at = (index ^ 1) * HASH_BYTES
            if at < len(level):
                steps.append(level[at : at + HASH_BYTES])
            index >>= 1
        return tuple(steps)

    def __repr__(self) -> str:
        return f"<Tree of {self.size}>"


def root(leaves: Sequence[bytes]) -> bytes:
    """The 32-byte root over the leaf data `leaves`."""
    return Tree(leaves).root


def path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The audit path of leaf `index` of the leaf data `leaves`; for more than one path of a tree keep a `Tree`."""
    return Tree(leaves).path(index)


def root_of_path(leaf: bytes, index: int, size: int, steps: Sequence[bytes]) -> bytes:
    """The root that leaf hash `leaf` at `index` of `size` leaves leads to along `steps` (RFC 9162 §2.1.3.2).

    Every argument may be hostile. Errors: `E-PROOF` if index, size and path length contradict each other.
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise fault("E-PROOF", f"leaf {index} in a tree of {size}")
    here, last, value = index, size - 1, leaf
    for step in steps:
        if last == 0:
            raise fault("E-PROOF", "the path is longer than the tree is high")
        if here & 1 or here == last:
            value = node_hash(step, value)
            # A lifted node has no sibling on these levels: RFC 6962 skips them.
            while not here & 1 and here:
                here >>= 1
                last >>= 1
        else:
            value = node_hash(value, step)
        here >>= 1
        last >>= 1
    if last != 0:
        raise fault("E-PROOF", "the path is shorter than the tree is high")
    return value
