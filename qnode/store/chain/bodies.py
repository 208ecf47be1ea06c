"""Transactions' bytes, in an LMDB environment of their own beside the chain's (`proto/spec/state.md` §3).

Most of what a chain's disk holds is written once and read as a whole. In one file with the state, which is changed in single pages, each
takes the other's free pages: the state would spread over all of it, and be written in more pieces from block to block.

`transactions`: id → bytes. `loose`: final height when it came ‖ id → nothing, until it is known to stand in a final block; `AGAIN` ‖ id →
final height when it came again, if it did. `meta`: whose bodies these are, and below which height they have been taken away. What is put
here is on the disk before what names it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lmdb

from qnode.store.chain.environment import BODY_TABLES, Environment, is_there, number_key, summed, unsummed
from qnode.store.directory import is_out_of_space
from qustream.errors import QuStreamError, fault
from qustream.identity.files import file_fault, make_directory
from qustream.wire.transactions import transaction_id

__all__ = ["FOLDER", "Bodies", "BodiesFull", "bodies_missing", "sound"]

FOLDER = "bodies"
# Transactions that no final block took are kept so many blocks: longer than any proposal with them is of use.
LOOSE_BLOCKS = 1024
# What one call takes away at most: more than come in the blocks between two; and heights it goes through, most of which have none.
PRUNED_AT_ONCE_MAX, HEIGHTS_AT_ONCE_MAX = 8192, 1024
AGAIN = b"\xff"  # behind all heights
DROPPED, GENESIS = b"dropped", b"genesis"

# Whether a transaction stands in a final block.
IsFinal = Callable[[bytes], bool]


class BodiesFull(lmdb.MapFullError):
    """This environment's map is too small, not the chain's."""


class Bodies:
    """One thread writes: what it has put and not committed yet, it alone sees. Any may read."""

    def __init__(self, path: Path, map_bytes: int) -> None:
        """Use `open` or `look_at`."""
        self._path, self._map_bytes = path, map_bytes
        self._environment: Environment | None = None
        self._txn: Any = None

    @classmethod
    def open(cls, chain: Path, map_bytes: int) -> Bodies:
        """Those of the chain in this directory. Where none are and the disk has no room for it, they are made with the first that are kept:
        the chain of an earlier version can be read. Errors: as `Environment.open`."""
        bodies = cls(chain / FOLDER, map_bytes)
        try:
            bodies._environment = bodies._opened()
        except (OSError, lmdb.Error) as error:
            number = error.errno if isinstance(error, OSError) else getattr(error, "code", 0)
            if is_there(bodies._path) or not is_out_of_space(OSError(number, "")):
                raise
        return bodies

    @classmethod
    def look_at(cls, chain: Path) -> Bodies:
        """As `open`, to be read alone; there may be none."""
        bodies = cls(chain / FOLDER, 0)
        if is_there(bodies._path):
            bodies._environment = Environment.open(bodies._path, 0, readonly=True, names=BODY_TABLES)
        return bodies

    def _opened(self) -> Environment:
        if not self._path.is_dir():
            make_directory(self._path)
        return Environment.open(self._path, self._map_bytes, names=BODY_TABLES)

    def close(self) -> None:
        """Let go of it."""
        if self._environment is not None:
            self._environment.close()

    # -- writing: of the chain's writer alone ---------------------------------------------------------------------------

    def begin(self, genesis: bytes) -> None:
        """These are of the chain with this genesis (digest) from now on, and there is none yet. Errors: `BodiesFull`."""
        with self._writing() as (txn, tables):
            for table in (tables.meta, tables.transactions, tables.loose):
                txn.drop(table, delete=False)
            txn.put(GENESIS, summed(GENESIS, genesis), db=tables.meta)

    def belong(self, genesis: bytes) -> None:
        """As `begin`, and what is here stays. Errors: `BodiesFull`."""
        with self._writing() as (txn, tables):
            txn.put(GENESIS, summed(GENESIS, genesis), db=tables.meta)

    def keep(self, transactions: Sequence[tuple[bytes, bytes]], height: int, is_final: IsFinal) -> None:
        """Store (id, bytes); `height`: of the last final block; `is_final`: now, or by what the disk says. What comes again is kept as long
        as what comes now: or who proposes it a second time at the right moment would have it go from all disks while its block becomes
        final. And what has been loose for too long goes. Errors: `BodiesFull`."""
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

    def drop(self, first: int, floor: int, ids_at: Callable[[int], Sequence[bytes]]) -> None:
        """Take away those below the height `floor`, as many as go at once; `first`: the lowest block there is, `ids_at`: of a block. That
        they go is on the disk already: the chain says so, and was committed. Errors: `BodiesFull`."""
        with self._writing() as (txn, tables):
            dropped, gone = _dropped(txn, tables), 0
            height = start = max(dropped, first)
            while height < floor and gone < PRUNED_AT_ONCE_MAX and height - start < HEIGHTS_AT_ONCE_MAX:
                names = ids_at(height)
                for name in names:
                    txn.delete(name, db=tables.transactions)
                height, gone = height + 1, gone + len(names)
            if height > dropped:
                txn.put(DROPPED, summed(DROPPED, number_key(height)), db=tables.meta)

    def come_again(self, above: int) -> None:
        """Beside an older copy of the chain, whose blocks above this height come again: their bodies are taken away again. Errors:
        `BodiesFull`."""
        with self._writing() as (txn, tables):
            if _dropped(txn, tables) > above + 1:
                txn.put(DROPPED, summed(DROPPED, number_key(above + 1)), db=tables.meta)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Any, Any]]:
        if self._environment is None:
            self._environment = self._opened()
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
        if self._environment is not None:  # else it was never full
            self._environment.grow(to_bytes)

    def written(self, names: Iterable[bytes]) -> dict[bytes, bytes]:
        """For the writer: as `get`, and what it has put. Errors: `E-DATA-CORRUPT`."""
        return self.get(names) if self._txn is None else self._found(self._txn, names)

    # -- reading --------------------------------------------------------------------------------------------------------

    def get(self, names: Iterable[bytes]) -> dict[bytes, bytes]:
        """Those that are here, by id. Errors: `E-DATA-CORRUPT`."""
        if self._environment is None:
            return {}
        with self._environment.reading() as txn:
            return self._found(txn, names)

    def _found(self, txn: Any, names: Iterable[bytes]) -> dict[bytes, bytes]:
        assert self._environment is not None
        table = self._environment.tables.transactions
        return {name: sound(name, raw) for name in names if (raw := txn.get(name, db=table)) is not None}

    def genesis(self) -> bytes | None:
        """The genesis (digest) of the chain whose bodies these are; None if nothing says so. Errors: `E-DATA-CORRUPT`."""
        if self._environment is None:
            return None
        with self._environment.reading() as txn:
            raw = txn.get(GENESIS, db=self._environment.tables.meta)
        return None if raw is None else unsummed(GENESIS, raw)

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

    def backup(self, chain: Environment, target: Path) -> None:
        """A copy of both in the directory `target`, which must be empty or not there; or nothing. The chain comes first: its bodies are
        here by then. Errors: `E-FILE-EXISTS`; as `Environment.backup`."""
        try:
            if target.exists() and any(target.iterdir()):
                raise fault("E-FILE-EXISTS", f"{target} is not empty")
        except OSError as error:
            raise file_fault(target, error) from None
        try:
            chain.backup(target)
            if self._environment is not None:
                self._environment.backup(target / FOLDER)
        except BaseException:
            with suppress(OSError):
                (target / "data.mdb").unlink(missing_ok=True)
            shutil.rmtree(target / FOLDER, ignore_errors=True)
            raise


def bodies_missing() -> QuStreamError:
    """What is said of a chain without its bodies."""
    return fault("E-DATA-CORRUPT", f"the chain's transactions ({FOLDER}) are missing: the directory was copied in part")


def sound(name: bytes, raw: bytes) -> bytes:
    """The bytes of a transaction. Errors: `E-DATA-CORRUPT` if they are another's."""
    if transaction_id(raw) != name:
        raise fault("E-DATA-CORRUPT", f"the stored transaction {name.hex()} is not what was written")
    return bytes(raw)


def _dropped(txn: Any, tables: Any) -> int:
    raw = txn.get(DROPPED, db=tables.meta)
    return 1 if raw is None else int.from_bytes(unsummed(DROPPED, raw), "big")
