"""Opening a store: is it whole, is it this node's, what did the last process leave half done (`proto/spec/delivery.md` §5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qnode.core.delivery import Mark
from qnode.store.batch import FreeSlots
from qnode.store.slots import EMPTY, SlotFile
from qnode.store.tables import Tables
from qustream.errors import QuStreamError, fault

__all__ = ["Found", "open_slots", "recover"]

FORMAT = b"1"
EPOCH_BYTES = 8  # big endian


@dataclass(frozen=True)
class Found:
    """What opening found. `floor_epoch`: grants before this epoch are not to be served."""

    free: FreeSlots
    floor_epoch: int


def open_slots(directory: Path, tables: Tables, room: int, restored_in_epoch: int | None) -> SlotFile:
    """The slot file that belongs to the database, made with it if the database is new.

    Errors: `E-KEYSTORE-OPEN`, `E-DATA-CORRUPT` if they do not belong together or the format is another, `OSError`."""
    path = directory / "slots"
    with tables.env.begin() as txn:
        storage_format, generation = tables.about(txn, b"format"), tables.about(txn, b"generation")
    if storage_format not in (None, FORMAT):
        raise fault("E-DATA-CORRUPT", f"{directory} was written by another version of this program")
    if storage_format is None or restored_in_epoch is not None:
        return _new_slots(path, tables, room, 0 if restored_in_epoch is None else restored_in_epoch + 1)
    try:
        slots = SlotFile.open(path)
    except FileNotFoundError:
        raise fault("E-DATA-CORRUPT", f"{path} is missing: this is a backup, to be opened as one; what it held is gone") from None
    if slots.generation != generation:
        slots.close()
        raise fault("E-DATA-CORRUPT", f"{path} belongs to another database: this is a backup, to be opened as one")
    slots.grow(room)
    return slots


def _new_slots(path: Path, tables: Tables, room: int, floor_epoch: int) -> SlotFile:
    slots = SlotFile.create(path, room)
    # The file is on the disk before the database names it. A crash in between leaves a database without a format: it is made again.
    with tables.env.begin(write=True) as txn:
        tables.put_about(txn, b"format", FORMAT)
        tables.put_about(txn, b"generation", slots.generation)
        tables.put_about(txn, b"floor_epoch", floor_epoch.to_bytes(EPOCH_BYTES, "big"))
    return slots


def recover(tables: Tables, slots: SlotFile, room: int) -> Found:
    """Complete what a crash interrupted and find the free slots. Errors: `OSError`, `lmdb.Error`."""
    used: set[int] = set()
    with tables.env.begin(write=True) as txn:
        for key in list(tables.answered(txn)):
            mark = _held_mark(tables, txn, key)
            if mark is None:  # nothing leads to this answer any more
                txn.delete(key, db=tables.answers)
                continue
            used.add(mark.slot)
            if slots.read(mark.slot) == EMPTY:  # its erasure was not recorded: the first sweep does it
                tables.put_due_now(txn, key)
            else:
                tables.put_due(txn, key, mark)
        marks = tables.count(txn)
        floor_epoch = int.from_bytes(tables.about(txn, b"floor_epoch") or b"", "big")
    # Keys written for answers that were never committed, and those of marks that cannot be read.
    slots.write(dict.fromkeys(slots.used() - used, EMPTY))
    return Found(FreeSlots(used, room, marks), floor_epoch)


def _held_mark(tables: Tables, txn: Any, key: bytes) -> Mark | None:
    try:
        mark = tables.mark(txn, key)
    except QuStreamError:
        return None
    return None if mark is None or mark.erased_ms is not None else mark
