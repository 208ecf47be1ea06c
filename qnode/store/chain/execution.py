"""What execution leaves on the disk, in one transaction with how far it has got; and the chain's beginning (`proto/spec/state.md` §3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qnode.core.ledger.genesis import begin
from qnode.core.ledger.state import State
from qnode.store.chain import state
from qnode.store.chain.blocks import Blocks, Head
from qnode.store.chain.environment import EXECUTED, PROGRESS_MAX_BYTES, Environment, Table, number_key, put_progress, summed, unsummed
from qnode.store.chain.receipts import Receipts
from qustream.errors import fault
from qustream.model.genesis import Genesis
from qustream.model.receipt import Receipt
from qustream.model.state import Progress
from qustream.model.state import Table as StateTable
from qustream.rules.radix import EMPTY_ROOT
from qustream.rules.radix_tree import Known
from qustream.wire.chain import genesis_digest
from qustream.wire.codec import decode, encode

__all__ = ["ROOTS_KEPT", "Execution", "Left", "is_todays"]

# ⚙ A header names a root at most 32 heights behind with transactions (consensus.md V4), and idle chains some more.
ROOTS_KEPT = 256
FORMAT, FORMAT_KEY, GENESIS_KEY = b"3", b"format", b"genesis"
# Both held transactions in this environment, the first the lowest inner nodes of the state's tree, too.
OLDER_FORMATS = (b"1", b"2")
PROGRESS_KEY = bytes([StateTable.PROGRESS])


def is_todays(environment: Environment) -> bool:
    """Whether there is a chain here, in today's form. Errors: `E-DATA-CORRUPT`."""
    with environment.reading() as txn:
        raw = txn.get(FORMAT_KEY, db=environment.tables.meta)
    return raw is not None and unsummed(FORMAT_KEY, raw) == FORMAT


class _Nothing:
    """The state before genesis."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return []


class Left(NamedTuple):
    """What a block leaves beside the state: receipts, and whose transactions it had, if that is known."""

    receipts: Sequence[Receipt]
    senders: Sequence[bytes] | None


class Execution:
    """Access to the tables inside a transaction that somebody else began."""

    def __init__(self, tables: Table, blocks: Blocks, receipts: Receipts) -> None:
        self._tables, self._blocks, self._receipts = tables, blocks, receipts
        self._known = Known()

    def has_begun(self, txn: Any, genesis: Genesis) -> bool:
        """Whether there is a chain here, which then began from this genesis. Errors: `E-CHAIN-GENESIS`, `E-DATA-CORRUPT`."""
        had, found, digest = self.meta(txn, FORMAT_KEY), self.meta(txn, GENESIS_KEY), genesis_digest(genesis)
        if had is None:
            return False
        if had not in (FORMAT, *OLDER_FORMATS):
            raise fault("E-DATA-CORRUPT", "the chain's database was written by another version of this program")
        if found != digest:
            raise fault("E-CHAIN-GENESIS", f"its genesis is {(found or b'').hex()[:16]}…, the document's {digest.hex()[:16]}…")
        self._blocks.require_bodies(digest, or_none=had != FORMAT)
        return True

    def is_older(self, txn: Any) -> bool:
        """Whether an earlier version has written the chain here, and this one nothing of the state yet. Errors: `E-DATA-CORRUPT`."""
        return self.meta(txn, FORMAT_KEY) in OLDER_FORMATS

    def renew(self, txn: Any) -> None:
        """Before the state is changed: bring what an earlier version has written into today's form, which that one does not read. To look
        at it changes nothing."""
        if self.is_older(txn):
            state.drop_lowest(txn, self._tables)
            head = self._blocks.head(txn)
            self._blocks.move_loose(txn, head.height if head else 0, self.meta(txn, GENESIS_KEY) or b"")
            self._put_meta(txn, FORMAT_KEY, FORMAT)

    def begin(self, txn: Any, genesis: Genesis) -> None:
        """Start from genesis. Errors: `E-LEDGER-FORM`."""
        self.start(txn, genesis)
        self._blocks.begin_bodies(genesis_digest(genesis))
        self._put_meta(txn, GENESIS_KEY, genesis_digest(genesis))

    def start(self, txn: Any, genesis: Genesis) -> None:
        """The state of height 0, in place of any other."""
        state.clear(txn, self._tables)
        self._put_meta(txn, FORMAT_KEY, FORMAT)
        first = State(_Nothing())
        digest = begin(first, genesis)
        changes = first.changes()
        root = state.apply(txn, self._tables, EMPTY_ROOT, changes)
        progress = decode(changes[PROGRESS_KEY] or b"", Progress, max_bytes=PROGRESS_MAX_BYTES)
        self.set_executed(txn, progress, root)
        self._blocks.set_head(txn, Head(0, digest, None))

    def execute(self, txn: Any, changes: Mapping[bytes, bytes | None], progress: Progress, left: Left, named: bytes | None) -> bytes:
        """Everything that the next block changes; the root. `named`: the one a final header says, if one does. Errors: `ValueError` if it
        is not the next block; `E-DATA-CORRUPT` if what is stored is not what it should be, or leads to another root."""
        before = self.executed(txn)
        block = self._blocks.block(txn, progress.height)
        if before is None or progress.height != before.height + 1 or block is None or block.digest != progress.digest:
            raise ValueError(f"height {progress.height} is not the final block to be executed next")
        if changes.get(PROGRESS_KEY) != encode(progress):
            raise ValueError("the state's own progress is another")
        self.renew(txn)
        root = state.apply(txn, self._tables, self.root(txn, before.height) or b"", changes, self._known)
        if named is not None and named != root:
            raise fault("E-DATA-CORRUPT", f"the state after block {progress.height} is not the one that a quorum of validators has")
        self._receipts.put(txn, progress.height, left.receipts, left.senders)
        self.set_executed(txn, progress, root)
        return root

    def set_executed(self, txn: Any, progress: Progress, root: bytes) -> None:
        """The state is that after this block, and its root."""
        key = number_key(progress.height)
        put_progress(txn, self._tables, progress)
        txn.put(key, summed(key, root), db=self._tables.roots)
        if progress.height >= ROOTS_KEPT:
            txn.delete(number_key(progress.height - ROOTS_KEPT), db=self._tables.roots)

    def executed(self, txn: Any) -> Progress | None:
        """The last executed block; None while a snapshot is being taken in. Errors: `E-DATA-CORRUPT`."""
        raw = self.meta(txn, EXECUTED)
        return None if raw is None else decode(raw, Progress, max_bytes=PROGRESS_MAX_BYTES)

    def root(self, txn: Any, height: int) -> bytes | None:
        """Errors: `E-DATA-CORRUPT`."""
        key = number_key(height)
        raw = txn.get(key, db=self._tables.roots)
        return None if raw is None else unsummed(key, raw)

    def meta(self, txn: Any, name: bytes) -> bytes | None:
        """Errors: `E-DATA-CORRUPT`."""
        raw = txn.get(name, db=self._tables.meta)
        return None if raw is None else unsummed(name, raw)

    def _put_meta(self, txn: Any, name: bytes, value: bytes) -> None:
        txn.put(name, summed(name, value), db=self._tables.meta)
