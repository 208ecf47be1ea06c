"""A state in chunks: giving one away, and taking one in (`proto/spec/state.md` §5).

While one is being taken in there is no state: `incoming` holds the plan and the prefixes that are still missing. Each chunk is checked and
stored in one transaction, so whatever ends the process, what is here is whole, and the rest is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qnode.core.consensus_events import Final
from qnode.store.chain import state
from qnode.store.chain.blocks import Blocks, Head, KeptBlock
from qnode.store.chain.environment import EXECUTED, Environment, summed, unsummed
from qnode.store.chain.execution import PROGRESS_KEY, Execution
from qnode.store.chain.view import StateView
from qnode.store.chain.writer import ChainWriter
from qustream.errors import fault
from qustream.model.base import Bytes32, Noun
from qustream.model.genesis import Genesis
from qustream.model.state import Progress
from qustream.rules.radix import HASH_BYTES, is_lowest
from qustream.rules.radix_plan import (
    CHUNK_MAX_BYTES,
    PLAN_MAX_NODES,
    Chunk,
    ChunkPlace,
    Plan,
    PlanNode,
    StateEntry,
    chunks_of,
    divide,
    open_chunk,
)
from qustream.rules.radix_tree import inner, is_inner
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import header_digest

__all__ = ["Incoming", "Snapshots", "Taking", "export_chunk", "export_plan"]

# A plan's nodes have 584 bytes each, and there are at most 16,384.
INCOMING_MAX_BYTES = 16 * 1024 * 1024
WHAT = b"\xff"  # after every prefix
# Each of a plan's nodes has sixteen children at most.
PREFIXES_MAX = 16 * PLAN_MAX_NODES


class Incoming(Noun, frozen=True):
    """The snapshot that is being taken in."""

    root: Bytes32
    block: KeptBlock
    plan: Plan


def export_plan(environment: Environment, view: StateView) -> Plan:
    """How to divide the state of `view`. Blocking: looks at every entry. Errors: `E-DATA-CORRUPT`, `E-NOT-HELD`."""
    with view.reading.using() as txn:
        tables = environment.tables
        tree = state.StoredTree(txn, tables)
        sizes = ((path, len(key) + len(value)) for path, key, value in state.entries_beneath(txn, tables, b""))
        prefixes, _ = divide(sizes, lambda prefix: is_inner(tree, prefix))
        plan = Plan(tuple(PlanNode(prefix, inner(tree, prefix) or b"") for prefix in prefixes))
    chunks_of(view.root, plan)  # nobody is given what would be refused
    return plan


def export_chunk(environment: Environment, view: StateView, prefix: bytes) -> Chunk:
    """Everything beneath a prefix of the plan. Errors: `E-NOT-HELD` for one that has too much, `E-DATA-CORRUPT`."""
    found: list[StateEntry] = []
    size = 0
    with view.reading.using() as txn:
        for _, key, value in state.entries_beneath(txn, environment.tables, prefix):
            size += len(key) + len(value)
            if size > CHUNK_MAX_BYTES:
                raise fault("E-NOT-HELD", "that is no chunk of this state")
            found.append(StateEntry(key, value))
    return Chunk(tuple(found))


class Taking:
    """Access to the tables inside a transaction that somebody else began."""

    def __init__(self, environment: Environment, execution: Execution, blocks: Blocks) -> None:
        self._tables, self._execution, self._blocks = environment.tables, execution, blocks

    def begin(self, txn: Any, root: bytes, block: Final, plan: Plan) -> None:
        """Forget genesis' state and take in the one after `block`; of another that is half here, what fits stays. Errors: `E-PROOF`;
        `ValueError` if there is more than genesis."""
        places = chunks_of(root, plan)
        head, executed = self._blocks.head(txn), self._execution.executed(txn)
        if head is None or head.height or (executed is None and self.incoming(txn) is None):
            raise ValueError("a snapshot is taken in where there is no block yet")
        if header_digest(block.header) != block.digest or not block.header.height:
            raise fault("E-PROOF", "the block of the snapshot is not the one it is said to be")
        self._execution.renew(txn)
        kept = self._keep(txn, places)
        txn.drop(self._tables.incoming, delete=False)
        txn.delete(EXECUTED, db=self._tables.meta)
        incoming = Incoming(root, KeptBlock(block.digest, block.header, block.ids), plan)
        txn.put(WHAT, summed(WHAT, encode(incoming)), db=self._tables.incoming)
        for place in places:
            if place.prefix not in kept:
                value = place.hash + bytes((place.deeper,))
                txn.put(b"c" + place.prefix, summed(place.prefix, value), db=self._tables.incoming)

    def _keep(self, txn: Any, places: Sequence[ChunkPlace]) -> set[bytes]:
        """Take out all but the chunks that are here and that stand in these places, too; the prefixes of those."""
        earlier = self.incoming(txn)
        if earlier is None:
            state.clear(txn, self._tables)
            return set()
        wanted, missing = {place.prefix: place for place in places}, set(self.missing(txn, PREFIXES_MAX))
        kept = set()
        for place in chunks_of(earlier.root, earlier.plan):
            if wanted.get(place.prefix) == place and place.prefix not in missing:
                kept.add(place.prefix)
            elif place.prefix not in missing:
                state.clear_beneath(txn, self._tables, place.prefix)
        return kept

    def incoming(self, txn: Any) -> Incoming | None:
        """What is being taken in, if anything is. Errors: `E-DATA-CORRUPT`."""
        raw = txn.get(WHAT, db=self._tables.incoming)
        return None if raw is None else decode(unsummed(WHAT, raw), Incoming, max_bytes=INCOMING_MAX_BYTES)

    def abandon(self, txn: Any, genesis: Genesis) -> None:
        """Begin again from genesis."""
        self._execution.renew(txn)
        txn.drop(self._tables.incoming, delete=False)
        self._execution.start(txn, genesis)

    def missing(self, txn: Any, limit: int) -> list[bytes]:
        """At most `limit` prefixes of chunks that are not here. Errors: `E-DATA-CORRUPT`."""
        cursor = txn.cursor(db=self._tables.incoming)
        found: list[bytes] = []
        for key in cursor.iternext(values=False) if cursor.first() else ():
            if key == WHAT or len(found) >= limit:
                break
            found.append(bytes(key[1:]))
        return found

    def chunk(self, txn: Any, prefix: bytes, chunk: Chunk) -> None:
        """Store a chunk that is missing; one that is here already is no harm. Errors: `E-PROOF`, and nothing of it is stored."""
        raw = txn.get(b"c" + prefix, db=self._tables.incoming)
        if raw is None:
            return
        value = unsummed(prefix, raw)
        self._execution.renew(txn)
        entries, nodes = open_chunk(ChunkPlace(prefix, value[:HASH_BYTES], bool(value[HASH_BYTES])), chunk)
        state.put_entries(txn, self._tables, [(pair[:HASH_BYTES], pair[HASH_BYTES:], entry.key, entry.value) for pair, entry in entries])
        tree = state.StoredTree(txn, self._tables)
        for at, node in nodes.items():
            tree.put_node(at, node)
        tree.flush()
        txn.delete(b"c" + prefix, db=self._tables.incoming)

    def finish(self, txn: Any) -> tuple[Head, Progress]:
        """All chunks are here: it is the state now. Errors: `ValueError` if some are missing; `E-PROOF` if it is another block's state."""
        incoming = self.incoming(txn)
        if incoming is None or self.missing(txn, 1):
            raise ValueError("a snapshot is not complete")
        self._execution.renew(txn)
        tree = state.StoredTree(txn, self._tables)
        for each in incoming.plan.nodes:
            if not is_lowest(each.node):
                tree.put_node(each.prefix, each.node)
        tree.flush()
        raw = state.get(txn, self._tables, PROGRESS_KEY)
        progress = None if raw is None else decode(raw, Progress, max_bytes=INCOMING_MAX_BYTES)
        block = incoming.block
        if progress is None or progress.digest != block.digest or progress.height != block.header.height:
            raise fault("E-PROOF", "the snapshot is not the state after the block it is said to be of")
        head = Head(block.header.height, block.digest, block.header)
        self._execution.set_executed(txn, progress, incoming.root)
        self._blocks.append(txn, Final(block.digest, block.header, block.ids))
        self._blocks.set_head(txn, head)
        txn.drop(self._tables.incoming, delete=False)
        return head, progress


