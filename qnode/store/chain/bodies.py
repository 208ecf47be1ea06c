"""Transactions' bytes, in an LMDB environment of their own beside the chain's (`proto/spec/state.md` §3).

Most of what a chain's disk holds is written once and read as a whole. In one file with the state, which is changed in single pages, each
takes the other's free pages: the state would spread over all of it, and be written in more pieces from block to block.

`transactions`: id → bytes. `loose`: final height when it came ‖ id → nothing, until it is known to stand in a final block; `AGAIN` ‖ id →
final height when it came again, if it did. What is put here is on the disk before what names it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from qnode.store.chain.environment import BODY_TABLES, Environment, number_key, summed, unsummed
from qustream.errors import fault
from qustream.identity.files import make_directory
from qustream.wire.transactions import transaction_id

__all__ = ["FOLDER", "Bodies", "BodiesFull"]

FOLDER = "bodies"
# Transactions that no final block took are kept so many blocks: longer than any proposal with them is of use.
LOOSE_BLOCKS = 1024
# What one call takes away at most: more than come in a block.
PRUNED_AT_ONCE_MAX = 2048
AGAIN = b"\xff"  # behind all heights
DROPPED = b"dropped"

# Whether a transaction stands in a final block.
IsFinal = Callable[[bytes], bool]


class BodiesFull(lmdb.MapFullError):
    """This environment's map is too small, not the chain's."""


class Bodies:
    """One thread writes: what it has put and not committed yet, it alone sees. Any may read."""

    def __init__(self, environment: Environment | None) -> None:
        """None: there is no such environment, since an earlier version has written the chain."""
        self._environment = environment
        self._txn: Any = None

    @classmethod
    def open(cls, chain: Path, map_bytes: int) -> Bodies:
        """Those of the chain in this directory, or none yet. Errors: as `Environment.open`."""
        path = chain / FOLDER
        if not path.is_dir():
            make_directory(path)
        return cls(Environment.open(path, map_bytes, names=BODY_TABLES))

    @classmethod
    def look_at(cls, chain: Path) -> Bodies:
        """As `open`, to be read alone."""
        path = chain / FOLDER
        return cls(Environment.open(path, 0, readonly=True, names=BODY_TABLES) if (path / "data.mdb").exists() else None)

    def close(self) -> None:
        """Let go of it."""
        if self._environment is not None:
            self._environment.close()

    # -- writing: of the chain's writer alone ---------------------------------------------------------------------------

    def keep(self, transactions: Sequence[tuple[bytes, bytes]], height: int, is_final: IsFinal) -> None:
        """Store (id, bytes); `height`: of the last final block. What comes again is kept as long as what comes now: or who proposes it a
        second time at the right moment would have it go from all disks while its block becomes final. And what has been loose for too long
        goes. Errors: `BodiesFull`."""
        with self._writing() as (txn, tables):
            came = number_key(height)
            for name, raw in transactions:
                if txn.put(name, raw, db=tables.transactions, overwrite=False):
                    txn.put(came + name, b"", db=tables.loose)
                elif txn.get(came + name, db=tables.loose) is None and not is_final(name):
                    txn.put(came + name, b"", db=tables.loose)
                    txn.put(AGAIN + name, came, db=tables.loose)
            self._drop_loose(txn, tables, number_key(max(0, height - LOOSE_BLOCKS)), is_final)

    def _drop_loose(self, txn: Any, tables: Any, below: bytes, is_final: IsFinal) -> None:
        cursor = txn.cursor(db=tables.loose)
        cursor.first()
        for _ in range(PRUNED_AT_ONCE_MAX):
            key = cursor.key()  # empty at the end
            if not key or key >= below:
                break
            again = txn.get(AGAIN + key[8:], db=tables.loose)
            if again is None or again <= key[:8]:
                if not is_final(key[8:]):
                    txn.delete(key[8:], db=tables.transactions)
                if again is not None:
                    txn.delete(AGAIN + key[8:], db=tables.loose)
            cursor.delete()  # and goes to the next

    def drop(self, floor: int, limit: int, ids_at: Callable[[int], Iterable[bytes]]) -> None:
        """Take away those of at most `limit` heights below `floor`; `ids_at`: of a block. That they go is on the disk already: the chain
        says so, and was committed. Errors: `BodiesFull`."""
        with self._writing() as (txn, tables):
            start = _dropped(txn, tables)
            heights = range(start, max(start, min(floor, start + limit)))
            for height in heights:
                for name in ids_at(height):
                    txn.delete(name, db=tables.transactions)
            if heights:
                txn.put(DROPPED, summed(DROPPED, number_key(heights.stop)), db=tables.meta)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Any, Any]]:
        assert self._environment is not None
        try:
            if self._txn is None:
                self._txn = self._environment.begin()
            yield self._txn, self._environment.tables
        except lmdb.MapFullError:
            raise BodiesFull(FOLDER) from None

    def commit(self) -> None:
        """What has been put is on the disk. Errors: `BodiesFull`, `lmdb.Error`."""
        txn, self._txn = self._txn, None
        if txn is not None:
            try:
                txn.commit()
            except lmdb.MapFullError:
                raise BodiesFull(FOLDER) from None

    def abort(self) -> None:
        """Take back what has not been committed. Harmless when repeated."""
        txn, self._txn = self._txn, None
        if txn is not None:
            txn.abort()

    def grow(self, to_bytes: int) -> None:
        """Make the map larger; nothing may be uncommitted. Errors: `lmdb.Error`."""
        assert self._environment is not None
        self._environment.grow(to_bytes)

    def written(self, name: bytes) -> bytes | None:
        """For the writer: one that it has put, or that was there. Errors: `E-DATA-CORRUPT`."""
        if self._txn is None or self._environment is None:
            return self.get([name]).get(name)
        raw = self._txn.get(name, db=self._environment.tables.transactions)
        return None if raw is None else sound(name, raw)

    # -- reading --------------------------------------------------------------------------------------------------------

    def get(self, names: Iterable[bytes]) -> dict[bytes, bytes]:
        """Those that are here, by id. Errors: `E-DATA-CORRUPT`."""
        if self._environment is None:
            return {}
        table = self._environment.tables.transactions
        with self._environment.reading() as txn:
            return {name: sound(name, raw) for name in names if (raw := txn.get(name, db=table)) is not None}

    def dropped_below(self) -> int:
        """The lowest height whose bodies have not been taken away. Errors: `E-DATA-CORRUPT`."""
        if self._environment is None:
            return 1
        with self._environment.reading() as txn:
            return _dropped(txn, self._environment.tables)

    def info(self) -> dict[str, int]:
        """As `Environment.info`."""
        return {"map_bytes": 0, "used_bytes": 0} if self._environment is None else self._environment.info()

    def entries(self) -> dict[str, int]:
        """How many entries each table has."""
        return {} if self._environment is None else self._environment.entries()

    def backup(self, chain: Path) -> None:
        """A copy into the chain's copy there. Errors: as `Environment.backup`."""
        if self._environment is not None:
            self._environment.backup(chain / FOLDER)


def sound(name: bytes, raw: bytes) -> bytes:
    """The bytes of a transaction. Errors: `E-DATA-CORRUPT` if they are another's."""
    if transaction_id(raw) != name:
        raise fault("E-DATA-CORRUPT", f"the stored transaction {name.hex()} is not what was written")
    return bytes(raw)


def _dropped(txn: Any, tables: Any) -> int:
    raw = txn.get(DROPPED, db=tables.meta)
    return 1 if raw is None else int.from_bytes(unsummed(DROPPED, raw), "big")
