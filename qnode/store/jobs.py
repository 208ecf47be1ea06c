"""A thread that carries out what is handed in, as many at a time as have come: one transaction and one sync serve them all
(`proto/spec/delivery.md` §5, `proto/spec/state.md` §3)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

from qustream.errors import fault

__all__ = ["BATCH_MAX_JOBS", "QUEUE_MAX_JOBS", "JobThread"]

# Jobs that wait: of requests far fewer are admitted at a time, sweeps and alerts are the rest; of the chain proposals, certificates (170 KB
# each for a full set) and batches of transactions.
QUEUE_MAX_JOBS = 512
# Jobs in one transaction: 64 answers are 17 MB of dirty pages; more gains nothing (a sync is ~0.2 ms, an answer's copy ~0.06 ms), and the
# waiting of the first is bounded.
BATCH_MAX_JOBS = 64


class _Job(Protocol):
    """Whoever waits for it holds its future."""

    future: Future[Any]


J = TypeVar("J", bound=_Job)


class JobThread(Generic[J]):
    """Runs from now on until `close`. `carry_out` is called in the thread with jobs that nobody has cancelled, at least one, and settles
    the future of each."""

    def __init__(self, name: str, carry_out: Callable[[list[J]], None]) -> None:
        self._carry_out = carry_out
        self._queue: queue.Queue[J | None] = queue.Queue(QUEUE_MAX_JOBS)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: J) -> None:
        """Hand it in. Never blocks. Errors: `E-PEER-LIMIT` when too much waits already, `E-NODE-READONLY` after `close`."""
        if self._closed:
            raise fault("E-NODE-READONLY", "this node is shutting down")
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise fault("E-PEER-LIMIT", "too much waits for this node's disk", retry_after_ms=1000) from None

    def close(self) -> None:
        """Carry out what has been handed in and end the thread. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _next_batch(self) -> bool:
        """Wait for one, and carry it out; False for the last. By itself, so that nothing of it is held while the next is waited for:
        answers are large, and secret."""
        jobs: list[J] = []
        job = self._queue.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) >= BATCH_MAX_JOBS:
                break
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
        if wanted := [each for each in jobs if each.future.set_running_or_notify_cancel()]:
            self._carry_out(wanted)
        return job is not None

    def _run(self) -> None:
        while self._next_batch():
            pass
        while not self._queue.empty():  # handed in while `close` was called
            left = self._queue.get_nowait()
            if left is not None:
                left.future.set_exception(fault("E-NODE-READONLY", "this node is shutting down"))
