"""What stands between an executed state and a block, on the block's own chain (`proto/spec/consensus.md`, §4).

Blocks above the last final one are the core's; below it there is one chain, and it is on the disk. Descendants of a boundary block are
left out: they are never executed.
"""

from __future__ import annotations

from collections.abc import Sequence

from qnode.core.consensus_blocks import Block, Blocks
from qnode.core.ledger import leading, rotations
from qnode.core.ledger.state import State
from qnode.service.chain import Chain
from qustream.wire.chain import rotation_set_hash
from qustream.wire.consensus import NO_DIGEST, ChainHeader

__all__ = ["Lineage", "anchor_for", "lineage", "next_set_for"]

# Oldest first: header and ids.
Lineage = Sequence[tuple[ChainHeader, tuple[bytes, ...]]]


def lineage(chain: Chain, blocks: Blocks, parent: bytes, above: int) -> Lineage | None:
    """The blocks from above height `above` up to the block `parent`; None while one of them is not on the disk yet, and for ever if the
    core has forgotten the parent: another is final in its place."""
    found: list[tuple[ChainHeader, tuple[bytes, ...]]] = []
    block, height = blocks.get(parent), above
    if block is None:
        return None
    while block is not None and block.header is not None and block.height > above:
        below = blocks.get(block.header.parent)
        if not _is_beyond_the_edge(block, below):
            found.append((block.header, block.ids))
        height, block = block.height - 1, below
    if block is not None:  # the base, or what is executed
        height = block.height
    for number in range(height, above, -1):
        header = chain.store.header_at(number)
        if header is None:
            return None
        found.append((header, chain.store.ids_at(number) or ()))
    return found[::-1]


def _is_beyond_the_edge(block: Block, below: Block | None) -> bool:
    return below is not None and below.is_over and block.height == below.height


def anchor_for(chain: Chain, between: Lineage, executed: int, licence: bytes) -> bytes | None:
    """V6: what the next reveal of a licence is the preimage of, after the state of height `executed` and the blocks since; None if it has
    nothing to reveal. Where that state is not held any more (after a restart), the newest tells as much, but for a hash chain that was
    replaced in between."""
    view = chain.view_at(executed)
    if view is not None:
        return leading.next_anchor(State(view), [header for header, _ in between], licence)
    newest = chain.executed.height
    return leading.next_anchor(chain.state(), [header for header, _ in between if header.height > newest], licence)


def next_set_for(chain: Chain, rotation: int, executed: int) -> bytes:
    """V7: what a header of `rotation` says of the next one's set. That is made with the base of `rotation`."""
    state = chain.state()
    begun, coming = rotations.find(state, rotation), rotations.find(state, rotation + 1)
    if begun is None or coming is None or executed < begun.base_height:
        return NO_DIGEST
    return rotation_set_hash(rotation + 1, coming.seats, coming.seed)
