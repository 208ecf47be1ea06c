"""All leaves of an audit, on the disk, and which of them repeat another (`proto/spec/leaf-log.md`, "Auditing").

Memory stays bounded whatever the number of leaves: SQLite keeps them in a temporary file of its own and sorts them there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from qustream.errors import QuStreamError, fault

__all__ = ["LeafPlace", "LeafTable"]

_T = TypeVar("_T")
CACHE_KIB = 65_536  # of the table and of the sorter each: enough to sort a million leaves without the disk
Row = tuple[bytes, int, int, int, bytes, bytes]


@dataclass(frozen=True, slots=True)
class LeafPlace:
    """Where a leaf stands: which log (counted from 0), batch, place in it; for which node under which sequence number."""

    log: int
    batch: int
    index: int
    node: bytes
    sequence: int
    material_sha256: bytes


class LeafTable:
    """A context manager; the file is gone with it. Errors of all methods: `E-DISK-FULL`, `E-FILE`."""

    def __init__(self) -> None:
        # An empty name is a private file in the directory for temporary files, deleted by SQLite.
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in (f"cache_size = -{CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE leaf (material BLOB, log INTEGER, batch INTEGER, place INTEGER, node BLOB, sequence BLOB)")
        self._database.execute("BEGIN")

    def add(self, log: int, batch: int, leaves: Sequence[bytes]) -> None:
        """Take the leaf data (72 bytes each) of a batch."""
        rows = [(leaf[40:], log, batch, index, leaf[:32], leaf[32:40]) for index, leaf in enumerate(leaves)]
        _coded(lambda: self._database.executemany("INSERT INTO leaf VALUES (?, ?, ?, ?, ?, ?)", rows))

    def repeated_material(self) -> tuple[LeafPlace, LeafPlace] | None:
        """Two leaves of one material, the first two in the order in which they were added."""
        return self._repeated("material")

    def repeated_number(self) -> tuple[LeafPlace, LeafPlace] | None:
        """Two leaves of one log for one node under one sequence number."""
        return self._repeated("log", "node", "sequence")

    def _repeated(self, *columns: str) -> tuple[LeafPlace, LeafPlace] | None:
        names = ", ".join(columns)
        # GROUP BY without an index sorts in bounded memory, spilling to temporary files.
        found = self._rows(f"SELECT {names} FROM leaf GROUP BY {names} HAVING COUNT(*) > 1 LIMIT 1")  # noqa: S608 - our own names
        if not found:
            return None
        same = " AND ".join(f"{name} = ?" for name in columns)
        first, second = self._rows(f"SELECT * FROM leaf WHERE {same} ORDER BY rowid LIMIT 2", found[0])  # noqa: S608
        return _place(first), _place(second)

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        return _coded(lambda: self._database.execute(statement, values).fetchall())

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> LeafTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _place(row: Row) -> LeafPlace:
    material, log, batch, index, node, sequence = row
    return LeafPlace(log, batch, index, node, int.from_bytes(sequence, "big"), material)


def _coded(action: Callable[[], _T]) -> _T:
    try:
        return action()
    except sqlite3.Error as error:
        raise _disk_fault(error) from None


def _disk_fault(error: sqlite3.Error) -> QuStreamError:
    code = "E-DISK-FULL" if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL else "E-FILE"
    return fault(code, f"the audit's temporary file: {error}")
