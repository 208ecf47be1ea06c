"""The one thread that writes: many requests, one transaction, one sync (`proto/spec/delivery.md` §5).

While a batch is on its way to the disk the next one collects. A waiter is released when its batch has been committed, never before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import lmdb

from qnode.store.batch import Batch, FreeSlots
from qnode.store.directory import DataDirectory, is_out_of_space
from qnode.store.jobs import JobThread
from qnode.store.slots import SlotFile
from qnode.store.tables import Tables
from qustream.errors import QuStreamError, fault

__all__ = ["Writer"]

T = TypeVar("T")
# How often a store that cannot write tries again.
TRIAL_INTERVAL_S = 1.0
# What a trial writes: more than one answer needs.
TRIAL_BYTES = 524_288
TRIAL_KEY = b"trial"


@dataclass
class Job(Generic[T]):
    """`decide` is called in the write transaction. `needs_room`: it may be refused to keep the last space for erasures."""

    decide: Callable[[Batch], T]
    needs_room: bool
    future: Future[T] = field(default_factory=Future)
    outcome: T | QuStreamError | None = None


class Writer:
    """Carries out jobs in batches on a thread of its own until `close`."""

    def __init__(self, directory: DataDirectory, tables: Tables, slots: SlotFile, free: FreeSlots, *, reserve_bytes: int) -> None:
        self._directory, self._tables, self._slots, self._free = directory, tables, slots, free
        self._reserve_bytes = reserve_bytes
        self._trial_after_s = 0.0
        self.trouble: QuStreamError | None = None  # why nothing new is stored, for the operator
        self._broken = False  # the state of the disk is unknown: nothing is stored until a restart
        self.erased = 0
        self.corrupt = 0
        self._thread: JobThread[Job[Any]] = JobThread("qnode-store", self._carry_out)

    def submit(self, decide: Callable[[Batch], T], *, needs_room: bool) -> Future[T]:
        """Hand in a decision; the future is done when it has been committed, refused, or has failed (`E-NODE-READONLY`).

        Never blocks. Errors: `E-PEER-LIMIT` when too much waits already, `E-NODE-READONLY` after `close`."""
        job = Job(decide, needs_room)
        self._thread.submit(job)
        return job.future

    def close(self) -> None:
        """Carry out what has been handed in and end the thread."""
        self._thread.close()

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _carry_out(self, jobs: list[Job[Any]]) -> None:
        try:
            self._look_for_room()
            if self.trouble is None:
                self._store(jobs)
            else:
                self._store_without_room(jobs)
        except BaseException as bug:  # our own mistake: nobody may wait for ever, and whoever waits shall see it
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(bug)

    def _look_for_room(self) -> None:
        """Learn whether new blocks may be stored: enough free space, and after a failure a write that succeeds."""
        if self._broken:
            return
        try:
            free_bytes = self._directory.free_bytes()
        except OSError as error:
            self._failed(error)
            return
        if free_bytes < self._reserve_bytes:
            self._set_trouble("E-DISK-FULL", f"{free_bytes >> 20} MiB are free; the last {self._reserve_bytes >> 20} are for erasures")
        elif self.trouble is not None and time.monotonic() >= self._trial_after_s:
            self._trial_after_s = time.monotonic() + TRIAL_INTERVAL_S
            self._try_to_write()

    def _try_to_write(self) -> None:
        try:
            with self._tables.env.begin(write=True) as txn:
                txn.put(TRIAL_KEY, bytes(TRIAL_BYTES), db=self._tables.meta)
            with self._tables.env.begin(write=True) as txn:
                txn.delete(TRIAL_KEY, db=self._tables.meta)
        except (lmdb.Error, OSError) as error:
            self._failed(error)
        else:
            self.trouble = None

    def _store(self, jobs: list[Job[Any]]) -> None:
        """One batch with everything in it; if there is no room for that, one without what needs room."""
        try:
            self._commit(jobs)
        except (lmdb.Error, OSError) as error:
            self._failed(error)
            self._store_without_room(jobs)

    def _store_without_room(self, jobs: list[Job[Any]]) -> None:
        for job in [job for job in jobs if job.needs_room]:
            job.future.set_exception(self._refusal())
        rest = [job for job in jobs if not job.needs_room]
        try:
            self._commit(rest)
        except (lmdb.Error, OSError) as error:
            self._failed(error)
            for job in rest:
                job.future.set_exception(self._refusal())

    def _commit(self, jobs: list[Job[Any]]) -> None:
        """Decide, sync the slots, commit, tell. In this order (spec §5)."""
        if not jobs:
            return
        if self._broken:
            raise lmdb.PanicError("closed for good")
        txn = self._tables.env.begin(write=True)
        batch = Batch(txn, self._tables, self._slots, self._free)
        try:
            for job in jobs:
                job.outcome = _outcome(job, batch)
            self._sync_slots(batch)
            txn.commit()
        except BaseException:
            txn.abort()
            batch.aborted()
            raise
        batch.committed()
        self.erased += batch.erased
        self.corrupt += batch.corrupt
        for job in jobs:
            if isinstance(job.outcome, QuStreamError):
                self.corrupt += job.outcome.code == "E-DATA-CORRUPT"
                job.future.set_exception(job.outcome)
            else:
                job.future.set_result(job.outcome)

    def _sync_slots(self, batch: Batch) -> None:
        try:
            batch.seal_keys()
        except OSError as error:
            # After a failed sync the kernel forgets what was dirty: no later sync could be believed.
            self._broken = not is_out_of_space(error)
            raise

    # -- trouble --------------------------------------------------------------------------------------------------------

    def _failed(self, error: lmdb.Error | OSError) -> None:
        self._trial_after_s = time.monotonic() + TRIAL_INTERVAL_S
        self._broken = self._broken or isinstance(error, lmdb.PanicError)
        if self._broken:
            self._set_trouble("E-NODE-READONLY", "the disk failed while it was written; restart the node when the disk is sound")
        elif isinstance(error, lmdb.MapFullError | lmdb.DiskError) or (isinstance(error, OSError) and is_out_of_space(error)):
            self._set_trouble("E-DISK-FULL", f"{self._directory.path}: no room to write")
        else:
            # LMDB calls a write that was cut short an input/output error, whatever the reason was.
            self._set_trouble("E-NODE-READONLY", f"{self._directory.path} could not be written: {error}")

    def _set_trouble(self, code: str, detail: str) -> None:
        self.trouble = fault(code, detail)

    def _refusal(self) -> QuStreamError:
        """What an asker is told: not which path, not how much."""
        return fault("E-NODE-READONLY", "", retry_after_ms=5000)


def _outcome(job: Job[T], batch: Batch) -> T | QuStreamError:
    """One job's bad record is its own trouble: its decision wrote nothing, the rest of the batch goes on."""
    try:
        return job.decide(batch)
    except QuStreamError as error:
        return error
