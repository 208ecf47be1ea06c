"""Processes that check signatures: when they start, what becomes of their work when they die, and that they end with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

import qnode.service.verify_pool as module
from qnode.service.verify_child import HYBRID, Check
from qnode.service.verify_pool import ATTEMPTS_MAX, BATCH_JOBS, CheckPool, Job
from qustream.identity.signing import SigningKey

KEY = SigningKey(b"k" * 32)
PUBLIC = KEY.public.ed25519 + KEY.public.mldsa
SIGNATURE = KEY.sign("receipt", b"good")
ILL = (sys.executable, str(Path(__file__).parents[3] / "support/verify_child_ill.py"))


def job(message: bytes = b"good", told: list[bytes] | None = None) -> Job:
    """Only `good` is signed."""
    return Job([Check(HYBRID, PUBLIC, b"receipt", message, SIGNATURE)], lambda _: told.append(message) if told is not None else None)


async def checked(pool: CheckPool, *jobs: Job, urgent: bool = False) -> list[bool | None]:
    for each in jobs:
        await pool.put(each, urgent=urgent)
    with trio.fail_after(60):
        for each in jobs:
            await each.done.wait()
    return [each.holds for each in jobs]


@asynccontextmanager
async def running(workers: int = 1, command: tuple[str, ...] = ()) -> AsyncIterator[CheckPool]:
    pool = CheckPool(workers)
    pool.command = command or pool.command
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield pool
        nursery.cancel_scope.cancel()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_there_is_a_process_when_there_is_work() -> None:
    async with running(2) as pool:
        await trio.testing.wait_all_tasks_blocked()
        assert pool.starts == 0
        assert await checked(pool, job(), job(b"bad"), job()) == [True, False, True]
        assert await checked(pool, job()) == [True]
        assert (pool.starts, pool.checked, len(pool)) == (1, 4, 0), "one keeps up with that"
        pids = set(pool.pids)
    assert pids
    assert not any(map(is_alive, pids))


async def test_others_come_when_one_does_not_keep_up() -> None:
    async with running(2) as pool:
        assert await checked(pool, *[job() for _ in range(4 * BATCH_JOBS)]) == [True] * 4 * BATCH_JOBS
        assert pool.starts == 2


async def test_what_is_urgent_goes_first() -> None:
    order: list[bytes] = []
    pool = CheckPool(1)
    for number in range(3):
        await pool.put(job(b"other %d" % number, order), urgent=False)
    for number in range(3):
        await pool.put(job(b"urgent %d" % number, order), urgent=True)
    last = job(b"last", order)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        await checked(pool, last)
        nursery.cancel_scope.cancel()
    assert order == [b"urgent 0", b"urgent 1", b"urgent 2", b"other 0", b"other 1", b"other 2", b"last"]


async def test_a_killed_process_is_replaced_and_nothing_is_lost() -> None:
    async with running() as pool:
        await checked(pool, job())
        for _ in range(3):
            [pid] = pool.pids
            jobs = [job(b"good" if number % 3 else b"bad") for number in range(100)]
            for each in jobs:
                await pool.put(each, urgent=False)
            await jobs[10].done.wait()
            os.kill(pid, signal.SIGKILL)
            assert [each.holds for each in jobs if await _done(each)] == [bool(number % 3) for number in range(100)]
        assert pool.starts == 4


async def _done(each: Job) -> bool:
    with trio.fail_after(60):
        await each.done.wait()
    return True


async def test_one_that_is_killed_while_it_waits_is_noticed() -> None:
    async with running() as pool:
        await checked(pool, job())
        [pid] = pool.pids
        os.kill(pid, signal.SIGKILL)
        with trio.fail_after(60):
            while pool.pids:
                await trio.sleep(0.01)
        assert await checked(pool, job()) == [True]
        assert pool.starts == 2


async def test_what_processes_die_over_holds_for_nobody_and_takes_nothing_with_it() -> None:
    async with running(command=ILL) as pool:
        jobs = [job(b"die" if number == 5 else b"good") for number in range(20)]
        assert await checked(pool, *jobs) == [None if number == 5 else True for number in range(20)]
        assert pool.starts in (ATTEMPTS_MAX, ATTEMPTS_MAX + 1)
        assert jobs[5].attempts == ATTEMPTS_MAX
        assert await checked(pool, job()) == [True]


async def test_one_that_hangs_is_killed(monkeypatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 2.0)
    # Once it is given up, the good one has as long as ever: the silence counts from the start of a process, which may be slow.
    hangs = Job(job(b"hang").checks, lambda _: monkeypatch.undo())
    async with running(command=ILL) as pool:
        assert await checked(pool, hangs, job()) == [None, True]
        assert hangs.attempts == ATTEMPTS_MAX


async def test_without_processes_it_is_done_here() -> None:
    async with running(command=("/nowhere/at/all",)) as pool:
        assert await checked(pool, job(), job(b"bad")) == [True, False]
        assert pool.starts == 0


async def test_who_comes_with_more_than_has_room_waits_outside(monkeypatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX_BYTES", 3 * job().size)
    pool = CheckPool(1)
    inside = 0

    async def put() -> None:
        nonlocal inside
        await pool.put(job(), urgent=False)
        inside += 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(put)
        await trio.testing.wait_all_tasks_blocked()
        assert inside == len(pool) == 3
        running_scope = trio.CancelScope()

        async def run() -> None:
            with running_scope:
                await pool.run()

        nursery.start_soon(run)
        with trio.fail_after(60):
            while pool.checked < 10:
                await trio.sleep(0.01)
        running_scope.cancel()
    assert inside == 10


async def test_what_is_urgent_does_not_stand_outside_among_the_others(monkeypatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX_BYTES", job().size)
    pool = CheckPool(1)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(lambda: pool.put(job(), urgent=False))
        await trio.testing.wait_all_tasks_blocked()
        assert len(pool) == 1
        with trio.fail_after(60):
            await pool.put(job(b"a vote"), urgent=True)
        assert [each.checks[0].message for each in pool._take()] == [b"a vote", b"good"]
        nursery.cancel_scope.cancel()


async def test_a_batch_is_bounded_by_its_bytes(monkeypatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 2 * job().size)
    pool = CheckPool(1)
    for _ in range(5):
        await pool.put(job(), urgent=False)
    assert [len(pool._take()) for _ in range(4)] == [2, 2, 1, 0]
    await pool.put(Job([Check(HYBRID, PUBLIC, b"receipt", bytes(100_000), SIGNATURE)], lambda _: None), urgent=True)
    assert len(pool._take()) == 1, "one that is larger than a batch is a batch"


PARENT = """
import trio
from qnode.service.verify_child import HYBRID, Check
from qnode.service.verify_pool import CheckPool, Job

async def main():
    pool = CheckPool(1)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        job = Job([Check(HYBRID, b"", b"", b"", b"")], lambda _: None)
        await pool.put(job, urgent=False)
        await job.done.wait()
        print(*pool.pids, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_they_end_with_the_daemon_whatever_ends_it(number) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(number)
        parent.wait(60)
    until_s = time.monotonic() + 30
    while is_alive(pid) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not is_alive(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z", "an orphan waits for init alone"
