"""Final blocks and their transactions on the disk (`proto/spec/state.md` §3).

`blocks`: height → digest, header, ids. `transactions`: id → bytes. `loose`: final height when it came ‖ id → nothing, for those that are
in no final block yet; `AGAIN` ‖ id → final height when it came again, if it did. `locations`: id → height ‖ place; a block's digest →
height ‖ number of ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta

from qnode.core.consensus_events import Final
from qnode.store.chain.environment import Table, number_key, summed, unsummed
from qustream.errors import fault
from qustream.model.base import Bytes32, Noun
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import BLOCK_TRANSACTIONS_MAX, ChainHeader
from qustream.wire.transactions import transaction_id

__all__ = ["Blocks", "Head", "KeptBlock"]

# A header of 300 bytes and 1,200 ids of 34.
BLOCK_MAX_BYTES = 64 * 1024
# Transactions that no final block took are kept so many blocks: longer than any proposal with them is of use.
LOOSE_BLOCKS = 1024
# What one call takes away at most: more than come in a block.
PRUNED_AT_ONCE_MAX = 2048
PLACE_BYTES = 4  # big endian, so that the order of keys is that of places
AGAIN = b"\xff"  # behind all heights
FINAL = b"final"


class Head(Noun, frozen=True):
    """A final block. `header`: None for block 0, which has none."""

    height: int
    digest: Bytes32
    header: ChainHeader | None


class KeptBlock(Noun, frozen=True):
    """What is stored of a block."""

    digest: Bytes32
    header: ChainHeader
    ids: Annotated[tuple[Bytes32, ...], Meta(max_length=BLOCK_TRANSACTIONS_MAX)]


class Blocks:
    """Access to the tables inside a transaction that somebody else began."""

    def __init__(self, tables: Table) -> None:
        self._tables = tables

    # -- keeping --------------------------------------------------------------------------------------------------------

    def finalise(self, txn: Any, head: Head, blocks: Sequence[Final]) -> Head:
        """Append blocks to those that are final. Errors: `ValueError` for blocks that do not follow the last one; `E-DATA-CORRUPT` for
        another block of a height that is final already."""
        for block in blocks:
            if block.header.height <= head.height:
                self._require_same(txn, block)
                continue
            if block.header.height != head.height + 1 or block.header.parent != head.digest:
                raise ValueError(f"block {block.header.height} does not follow the final block {head.height}")
            self.append(txn, block)
            head = Head(block.header.height, block.digest, block.header)
        self.set_head(txn, head)
        self._drop_loose(txn, head.height - LOOSE_BLOCKS)
        return head

    def _require_same(self, txn: Any, block: Final) -> None:
        kept = self.block(txn, block.header.height)
        if kept is not None and kept.digest != block.digest:
            raise fault("E-DATA-CORRUPT", f"two different blocks of height {block.header.height} are said to be final")

    def append(self, txn: Any, block: Final) -> None:
        """Store a final block."""
        key = number_key(block.header.height)
        txn.put(key, summed(key, encode(KeptBlock(block.digest, block.header, block.ids))), db=self._tables.blocks)
        for place, name in enumerate(block.ids):
            txn.put(name, summed(name, key + place.to_bytes(PLACE_BYTES, "big")), db=self._tables.locations)
        # The block itself is found by its digest, where its own receipt is.
        digest, last = block.digest, len(block.ids).to_bytes(PLACE_BYTES, "big")
        txn.put(digest, summed(digest, key + last), db=self._tables.locations)

    def set_head(self, txn: Any, head: Head) -> None:
        """This is the last final block."""
        txn.put(FINAL, summed(FINAL, encode(head)), db=self._tables.meta)

    def keep_transactions(self, txn: Any, transactions: Sequence[tuple[bytes, bytes]], height: int) -> None:
        """Store them; `height`: of the last final block. What comes again is kept as long as what comes now: or who proposes it a second
        time at the right moment would have it go from all disks while its block becomes final."""
        came, loose = number_key(height), self._tables.loose
        for name, raw in transactions:
            if txn.put(name, raw, db=self._tables.transactions, overwrite=False):
                txn.put(came + name, b"", db=loose)
            elif txn.get(came + name, db=loose) is None and txn.get(name, db=self._tables.locations) is None:
                txn.put(came + name, b"", db=loose)
                txn.put(AGAIN + name, came, db=loose)

    def _drop_loose(self, txn: Any, below: int) -> None:
        cursor = txn.cursor(db=self._tables.loose)
        cursor.first()
        for _ in range(PRUNED_AT_ONCE_MAX):
            key = bytes(cursor.key())  # empty at the end
            if not key or key >= number_key(max(0, below)):
                break
            again = txn.get(AGAIN + key[8:], db=self._tables.loose)
            if again is None or bytes(again) <= key[:8]:
                if txn.get(key[8:], db=self._tables.locations) is None:
                    txn.delete(key[8:], db=self._tables.transactions)
                if again is not None:
                    txn.delete(AGAIN + key[8:], db=self._tables.loose)
            cursor.delete()  # and goes to the next

    # -- looking --------------------------------------------------------------------------------------------------------

    def head(self, txn: Any) -> Head | None:
        """The last final block. Errors: `E-DATA-CORRUPT`."""
        raw = txn.get(FINAL, db=self._tables.meta)
        return None if raw is None else decode(unsummed(FINAL, raw), Head, max_bytes=BLOCK_MAX_BYTES)

    def block(self, txn: Any, height: int) -> KeptBlock | None:
        """Errors: `E-DATA-CORRUPT`."""
        key = number_key(height)
        raw = txn.get(key, db=self._tables.blocks)
        return None if raw is None else decode(unsummed(key, raw), KeptBlock, max_bytes=BLOCK_MAX_BYTES)

    def first(self, txn: Any) -> int:
        """The lowest height that is here; 0 if there is no block."""
        cursor = txn.cursor(db=self._tables.blocks)
        return int.from_bytes(cursor.key(), "big") if cursor.first() else 0

    def transaction(self, txn: Any, name: bytes) -> bytes | None:
        """Errors: `E-DATA-CORRUPT`."""
        raw = txn.get(name, db=self._tables.transactions)
        if raw is not None and transaction_id(raw) != name:
            raise fault("E-DATA-CORRUPT", f"the stored transaction {name.hex()} is not what was written")
        return None if raw is None else bytes(raw)

    def location(self, txn: Any, name: bytes) -> tuple[int, int] | None:
        """Height and place of a transaction, or by its digest of a block's own receipt, in the final chain. Errors: `E-DATA-CORRUPT`."""
        raw = txn.get(name, db=self._tables.locations)
        if raw is None:
            return None
        value = unsummed(name, raw)
        return int.from_bytes(value[:8], "big"), int.from_bytes(value[8:], "big")
