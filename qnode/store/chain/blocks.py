"""Final blocks on the disk (`proto/spec/state.md` §3); their transactions' bytes are with `bodies`.

`blocks`: height → digest, header, ids. `locations`: id → height ‖ place; a block's digest → height ‖ number of ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta

from qnode.core.consensus_events import Final
from qnode.store.chain.bodies import AGAIN, FOLDER, Bodies, IsFinal, bodies_missing, sound
from qnode.store.chain.environment import Table, number_key, summed, unsummed
from qustream.errors import QuStreamError, fault
from qustream.model.base import Bytes32, Noun
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import BLOCK_TRANSACTIONS_MAX, ChainHeader

__all__ = ["Blocks", "Head", "KeptBlock"]

# A header of 300 bytes and 1,200 ids of 34.
BLOCK_MAX_BYTES = 64 * 1024
PLACE_BYTES = 4  # big endian, so that the order of keys is that of places
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

    def __init__(self, tables: Table, bodies: Bodies) -> None:
        self._tables, self._bodies = tables, bodies

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

    def keep_transactions(self, txn: Any, transactions: Sequence[tuple[bytes, bytes]], height: int, was_final: IsFinal) -> None:
        """Store them; `height`: of the last final block. They go when no final block has taken them for long; `was_final`: by what the disk
        says, which this transaction may be about to take away, or not after all."""
        here = self._tables.locations
        self._bodies.keep(transactions, height, lambda name: txn.get(name, db=here) is not None or was_final(name))

    def drop_bodies(self, txn: Any, floor: int) -> None:
        """Take away the transactions of blocks below `floor`, which is on the disk already."""

        def ids_at(height: int) -> Sequence[bytes]:
            try:
                block = self.block(txn, height)
            except QuStreamError:  # damaged: `qnode db verify` says so, and the others go on
                return ()
            return () if block is None else block.ids

        self._bodies.drop(self.first(txn), floor, ids_at)

    def begin_bodies(self, genesis: bytes) -> None:
        """A chain begins: whatever transactions are here are another's."""
        self._bodies.begin(genesis)

    def bodies_come_again(self, above: int) -> None:
        """See that those of blocks above this height, which are not here, are taken away when their time comes."""
        self._bodies.come_again(above)

    def require_bodies(self, genesis: bytes, *, or_none: bool) -> None:
        """That they are those of this chain; `or_none`: there may be none. Errors: `E-CHAIN-GENESIS`, `E-DATA-CORRUPT`."""
        found = self._bodies.genesis()
        if found is None and not or_none:
            raise bodies_missing()
        if found not in (None, genesis):
            raise fault("E-CHAIN-GENESIS", f"its transactions ({FOLDER}) are another chain's")

    def move_loose(self, txn: Any, height: int, genesis: bytes) -> None:
        """What an earlier version kept here and no final block has taken goes where it would be put today."""
        self._bodies.belong(genesis)
        tables = self._tables
        names = {key[8:] if key[:1] != AGAIN else key[1:] for key in txn.cursor(db=tables.loose).iternext(values=False)}
        for name in names:
            raw = None if txn.get(name, db=tables.locations) is not None else txn.get(name, db=tables.transactions)
            if raw is not None:
                self._bodies.keep([(name, raw)], height, lambda name: txn.get(name, db=tables.locations) is not None)
                txn.delete(name, db=tables.transactions)
        txn.drop(tables.loose, delete=False)

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

    def transactions(self, txn: Any, names: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are here, by id. Errors: `E-DATA-CORRUPT`."""
        return self._with_left(txn, names, self._bodies.get(names))

    def _with_left(self, txn: Any, names: Sequence[bytes], found: dict[bytes, bytes]) -> dict[bytes, bytes]:
        for name in names if len(found) < len(names) else ():
            if name not in found and (raw := self._left(txn, name)) is not None:
                found[name] = raw
        return found

    def has_left(self, txn: Any) -> bool:
        """Whether an earlier version has left transactions here."""
        return txn.stat(db=self._tables.transactions)["entries"] > 0  # type: ignore[no-any-return]  # LMDB has no types

    def written(self, txn: Any, names: Sequence[bytes]) -> dict[bytes, bytes]:
        """For who writes: as `transactions`, also those that are not on the disk yet. Errors: `E-DATA-CORRUPT`."""
        return self._with_left(txn, names, self._bodies.written(names))

    def _left(self, txn: Any, name: bytes) -> bytes | None:
        """As an earlier version left it."""
        raw = txn.get(name, db=self._tables.transactions)
        return None if raw is None else sound(name, raw)

    def location(self, txn: Any, name: bytes) -> tuple[int, int] | None:
        """Height and place of a transaction, or by its digest of a block's own receipt, in the final chain. Errors: `E-DATA-CORRUPT`."""
        raw = txn.get(name, db=self._tables.locations)
        if raw is None:
            return None
        value = unsummed(name, raw)
        return int.from_bytes(value[:8], "big"), int.from_bytes(value[8:], "big")
