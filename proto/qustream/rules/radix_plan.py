"""A state in chunks, each of which can be checked as soon as it is here (`proto/spec/state.md` §5).

A plan is the upper part of the tree: inner nodes, checked from the root down. What they name and the plan does not hold are the chunks:
whatever stands beneath one prefix, checked against the hash that its parent has of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, NamedTuple

from msgspec import Meta

from qustream.errors import fault
from qustream.model.base import Noun
from qustream.rules.radix import DEPTH_MAX, EMPTY_ROOT, HASH_BYTES, InnerBytes, Pair, children, inner_hash, path_of, value_hash
from qustream.rules.radix_tree import build

__all__ = [
    "CHUNK_BYTES", "CHUNK_MAX_BYTES", "CHUNK_MAX_ENTRIES", "PLAN_MAX_NODES", "Chunk", "ChunkPlace", "ChunkTree", "Plan", "PlanNode",
    "StateEntry", "chunks_of", "divide", "open_chunk",
]  # fmt: skip

# What a chunk holds at most, where its entries can be divided: a piece of a bulk object.
CHUNK_BYTES = 256 * 1024
# One bucket cannot be divided: sixteen entries of the longest values (16 KiB), with their keys.
CHUNK_MAX_BYTES = 288 * 1024
# An entry has a byte of key at least, and counts as eight more.
CHUNK_MAX_ENTRIES = 32_768
# Inner nodes of a plan: one in ~11 chunks, for a state of 40 GB.
PLAN_MAX_NODES = 16_384
# Longest key and value of a table (ledger.md §2): an expiry of 82 bytes, a user's record of 16 KiB.
KEY_MAX_BYTES, VALUE_MAX_BYTES = 255, 17 * 1024
# What an entry costs in a chunk beside key and value.
ENTRY_BYTES = 8
Prefix = Annotated[bytes, Meta(max_length=DEPTH_MAX)]


class PlanNode(Noun, frozen=True):
    """An inner node. `prefix`: nibbles, one a byte."""

    prefix: Prefix
    node: InnerBytes


class Plan(Noun, frozen=True):
    """The upper part of a tree, parents before children; none if all of the state is one chunk."""

    nodes: Annotated[tuple[PlanNode, ...], Meta(max_length=PLAN_MAX_NODES)]


class StateEntry(Noun, frozen=True):
    """A key and its value."""

    key: Annotated[bytes, Meta(min_length=1, max_length=KEY_MAX_BYTES)]
    value: Annotated[bytes, Meta(max_length=VALUE_MAX_BYTES)]


class Chunk(Noun, frozen=True):
    """Everything beneath one prefix, in order of the paths."""

    entries: Annotated[tuple[StateEntry, ...], Meta(max_length=CHUNK_MAX_ENTRIES)]


class ChunkPlace(NamedTuple):
    """Where a chunk stands, and what its parent says of it."""

    prefix: bytes
    hash: bytes
    deeper: bool


class ChunkTree:
    """A backing that takes in what `build` makes: the inner nodes of a chunk."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}

    def put_node(self, prefix: bytes, node: bytes) -> None:
        self.nodes[prefix] = node

    def node(self, prefix: bytes) -> bytes | None:
        return self.nodes.get(prefix)

    def drop_node(self, prefix: bytes) -> None:
        del self.nodes[prefix]

    def pairs(self, prefix: bytes, limit: int) -> list[Pair]:
        return []


def chunks_of(root: bytes, plan: Plan) -> list[ChunkPlace]:
    """The chunks of a state with this root, in order. The plan may be hostile. Errors: `E-PROOF`."""
    nodes = {each.prefix: each.node for each in plan.nodes}
    used: set[bytes] = set()
    out: list[ChunkPlace] = []
    waiting = [ChunkPlace(b"", root, bool(plan.nodes))]
    while waiting:
        place = waiting.pop()
        node = nodes.get(place.prefix) if place.deeper else None
        if node is None:
            # The root's kind is told by nothing above it: whoever has the chunk sees it.
            out.append(place)
            continue
        if inner_hash(node) != place.hash:
            raise fault("E-PROOF", "a node of the plan is not the one its parent names")
        used.add(place.prefix)
        waiting += [ChunkPlace(place.prefix + bytes((number,)), *each) for number, each in sorted(children(node).items(), reverse=True)]
    if len(used) != len(plan.nodes):
        raise fault("E-PROOF", "a plan with nodes that no other names, or one twice")
    return [] if root == EMPTY_ROOT and not plan.nodes else out


def open_chunk(place: ChunkPlace, chunk: Chunk) -> tuple[list[tuple[Pair, StateEntry]], dict[bytes, bytes]]:
    """The pairs and entries of a chunk, and the inner nodes beneath its prefix. The chunk may be hostile. Errors: `E-PROOF`."""
    found = [(path_of(entry.key) + value_hash(entry.value), entry) for entry in chunk.entries]
    pairs = [pair for pair, _ in found]
    paths = [pair[:HASH_BYTES] for pair in pairs]
    digits = "".join(f"{number:x}" for number in place.prefix)
    if any(before >= after for before, after in pairwise(paths)):
        raise fault("E-PROOF", "a chunk out of order")
    if any(not path.hex().startswith(digits) for path in paths):
        raise fault("E-PROOF", "a chunk with what does not belong there")
    tree = ChunkTree()
    digest, deeper = build(tree, place.prefix, pairs)
    if (digest or EMPTY_ROOT) != place.hash or (place.prefix and deeper != place.deeper):
        raise fault("E-PROOF", "a chunk that is not what the state's root stands for")
    return found, tree.nodes


def divide(entries: Iterable[tuple[bytes, int]], is_inner: Callable[[bytes], bool]) -> tuple[list[bytes], list[bytes]]:
    """How to divide a state: the prefixes of the plan's nodes, parents first, and those of the chunks, in order. `entries`: path and bytes
    of each, in order; `is_inner`: whether an inner node stands at a prefix (what is none cannot be divided)."""
    open_parts: list[_Part] = []
    for path, size in entries:
        digits = path.hex()
        while open_parts and not digits.startswith(open_parts[-1].digits):
            _close(open_parts)
        while not open_parts or open_parts[-1].is_inner:
            at = digits[: len(open_parts)]
            open_parts.append(_Part(at, is_inner(_nibbles(at))))
        open_parts[-1].size += size + ENTRY_BYTES
    while len(open_parts) > 1:
        _close(open_parts)
    plan, chunks = open_parts[0].parts() if open_parts else ([], [])
    return [_nibbles(each) for each in plan], [_nibbles(each) for each in chunks]


@dataclass
class _Part:
    """What stands beneath a prefix, as far as it has come by."""

    digits: str
    is_inner: bool
    size: int = 0
    plan: list[str] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)

    def parts(self) -> tuple[list[str], list[str]]:
        """The nodes of the plan and the chunks, now that all of it has come by."""
        if self.size <= CHUNK_BYTES or not self.is_inner:
            return [], [self.digits]
        return [self.digits, *self.plan], self.chunks


def _close(open_parts: list[_Part]) -> None:
    last = open_parts.pop()
    plan, chunks = last.parts()
    open_parts[-1].size += last.size
    open_parts[-1].plan += plan
    open_parts[-1].chunks += chunks


def _nibbles(digits: str) -> bytes:
    return bytes(int(digit, 16) for digit in digits)
