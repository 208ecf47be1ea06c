"""Rotating identifiers and the tree a grant commits to (`proto/spec/grants.md`).

Who holds the rUID key makes one identifier a request; who does not cannot tell two of them from random numbers, nor link them.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator

from qustream.rules.merkle import Tree

__all__ = ["COUNT_MAX", "NONCE_BYTES", "ruid", "ruid_tree", "ruids", "stripe_count", "stripe_index"]

COUNT_MAX = 1 << 20  # indices a grant: a tree of 2^20 leaves is built in ~3 s and held in 64 MB
# As long as the hash: two grants of one key never share a nonce by chance.
NONCE_BYTES = 32
KEY_BYTES = 32


def ruid(ruid_key: bytes, nonce: bytes, j: int) -> bytes:
    """The 32-byte identifier of request `j`: HMAC-SHA-256(rUID key, nonce ‖ j (4 bytes, big endian)), the grant's nonce."""
    _check(ruid_key, nonce)
    if not 0 <= j < COUNT_MAX:
        raise ValueError(f"an index is 0 to {COUNT_MAX - 1}")
    return hmac.digest(ruid_key, nonce + j.to_bytes(4, "big"), "sha256")


def ruids(ruid_key: bytes, nonce: bytes, count: int) -> Iterator[bytes]:
    """rUID_0 … rUID_(count-1)."""
    _check(ruid_key, nonce)
    if not 1 <= count <= COUNT_MAX:
        raise ValueError(f"a grant has 1 to {COUNT_MAX} indices")
    digest = hmac.digest
    return (digest(ruid_key, nonce + j.to_bytes(4, "big"), "sha256") for j in range(count))


def ruid_tree(ruid_key: bytes, nonce: bytes, count: int) -> Tree:
    """The tree whose leaf data are the `count` rUIDs of a grant; its root is `Grant.root`."""
    return Tree(ruids(ruid_key, nonce, count))


def stripe_count(count: int, stripes: int, stripe: int) -> int:
    """How many of `count` indices belong to `stripe`: those with j mod `stripes` == `stripe`. None if there is no such stripe."""
    return len(range(stripe, count, stripes)) if 0 <= stripe < stripes else 0


def stripe_index(stripes: int, stripe: int, position: int) -> int:
    """The index j at `position` (0, 1, …) of `stripe`."""
    return stripe + position * stripes


def _check(ruid_key: bytes, nonce: bytes) -> None:
    if len(ruid_key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError("an rUID key is 32 bytes, and so is a nonce")
