"""Which blocks stand on which certificates, as far as we know (`proto/spec/consensus.md`, C2 and C3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qnode.core.consensus_blocks import Block
from qustream.wire.consensus import ChainHeader

if TYPE_CHECKING:
    from qnode.core.consensus import Consensus

__all__ = ["is_skipped", "parent_for", "stands", "wanted_blocks"]


def stands(core: Consensus, header: ChainHeader) -> bool:
    """Whether a block's parent is notarised, and all views between are skipped."""
    below = header.parent_view
    if below == 0:
        is_based = header.parent == core.blocks.base.digest and core.final_view == 0
    elif below <= core.final_view:
        is_based = header.parent == core.blocks.last_final.digest
    else:
        view = core.views.get(below)
        is_based = view is not None and view.notarised == header.parent
    return is_based and all(is_skipped(core, number) for number in range(below + 1, header.view))


def is_skipped(core: Consensus, number: int) -> bool:
    """Whether there is a skip certificate of this view."""
    view = core.views.get(number)
    return view is not None and view.skipped


def parent_for(core: Consensus, number: int) -> Block | int:
    """The block that the leader of view `number` extends; the view of which a certificate, or the block, is missing for that."""
    for below in range(number - 1, core.final_view, -1):
        view = core.views.get(below)
        if view is not None and view.notarised:
            return core.blocks.get(view.notarised) or below
        if view is None or not view.skipped:
            return below
    return core.blocks.last_final


def wanted_blocks(core: Consensus) -> Iterator[tuple[int, bytes]]:
    """Blocks that are certified, or others stand on, and that are not here: (view, digest)."""
    for proposal in core.orphans.values():
        header = proposal.header
        if header.parent not in core.orphans and header.parent_view > core.final_view:
            yield header.parent_view, header.parent
    for view in core.views.values():
        if view.notarised and view.number > core.final_view and view.notarised not in view.proposals:
            yield view.number, view.notarised
