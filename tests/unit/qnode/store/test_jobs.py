"""What is handed in is carried out once, in order, together with what waits; and nobody waits for ever."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest

from qnode.store.jobs import BATCH_MAX_JOBS, QUEUE_MAX_JOBS, JobThread
from qustream.errors import QuStreamError


@dataclass
class Job:
    number: int
    future: Future[int] = field(default_factory=Future)


class Place:
    """A thread that can be held up. `carried`: the batches."""

    def __init__(self) -> None:
        self.carried: list[list[int]] = []
        self.go_on, self.is_held = threading.Event(), threading.Event()
        self.go_on.set()
        self.thread: JobThread[Job] = JobThread("test", self._carry_out)

    def _carry_out(self, jobs: list[Job]) -> None:
        self.is_held.set()
        assert self.go_on.wait(30)
        self.carried.append([job.number for job in jobs])
        for job in jobs:
            job.future.set_result(job.number)

    def submit(self, number: int) -> Future[int]:
        job = Job(number)
        self.thread.submit(job)
        return job.future

    def hold(self) -> Future[int]:
        """The first job is being carried out when this returns."""
        self.go_on.clear()
        first = self.submit(0)
        assert self.is_held.wait(30)
        return first


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.go_on.set()
    place.thread.close()


def test_what_has_come_meanwhile_goes_together_in_order_and_no_more_than_a_batch(place: Place) -> None:
    first = place.hold()
    futures = [place.submit(number) for number in range(1, BATCH_MAX_JOBS + 11)]
    place.go_on.set()
    assert [future.result(30) for future in futures] == list(range(1, BATCH_MAX_JOBS + 11))
    assert first.result(0) == 0
    assert place.carried == [[0], list(range(1, BATCH_MAX_JOBS + 1)), list(range(BATCH_MAX_JOBS + 1, BATCH_MAX_JOBS + 11))]


def test_what_was_cancelled_is_not_carried_out_and_a_batch_of_nothing_neither(place: Place) -> None:
    first = place.hold()
    gone = [place.submit(number) for number in (1, 2)]
    assert all(future.cancel() for future in gone)
    place.go_on.set()
    assert first.result(30) == 0
    assert place.submit(3).result(30) == 3
    assert place.carried == [[0], [3]]


def test_nothing_of_a_batch_is_held_while_the_next_is_waited_for(place: Place) -> None:
    job = Job(7)
    gone = weakref.ref(job)
    place.thread.submit(job)
    assert job.future.result(30) == 7
    del job
    until = time.monotonic() + 30
    while gone() is not None and time.monotonic() < until:  # its thread is on the way to the next
        threading.Event().wait(0.001)
    assert gone() is None


def test_too_much_that_waits_is_refused_and_nothing_after_the_end(place: Place) -> None:
    place.hold()
    waiting = [place.submit(number) for number in range(QUEUE_MAX_JOBS)]
    with pytest.raises(QuStreamError, match="E-PEER-LIMIT") as caught:
        place.submit(-1)
    assert caught.value.retry_after_ms
    place.go_on.set()
    place.thread.close()
    assert all(future.done() for future in waiting), "closing carries out what was handed in"
    with pytest.raises(QuStreamError, match="E-NODE-READONLY"):
        place.submit(-1)
    place.thread.close()
