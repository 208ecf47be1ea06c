"""What an offer of a state must be, and a plan as it comes in parts (`proto/spec/sync.md`, §7). No signature is looked at."""

from __future__ import annotations

from collections.abc import Sequence

from qnode.core.sync_run import fits
from qustream.errors import QuStreamError
from qustream.model.state import Progress, Table
from qustream.rules.radix import children, inner_hash, verify
from qustream.rules.radix_plan import PlanNode
from qustream.wire.codec import decode
from qustream.wire.consensus import header_digest
from qustream.wire.snapshot import Offer

__all__ = ["PROGRESS", "PlanParts", "wrong_with"]

PROGRESS = bytes([Table.PROGRESS])
PROGRESS_MAX_BYTES = 512  # a Progress has 110


def wrong_with(offer: Offer, root: bytes, chain: str) -> str:
    """Why nobody who obeys the rules makes this offer; empty if, its headers being final, `root` is that of its block."""
    named, block = offer.headers[0], offer.block
    if (named.executed_root, named.executed) != (root, block.height) or block.chain != chain or not block.height:
        return "an offer of a state that its header does not name"
    if not fits(block, offer.ids):
        return "ids that are not those of the block"
    value = offer.progress.value
    try:
        if value is None or not verify(root, PROGRESS, value, offer.progress.proof):
            return "a state whose progress is not proven"
        progress = decode(value, Progress, max_bytes=PROGRESS_MAX_BYTES)
    except QuStreamError:
        return "a state whose progress is none"
    if (progress.height, progress.digest) != (block.height, header_digest(block)):
        return "a state of another block"
    return ""


class PlanParts:
    """A plan that is coming: each node must be named, with its hash, by one before it."""

    def __init__(self, root: bytes, count: int) -> None:
        self.count = count
        self.nodes: list[PlanNode] = []
        self._named: dict[bytes, bytes] = {b"": root}  # inner nodes that may come, by prefix

    @property
    def is_whole(self) -> bool:
        return len(self.nodes) == self.count

    def take(self, nodes: Sequence[PlanNode]) -> bool:
        """The next ones; whether they can be what they are said to be."""
        if len(self.nodes) + len(nodes) > self.count:
            return False
        for each in nodes:
            if self._named.pop(each.prefix, None) != inner_hash(each.node):
                return False
            try:
                below = children(each.node)
            except QuStreamError:
                return False
            self._named |= {each.prefix + bytes((number,)): child.hash for number, child in below.items() if child.deeper}
            self.nodes.append(each)
        return True
