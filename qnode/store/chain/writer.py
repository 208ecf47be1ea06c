"""The one thread that writes the chain: several decisions in one transaction, one sync, and nothing half done (`state.md` §3).

A decision may be made twice: if the map was too small, or another one in the same transaction failed, all that was done is taken back and
the rest is done again. What is to follow once it is on the disk is its `after`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import lmdb

from qnode.store.chain.bodies import Bodies, BodiesFull
from qnode.store.chain.environment import Environment
from qnode.store.directory import DataDirectory, is_out_of_space
from qnode.store.jobs import JobThread
from qustream.errors import QuStreamError, fault

__all__ = ["ChainWriter"]

T = TypeVar("T")
# A map grows by half, and by at least this: growing interrupts everybody who reads.
GROW_MIN_BYTES = 64 * 1024 * 1024


@dataclass
class Job(Generic[T]):
    """`decide` is called in the write transaction, `after` when it is on the disk, before anybody who waits is told."""

    decide: Callable[[Any], T]
    after: Callable[[T], None] | None
    future: Future[T] = field(default_factory=Future)
    outcome: Any = None

    def tell(self) -> None:
        """It is on the disk. What goes wrong from here on is this job's own: nobody else is told that his was not written."""
        try:
            if self.after is not None:
                self.after(self.outcome)
        except BaseException as error:  # as in `_carry_out`: the thread goes on
            self.future.set_exception(error)
        else:
            self.future.set_result(self.outcome)


class ChainWriter:
    """Carries out jobs on a thread of its own until `close`."""

    def __init__(self, directory: DataDirectory, environment: Environment, bodies: Bodies, *, reserve_bytes: int) -> None:
        self._directory, self._environment, self._bodies, self._reserve_bytes = directory, environment, bodies, reserve_bytes
        self._broken = False  # what the disk holds is not known: nothing is written until a restart
        self.trouble: QuStreamError | None = None  # why the last attempt failed, for the operator
        self._thread: JobThread[Job[Any]] = JobThread("qnode-chain", self._carry_out)

    def submit(self, decide: Callable[[Any], T], after: Callable[[T], None] | None = None) -> Future[T]:
        """Hand in a decision; the future is done when it is on the disk, or has failed and nothing of it is: `E-DISK-FULL`,
        `E-NODE-READONLY`, `E-DATA-CORRUPT`, or its own error. Never blocks. Errors: `E-PEER-LIMIT`, `E-NODE-READONLY`."""
        job = Job(decide, after)
        self._thread.submit(job)
        return job.future

    def close(self) -> None:
        """Carry out what has been handed in and end the thread."""
        self._thread.close()

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _carry_out(self, jobs: list[Job[Any]]) -> None:
        try:
            while jobs:
                failed = self._attempt(jobs)
                if failed is None:
                    return
                jobs = [job for job in jobs if job is not failed]
        except QuStreamError as trouble:
            self.trouble = trouble
            for job in jobs:
                job.future.set_exception(trouble)
        except BaseException as bug:  # our own mistake: nobody may wait for ever, and whoever waits shall see it
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(bug)

    def _attempt(self, jobs: list[Job[Any]]) -> Job[Any] | None:
        """Commit all of them; or none, and say whose own error it was (that one has been told). Errors: why nothing can be written."""
        if self._broken:
            raise fault("E-NODE-READONLY", "the disk failed while the chain was written; restart the node when the disk is sound")
        self._require_room()
        while True:
            try:
                failed = self._commit(jobs)
            except lmdb.MapFullError as error:
                self._grow(self._bodies if isinstance(error, BodiesFull) else self._environment)
                continue
            except (lmdb.Error, OSError) as error:
                raise self._refused(error) from None
            break
        if failed is None:
            self.trouble = None
            for job in jobs:
                job.tell()
        return failed

    def _commit(self, jobs: list[Job[Any]]) -> Job[Any] | None:
        txn = self._environment.begin()
        try:
            for job in jobs:
                try:
                    job.outcome = job.decide(txn)
                except lmdb.MapFullError:
                    raise
                except (QuStreamError, ValueError, lmdb.CorruptedError, lmdb.PageNotFoundError) as error:
                    self._bodies.abort()
                    txn.abort()
                    job.future.set_exception(fault("E-DATA-CORRUPT", str(error)) if isinstance(error, lmdb.Error) else error)
                    return job
            self._bodies.commit()  # before what names them
            txn.commit()
        except BaseException:
            self._bodies.abort()
            txn.abort()
            raise
        return None

    # -- room and trouble -----------------------------------------------------------------------------------------------

    def _require_room(self) -> int:
        """What may still be written. Errors: `E-DISK-FULL`, `E-NODE-READONLY`."""
        try:
            free_bytes = self._directory.free_bytes()
        except OSError as error:
            raise self._refused(error) from None
        if free_bytes < self._reserve_bytes:
            detail = f"{free_bytes >> 20} MiB are free; the last {self._reserve_bytes >> 20} are not for the chain"
            raise fault("E-DISK-FULL", f"{self._directory.path}: {detail}")
        return free_bytes - self._reserve_bytes

    def _grow(self, full: Environment | Bodies) -> None:
        size = full.info()["map_bytes"]
        more = max(GROW_MIN_BYTES, size // 2)
        # Addresses, not disk: but a map that the disk cannot fill would only turn this error into another.
        if self._require_room() < GROW_MIN_BYTES:
            raise fault("E-DISK-FULL", f"{self._directory.path}: the database is full, and the disk has no room for it to grow")
        try:
            full.grow(size + more)
        except lmdb.Error as error:
            self._broken = True  # LMDB's binding closes what it cannot map again
            raise self._refused(error) from None

    def _refused(self, error: lmdb.Error | OSError) -> QuStreamError:
        self._broken = self._broken or isinstance(error, lmdb.PanicError)
        number = error.errno if isinstance(error, OSError) else getattr(error, "code", 0)
        # LMDB calls a write that was cut short an input/output error, whatever the reason was: the room that is left tells.
        cut = number in (errno.EIO, 0) and self._is_low()
        if not self._broken and (isinstance(error, lmdb.DiskError) or is_out_of_space(OSError(number or errno.EIO, "")) or cut):
            return fault("E-DISK-FULL", f"{self._directory.path}: no room to write")
        return fault("E-NODE-READONLY", f"{self._directory.path} could not be written: {error}")

    def _is_low(self) -> bool:
        try:
            return self._directory.free_bytes() < max(self._reserve_bytes, 1 << 20)
        except OSError:
            return False
