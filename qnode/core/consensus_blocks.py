"""The blocks above the last final one, and what a header alone says of its block (`proto/spec/consensus.md`, §4 and §8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qnode.core.consensus_events import Base, Final
from qnode.core.consensus_limits import EXECUTED_BEHIND, UNEXECUTED_MAX
from qustream.wire.consensus import ChainHeader

__all__ = ["Block", "Blocks"]


@dataclass(frozen=True, slots=True)
class Block:
    """A block as its descendants see it. `is_over`: it is the boundary block of the rotation or comes after it."""

    digest: bytes
    view: int
    height: int
    time_ms: int
    executed: int
    is_over: bool
    header: ChainHeader | None = None
    ids: tuple[bytes, ...] = ()


class Blocks:
    """By digest. The base of the rotation is one of them, with view 0. `reached`: the last final one, if it is another."""

    def __init__(self, base: Base, edge_ms: int, reached: Final | None = None) -> None:
        self.base = Block(base.digest, 0, base.height, base.time_ms, base.executed, is_over=False)
        self.last_final = self.base
        self._edge_ms = edge_ms
        self._blocks = {base.digest: self.base}
        if reached is not None:
            header = reached.header
            self.last_final = self._blocks[reached.digest] = Block(
                reached.digest, header.view, header.height, header.time_ms, header.executed, False, header, reached.ids
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self._blocks)

    def get(self, digest: bytes) -> Block | None:
        return self._blocks.get(digest)

    def add(self, digest: bytes, header: ChainHeader, ids: tuple[bytes, ...]) -> Block | None:
        """A verified block; None while its parent is not here."""
        parent = self._blocks.get(header.parent)
        if parent is None:
            return None
        is_over = parent.is_over or header.time_ms >= self._edge_ms
        block = Block(digest, header.view, header.height, header.time_ms, header.executed, is_over, header, ids)
        self._blocks[digest] = block
        return block

    def fits(self, header: ChainHeader, parent: Block) -> bool:
        """What §4 and §8 ask of a header beside its parent's: view, height, time, execution, number of transactions."""
        return (
            header.parent == parent.digest
            and header.parent_view == parent.view < header.view
            and header.height == parent.height + (0 if parent.is_over else 1)
            and header.time_ms > parent.time_ms
            and parent.executed <= header.executed <= max(parent.executed, parent.height - EXECUTED_BEHIND)
            and (header.count == 0 or not (parent.is_over or header.height - header.executed > UNEXECUTED_MAX))
        )

    def chain_to(self, digest: bytes) -> Sequence[Block] | bytes:
        """The blocks after the last final one up to this, in order; the digest that is missing, if one is; empty bytes if this block does
        not stand on the last final one at all."""
        chain: list[Block] = []
        while digest != self.last_final.digest:
            block = self._blocks.get(digest)
            if block is None:
                return digest
            if block.header is None or block.view <= self.last_final.view:
                return b""
            chain.append(block)
            digest = block.header.parent
        return chain[::-1]

    def finalise(self, chain: Sequence[Block]) -> tuple[Final, ...]:
        """`chain` is final: what of it is to be executed. What is not above it is forgotten."""
        self.last_final = chain[-1]
        boundary = next((place for place, block in enumerate(chain) if block.is_over), len(chain))
        out = [Final(block.digest, block.header, block.ids) for block in chain[: boundary + 1] if block.header is not None]
        self._blocks = {digest: block for digest, block in self._blocks.items() if block.view >= self.last_final.view}
        self._blocks[self.last_final.digest] = self.last_final
        return tuple(out)
