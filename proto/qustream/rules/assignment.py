"""Which nodes serve a request: ranks by weighted rendezvous (`proto/spec/assignment.md`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Protocol, TypeVar

from qustream.model.keys import PublicKey
from qustream.model.network import Grant, NodeClass, NodeRecord
from qustream.rules.rendezvous import cost, cost_floor

__all__ = ["GRANT_EPOCHS", "PER_CLASS", "RANKS", "Rankable", "draw", "is_assigned", "ranked", "ranked_listed"]

PER_CLASS = 3  # blocks a class and request: any two of three open, so one node may fail
RANKS = 5  # whom a request may go to: two spare nodes a class
GRANT_EPOCHS = 2  # a grant is good in the epoch whose seed assigns its nodes, and in the next
PURPOSE = b"qustream/1/assignment"


class Rankable(Protocol):
    """As much of a node as its rank depends on, beside its id."""

    @property
    def active(self) -> bool: ...
    @property
    def node_class(self) -> NodeClass: ...
    @property
    def licence(self) -> bytes: ...
    @property
    def operator(self) -> str: ...
    @property
    def weight(self) -> int: ...


_T = TypeVar("_T", bound=Rankable)


@lru_cache(maxsize=8192)  # above the licence cap of 4,732; an id costs a hash over 2 KB, and every request ranks every node
def _id(key: PublicKey) -> bytes:
    return key.id


def _prefix(grant: Grant, j: int, node_class: NodeClass, epoch_seed: bytes) -> bytes:
    if len(epoch_seed) != 32:
        raise ValueError("an epoch seed is 32 bytes")
    return bytes([len(PURPOSE)]) + PURPOSE + epoch_seed + grant.grant + j.to_bytes(4, "big") + bytes([node_class])


def draw(grant: Grant, j: int, node_class: NodeClass, epoch_seed: bytes, node: bytes) -> int:
    """The 64-bit number the node with id `node` draws for request (grant, j): the first 8 bytes of a SHA-256."""
    digest = hashlib.sha256(_prefix(grant, j, node_class, epoch_seed) + node).digest()
    return int.from_bytes(digest[:8], "big")


def ranked(nodes: Iterable[NodeRecord], grant: Grant, j: int, node_class: NodeClass, epoch_seed: bytes) -> list[NodeRecord]:
    """The nodes of `node_class` that may serve (grant, j), best first: at most `RANKS`, no two of one operator.

    `nodes`: the registry's at the grant's epoch, in any order and of any class; inactive ones are passed over. `epoch_seed`: 32
    bytes, of the epoch `grant.epoch`.
    """
    return _ranked(nodes, _prefix(grant, j, node_class, epoch_seed), node_class, grant.pinned, lambda node: _id(node.key))


def ranked_listed(
    nodes: Iterable[_T], grant: Grant, j: int, node_class: NodeClass, epoch_seed: bytes, *, identity: Callable[[_T], bytes]
) -> list[_T]:
    """As `ranked`, of whatever knows its id: `identity`."""
    return _ranked(nodes, _prefix(grant, j, node_class, epoch_seed), node_class, grant.pinned, identity)


def _ranked(
    nodes: Iterable[_T], message: bytes, node_class: NodeClass, pinned_licence: bytes | None, identity: Callable[[_T], bytes]
) -> list[_T]:
    """The rule itself. `message`: what each id is hashed behind."""
    prefix = hashlib.sha256(message)
    candidates = []
    for node in nodes:
        if node.active and node.node_class is node_class:
            name = identity(node)
            hashed = prefix.copy()
            hashed.update(name)
            drawn = int.from_bytes(hashed.digest()[:8], "big")
            pinned = pinned_licence is not None and node.licence == pinned_licence
            candidates.append((-1 if pinned else cost_floor(drawn, node.weight), name, drawn, pinned, node))
    # Exact costs are dear. In order of their floors, nobody after the first floor above the RANKS-th best cost can still win.
    candidates.sort(key=lambda candidate: candidate[:2])
    best: dict[str, tuple[int, bytes, _T]] = {}
    for floor, name, drawn, pinned, node in candidates:
        if len(best) >= RANKS and floor > sorted(entry[0] for entry in best.values())[RANKS - 1]:
            break
        entry = (-1 if pinned else cost(drawn, node.weight), name, node)
        if node.operator not in best or entry[:2] < best[node.operator][:2]:
            best[node.operator] = entry
    return [node for _, _, node in sorted(best.values(), key=lambda entry: entry[:2])[:RANKS]]


def is_assigned(nodes: Iterable[NodeRecord], grant: Grant, j: int, node: bytes, epoch_seed: bytes) -> bool:
    """Whether the node with id `node` is among the ranks of its class for (grant, j). Arguments otherwise as for `ranked`."""
    known = list(nodes)
    classes = {record.node_class for record in known if _id(record.key) == node}
    return any(_id(winner.key) == node for each in classes for winner in ranked(known, grant, j, each, epoch_seed))
