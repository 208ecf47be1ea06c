"""The node's memory of what it answered (`proto/spec/delivery.md` §5): open, look, decide durably, sweep."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import lmdb

from qnode.core.delivery import Ask, Effect, Event, Mark
from qnode.core.delivery_alerts import AlertNote
from qnode.store.batch import Batch, FreeSlots
from qnode.store.directory import DataDirectory
from qnode.store.recovery import open_slots, recover
from qnode.store.slots import EMPTY, SlotFile
from qnode.store.tables import Tables
from qnode.store.vault import SealedAnswer, Vault
from qnode.store.writer import Writer
from qustream.errors import QuStreamError, fault
from qustream.wire.keys import Alert

__all__ = ["Store"]

T = TypeVar("T")
# 4,096 blocks of 270 KB: 1.1 GB of disk.
ROOM_BLOCKS = 4096
# Spent indices remembered: two epochs at 15 requests a second, 2 GB of disk.
MARKS_MAX = 4_000_000
# Below this much free space nothing new is stored: acknowledging and erasing need pages too.
RESERVE_BYTES = 64 * 1024 * 1024
# LMDB reserves addresses, not disk: half as much again for pages that wait for reuse; a quarter of the marks with an erasure; the batch
# that is being written, and alerts.
ANSWER_MAP_BYTES = 3 * 278_528 // 2
MARK_MAP_BYTES = 2048
BASE_MAP_BYTES = 256 * 1024 * 1024
# One sweep's share of a batch: at 1,000 erasures a second a sweep of them holds the writer for ~0.2 s.
SWEEP_MAX_MARKS = 256
# Users whose alerts one sweep looks through.
SWEEP_MAX_USERS = 16


class Store:
    """One directory, opened by one process. Reading is for any thread; everything that changes something returns a `Future` that is done
    when the change is on the disk. Futures fail with `E-NODE-READONLY` (nothing was stored) or `E-DATA-CORRUPT` (of that index alone)."""

    def __init__(self, directory: DataDirectory, tables: Tables, slots: SlotFile, free: FreeSlots, **settings: int) -> None:
        """Use `Store.open`."""
        self._directory, self._tables, self._slots, self._free = directory, tables, slots, free
        self._marks_max = settings["marks_max"]
        self._notes_from = b""
        self._misread = 0
        self._closed = False
        self._writer = Writer(directory, tables, slots, free, reserve_bytes=settings["reserve_bytes"])
        self.floor_epoch = settings["floor_epoch"]

    @classmethod
    def open(
        cls,
        directory: Path,
        storage_key: bytes,
        *,
        room_blocks: int = ROOM_BLOCKS,
        marks_max: int = MARKS_MAX,
        reserve_bytes: int = RESERVE_BYTES,
        restored_in_epoch: int | None = None,
    ) -> Store:
        """Open or create the store in `directory` (`storage_key`: 32 secret bytes).

        `restored_in_epoch`: the directory comes from a backup, without `slots`; what it held is erased, and grants of that epoch and
        before are not to be served (`floor_epoch`). Errors: `E-DATA-LOCKED`, `E-KEYSTORE-OPEN` for another node's key,
        `E-DATA-CORRUPT`, `E-DISK-FULL`, `E-FILE`."""
        held = DataDirectory(directory)
        opened: list[Tables | SlotFile] = []
        try:
            map_bytes = BASE_MAP_BYTES + room_blocks * ANSWER_MAP_BYTES + marks_max * MARK_MAP_BYTES
            tables = Tables.open(str(directory), map_bytes, Vault(storage_key))
            opened.append(tables)
            slots = open_slots(directory, tables, room_blocks, restored_in_epoch)
            opened.append(slots)
            found = recover(tables, slots, room_blocks)
            settings = {"marks_max": marks_max, "reserve_bytes": reserve_bytes, "floor_epoch": found.floor_epoch}
            return cls(held, tables, slots, found.free, **settings)
        except BaseException as error:
            for each in opened:
                each.close()
            held.close()
            if isinstance(error, lmdb.Error):
                number = getattr(error, "code", 0)  # LMDB's own numbers are negative, the system's are not
                raise held.fault(OSError(number, "")) if number > 0 else fault("E-DATA-CORRUPT", f"{directory}: {error}") from None
            if isinstance(error, OSError):
                raise held.fault(error) from None
            raise

    def close(self) -> None:
        """Finish what was handed in, then let go of the directory. Doing it twice is no harm."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        self._tables.close()
        self._slots.close()
        self._directory.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # -- looking --------------------------------------------------------------------------------------------------------

    def mark(self, key: bytes) -> Mark | None:
        """What is stored of index `key`. Errors: `E-DATA-CORRUPT`."""
        with self._tables.env.begin() as txn:
            return self._counted(lambda: self._tables.mark(txn, key))

    def answer(self, key: bytes) -> bytes:
        """The stored answer of index `key`, as it was given. Errors: `E-NOT-HELD`, `E-DATA-CORRUPT`."""
        with self._tables.env.begin() as txn:
            mark = self._counted(lambda: self._tables.mark(txn, key))
            sealed = None if mark is None or mark.erased_ms is not None else txn.get(key, db=self._tables.answers)
        if mark is None or mark.erased_ms is not None:
            raise fault("E-NOT-HELD", "the block is gone")
        slot_key = self._slots.read(mark.slot)
        if slot_key == EMPTY:
            raise fault("E-NOT-HELD", "the block is gone")
        try:
            return self._tables.vault.unseal_answer(key, slot_key, sealed or b"")
        except QuStreamError:
            now = self.mark(key)
            if now is None or now.erased_ms is not None:  # erased, and its slot used again, between the two reads
                raise fault("E-NOT-HELD", "the block is gone") from None
            self._misread += 1
            raise fault("E-DATA-CORRUPT", "the stored block does not open") from None

    def alerts(self, user: bytes) -> tuple[Alert, ...]:
        """What is noted for `user`, oldest first. Errors: `E-DATA-CORRUPT`."""
        with self._tables.env.begin() as txn:
            return self._counted(lambda: self._tables.notes(txn, user))

    def refusal(self) -> QuStreamError | None:
        """Why nothing new can be stored just now, None if it can; so that no unit is spent in vain."""
        if self._writer.trouble is not None:
            return fault("E-NODE-READONLY", "", retry_after_ms=5000)
        if self._free.is_full:
            return fault("E-NODE-FULL", "every slot of this node holds a block", retry_after_ms=5000)
        if self._free.marks >= self._marks_max:
            return fault("E-NODE-FULL", "this node remembers as many requests as it may")
        return None

    # -- deciding -------------------------------------------------------------------------------------------------------

    def seal_answer(self, key: bytes, answer: bytes) -> SealedAnswer:
        """Seal `answer` for `store_answer`. Works on any thread."""
        return self._tables.vault.seal_answer(key, answer)

    def store_answer(self, key: bytes, ask: Ask, sealed: SealedAnswer, *, issued_ms: int, now_ms: int) -> Future[list[Effect]]:
        """Step index `key` with `AnswerBuilt`; the answer given is the sealed one if the effects begin with a `Persist`."""

        def decide(batch: Batch) -> list[Effect]:
            return batch.answer_built(key, ask, sealed, issued_ms=issued_ms, now_ms=now_ms, marks_max=self._marks_max)

        return self._writer.submit(decide, needs_room=True)

    def step(self, key: bytes, event: Event, now_ms: int) -> Future[list[Effect]]:
        """Step index `key` with `event`."""
        return self._writer.submit(lambda batch: batch.happened(key, event, now_ms), needs_room=False)

    def note(self, note: AlertNote) -> Future[None]:
        """Add an alert to a user's."""
        return self._writer.submit(lambda batch: batch.note(note), needs_room=True)

    def sweep(self, now_ms: int) -> Future[int]:
        """Erase what is over, forget what may go, drop old alerts; returns how many indices were due, `SWEEP_MAX_MARKS` if there may be
        more. Also what makes a store that could not write try again."""

        def decide(batch: Batch) -> int:
            self._notes_from = batch.drop_old_notes(self._notes_from, now_ms, SWEEP_MAX_USERS)
            return batch.expire(now_ms, SWEEP_MAX_MARKS)

        return self._writer.submit(decide, needs_room=False)

    # -- the picture ----------------------------------------------------------------------------------------------------

    @property
    def held_blocks(self) -> int:
        """Blocks held now."""
        return self._free.held

    @property
    def room_blocks(self) -> int:
        """Blocks that may be held."""
        return self._free.room

    @property
    def marks(self) -> int:
        """Spent indices remembered."""
        return self._free.marks

    @property
    def erased(self) -> int:
        """Blocks erased since the store was opened."""
        return self._writer.erased

    @property
    def corrupt(self) -> int:
        """Stored values that did not check since the store was opened."""
        return self._writer.corrupt + self._misread

    @property
    def trouble(self) -> QuStreamError | None:
        """Why the store is read-only, in words for the operator; None while it is not."""
        return self._writer.trouble

    def _counted(self, look: Callable[[], T]) -> T:
        try:
            return look()
        except QuStreamError:
            self._misread += 1
            raise
