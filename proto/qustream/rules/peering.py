"""Which links the epoch's seed assigns, and what a gossip message is called (`proto/spec/gossip.md`, §1 and §6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

__all__ = ["ASSIGNED_LINKS", "assigned_peers", "message_id", "offsets", "ring"]

# Half of the links a node opens: nobody can choose to be, or not to be, the neighbour of a node by these.
ASSIGNED_LINKS = 4
_MESSAGE = b"qustream/1/gossip"
_RING = b"qustream/1/peering"
_OFFSET = b"qustream/1/peering/offset"


def _labelled(label: bytes) -> bytes:
    return bytes([len(label)]) + label


_MESSAGE_PREFIX = _labelled(_MESSAGE)


def message_id(topic: int, body: bytes) -> bytes:
    """The id of a gossip message, 32 bytes."""
    return hashlib.sha256(_MESSAGE_PREFIX + bytes([topic]) + body).digest()


def ring(seed: bytes, nodes: Iterable[bytes]) -> list[bytes]:
    """The node ids in the order in which they stand on the epoch's ring."""
    prefix = _labelled(_RING) + seed
    return sorted(nodes, key=lambda node: (hashlib.sha256(prefix + node).digest(), node))


def offsets(seed: bytes, count: int) -> list[int]:
    """The epoch's offsets on a ring of `count` nodes: four different ones, fewer where there are not so many."""
    found: list[int] = []
    k = 0
    while len(found) < min(ASSIGNED_LINKS, count - 1):
        digest = hashlib.sha256(_labelled(_OFFSET) + seed + k.to_bytes(4, "big")).digest()
        offset = int.from_bytes(digest[:8], "big") % (count - 1) + 1
        if offset not in found:
            found.append(offset)
        k += 1
    return found


def assigned_peers(seed: bytes, standing: Sequence[bytes], node: bytes) -> list[bytes]:
    """The nodes to which `node` opens a link because the seed says so. `standing`: what `ring` gave. A node that is not on it has none."""
    try:
        place = standing.index(node)
    except ValueError:
        return []
    return [standing[(place + offset) % len(standing)] for offset in offsets(seed, len(standing))]