class Snapshots:
    """Snapshots of a store: giving and taking. Everything blocks. Errors of whatever writes: `E-DISK-FULL`, `E-NODE-READONLY` too."""

    def __init__(self, environment: Environment, writer: ChainWriter, taking: Taking, changed: Callable[[], None]) -> None:
        """Use `ChainStore.snapshots`. `changed`: called when there is another state."""
        self._environment, self._writer, self._taking, self._changed = environment, writer, taking, changed

    def plan(self, view: StateView) -> Plan:
        """How to divide a state (one that is certified). Errors: `E-DATA-CORRUPT`, `E-NOT-HELD`."""
        return export_plan(self._environment, view)

    def chunk(self, view: StateView, prefix: bytes) -> Chunk:
        """A chunk of that state. Errors: `E-NOT-HELD`, `E-DATA-CORRUPT`."""
        return export_chunk(self._environment, view, prefix)

    def begin(self, root: bytes, block: Final, plan: Plan) -> None:
        """Take in the state after `block`, with this root, in place of genesis': that a final header names the root, and that the block is
        final, the caller has seen. Errors: `E-PROOF`, `ValueError` if there are blocks already."""
        self._writer.submit(lambda txn: self._taking.begin(txn, root, block, plan), lambda _: self._changed()).result()

    def incoming(self) -> Incoming | None:
        """The one that is being taken in: after a restart, it goes on."""
        with self._environment.reading() as txn:
            return self._taking.incoming(txn)

    def missing(self, limit: int) -> list[bytes]:
        """At most `limit` prefixes of chunks that are not here."""
        with self._environment.reading() as txn:
            return self._taking.missing(txn, limit)

    def take(self, prefix: bytes, chunk: Chunk) -> None:
        """A chunk; on the disk when this returns. Errors: `E-PROOF` if it is not what it should be: somebody else has to be asked."""
        self._writer.submit(lambda txn: self._taking.chunk(txn, prefix, chunk)).result()

    def finish(self) -> None:
        """All chunks are here: the chain goes on after that block. Errors: `E-PROOF`, `ValueError` if some are missing."""
        self._writer.submit(self._taking.finish, lambda _: self._changed()).result()

    def abandon(self, genesis: Genesis) -> None:
        """Begin again from genesis."""
        self._writer.submit(lambda txn: self._taking.abandon(txn, genesis), lambda _: self._changed()).result()
