"""What a new node asks for the state itself, and the answers (`proto/spec/sync.md`, §7). Tags 107, 108, 123 and 124, in requests and their
answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from qustream.model.base import Bytes32, Noun
from qustream.rules.radix import DEPTH_MAX
from qustream.rules.radix_plan import CHUNK_MAX_ENTRIES, PLAN_MAX_NODES, PlanNode, StateEntry
from qustream.wire.codec import Message
from qustream.wire.consensus import BLOCK_TRANSACTIONS_MAX, Certificate, ChainHeader
from qustream.wire.light import ProvenEntry
from qustream.wire.sync import HEADERS_MAX

__all__ = [
    "NEWEST", "SNAPSHOT_ANSWER_MAX_BYTES", "SNAPSHOT_ASK_MAX_BYTES", "ChunkAsk", "ChunkTold", "Offer", "SnapshotAsk", "SnapshotTold",
]  # fmt: skip

# What a response may hold (512 KiB). A certificate of a full set takes 240 KB, its headers 170 KB at most, the ids of a block 41 KB: what
# is left is for the plan. A chunk has 288 KiB, and seven bytes an entry.
SNAPSHOT_ANSWER_MAX_BYTES = 512 * 1024
# A root and a prefix.
SNAPSHOT_ASK_MAX_BYTES = 128
# In place of a root: whichever is the newest.
NEWEST = bytes(32)


class SnapshotAsk(Message, frozen=True, tag=107):
    """Is the state with this root (zeros: the newest there is) given away? Its plan from node `first` on; from 0 on with the offer."""

    root: Bytes32
    first: Annotated[int, Meta(ge=0, le=PLAN_MAX_NODES)]


class Offer(Noun, frozen=True):
    """Why to believe in a root. `headers`: each the parent of the next; the first names the root, the last has the certificate; `block`:
    whose state it is, with its `ids`; `progress`: the state's own word on that, proven under the root."""

    headers: Annotated[tuple[ChainHeader, ...], Meta(min_length=1, max_length=HEADERS_MAX)]
    certificate: Certificate
    block: ChainHeader
    ids: Annotated[tuple[Bytes32, ...], Meta(max_length=BLOCK_TRANSACTIONS_MAX)]
    progress: ProvenEntry


class SnapshotTold(Message, frozen=True, tag=108):
    """`count`: of the plan's nodes; `nodes`: as many as there is room for, from the one asked for on; `offer`: if it was the first."""

    root: Bytes32
    offer: Offer | None
    count: Annotated[int, Meta(ge=0, le=PLAN_MAX_NODES)]
    nodes: Annotated[tuple[PlanNode, ...], Meta(max_length=PLAN_MAX_NODES)]


class ChunkAsk(Message, frozen=True, tag=123):
    """Everything beneath this prefix of the state with this root."""

    root: Bytes32
    prefix: Annotated[bytes, Meta(max_length=DEPTH_MAX)]


class ChunkTold(Message, frozen=True, tag=124):
    """In order of the paths."""

    entries: Annotated[tuple[StateEntry, ...], Meta(max_length=CHUNK_MAX_ENTRIES)]
