"""What became of transactions, and whose they were (`proto/spec/state.md` §3).

`receipts`: height ‖ place → receipt; the last of a height is the block's own. `history`: account, licence or `market` ‖ height ‖ place →
nothing. Derived from blocks by everybody for himself: what is old may be taken away (`prune`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from qnode.store.chain.blocks import Blocks
from qnode.store.chain.environment import Table, number_key, summed, unsummed
from qnode.store.chain.state import put_all
from qustream.model.ids import ACCOUNT_BYTES, LICENCE_BYTES
from qustream.model.receipt import Receipt
from qustream.wire.codec import decode, encode
from qustream.wire.transactions import Body, Transaction

__all__ = ["MARKET", "Receipts"]

PLACE_BYTES = 4  # big endian, so that the order of keys is that of places
# Whose history is kept: names are told apart by their length.
NAME_BYTES = (ACCOUNT_BYTES, LICENCE_BYTES)
# What was sold has a history under a name of its own: what licences have cost.
MARKET, SOLD = b"market", "licence-bought"
# 1,024 events of at most 220 bytes.
RECEIPT_MAX_BYTES = 256 * 1024
PRUNED = b"pruned"
_TRANSACTION, _BODY = msgspec.msgpack.Decoder(Transaction), msgspec.msgpack.Decoder(Body)


class Receipts:
    """Access to the tables inside a transaction that somebody else began."""

    def __init__(self, tables: Table, blocks: Blocks) -> None:
        self._tables, self._blocks = tables, blocks

    def put(self, txn: Any, height: int, receipts: Sequence[Receipt], senders: Sequence[bytes] | None = None) -> None:
        """Store those of a block. `senders`: of its transactions, in order; who does not know them lets them be looked up."""
        made, named = [], []
        # The last receipt is the block's own, which nobody has sent.
        by = self._senders(txn, receipts) if senders is None else [*senders, None]
        for place, receipt in enumerate(receipts):
            key = _key(height, place)
            made.append((key, summed(key, encode(receipt))))
            named += [(account + key, b"") for account in _accounts(receipt, by[place])]
        put_all(txn, self._tables.receipts, made)
        put_all(txn, self._tables.history, sorted(named))

    def _senders(self, txn: Any, receipts: Sequence[Receipt]) -> list[bytes | None]:
        raws = self._blocks.written(txn, [receipt.id for receipt in receipts])
        # They have been checked when they came.
        found = {name: _BODY.decode(_TRANSACTION.decode(raw).body).sender for name, raw in raws.items()}
        return [found.get(receipt.id) for receipt in receipts]

    def prune(self, txn: Any, below: int, limit: int) -> int:
        """Take away receipts of at most `limit` heights below `below`; how many heights it were. Their bodies may go from then on."""
        # A chain that began with a snapshot has nothing below its first block.
        start = max(self.pruned_below(txn), self._blocks.first(txn))
        heights = range(start, max(start, min(below, start + limit)))
        for height in heights:
            receipts = self.at(txn, height)
            for place, (receipt, sender) in enumerate(zip(receipts, self._senders(txn, receipts), strict=True)):
                key = _key(height, place)
                for account in _accounts(receipt, sender):
                    txn.delete(account + key, db=self._tables.history)
                txn.delete(key, db=self._tables.receipts)
            block = self._blocks.block(txn, height)
            for name in block.ids if block is not None else ():
                txn.delete(name, db=self._tables.transactions)
                txn.delete(name, db=self._tables.locations)
        if heights:
            txn.put(PRUNED, summed(PRUNED, number_key(heights.stop)), db=self._tables.meta)
        return len(heights)

    def pruned_below(self, txn: Any) -> int:
        """The lowest height whose bodies and receipts are here."""
        raw = txn.get(PRUNED, db=self._tables.meta)
        return 1 if raw is None else int.from_bytes(unsummed(PRUNED, raw), "big")

    def at(self, txn: Any, height: int) -> tuple[Receipt, ...]:
        """Those of a block, the block's own the last; none if it was not executed, or long ago. Errors: `E-DATA-CORRUPT`."""
        found = []
        cursor = txn.cursor(db=self._tables.receipts)
        if cursor.set_range(number_key(height)):
            for key, raw in cursor.iternext():
                if key[:8] != number_key(height):
                    break
                found.append(_receipt(bytes(key), raw))
        return tuple(found)

    def one(self, txn: Any, height: int, place: int) -> Receipt | None:
        """Errors: `E-DATA-CORRUPT`."""
        key = _key(height, place)
        raw = txn.get(key, db=self._tables.receipts)
        return None if raw is None else _receipt(key, raw)

    def history(self, txn: Any, account: bytes, before: tuple[int, int] | None, limit: int) -> list[tuple[int, int, Receipt]]:
        """(height, place, receipt) of an account, the newest first, those before a (height, place) alone. Errors: `E-DATA-CORRUPT`."""
        found: list[tuple[int, int, Receipt]] = []
        above = account + (b"\xff" * (8 + PLACE_BYTES) if before is None else _key(*before))
        cursor = txn.cursor(db=self._tables.history)
        going = cursor.prev() if cursor.set_range(above) else cursor.last()
        while going and len(found) < limit:
            key = bytes(cursor.key())
            if not key.startswith(account):
                break
            going = cursor.prev()
            if len(key) != len(account) + 8 + PLACE_BYTES:
                continue  # a longer name that begins alike is another's
            height, place = int.from_bytes(key[-12:-PLACE_BYTES], "big"), int.from_bytes(key[-PLACE_BYTES:], "big")
            receipt = self.one(txn, height, place)
            if receipt is not None:
                found.append((height, place, receipt))
        return found


def _accounts(receipt: Receipt, sender: bytes | None) -> set[bytes]:
    """Whose history a receipt belongs to: the sender's, every account's and licence's that an event names, and the market's."""
    named = set() if sender is None else {sender}
    for event in receipt.events:
        if len(event.subject) in NAME_BYTES:
            named.add(event.subject)
        if len(event.other) in NAME_BYTES:
            named.add(event.other)
        if event.name == SOLD:
            named.add(MARKET)
    return named


def _key(height: int, place: int) -> bytes:
    return number_key(height) + place.to_bytes(PLACE_BYTES, "big")


def _receipt(key: bytes, raw: bytes) -> Receipt:
    return decode(unsummed(key, raw), Receipt, max_bytes=RECEIPT_MAX_BYTES)
