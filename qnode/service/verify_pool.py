"""Processes that check signatures for the daemon: jobs wait in a bounded queue and go to them in batches (`proto/spec/mempool.md`, §4).

    check ─▶ waiting (urgent, others) ─▶ two batches on the way to each process ─▶ one byte a job ─▶ whoever waits

A process starts when there is work for it: the first with the first job, the others when one does not keep up. What a process has not
answered when it dies goes to the next, and what processes die over three times holds for nobody.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence

import trio

from qnode.service.verify_child import Check, check, pack
from qustream.aio.logs import logger

__all__ = ["CheckPool", "Job"]

# Beyond four the event loop is what is full; one processor is the event loop's own.
WORKERS_MAX = 4
# Jobs that go to a process at once: 16 ms of arithmetic, and then a vote has its turn; two are on the way, so that it never waits for us.
BATCH_JOBS, BATCHES_UNDER_WAY = 32, 2
# Of a batch: 32 of the largest transactions would be 2 MiB; then it is fewer.
BATCH_BYTES = 512 * 1024
# What waits: two seconds of transactions. Whoever comes with more waits outside.
WAITING_MAX_BYTES = 16 << 20
# A job that so many processes died over is not given to another one.
ATTEMPTS_MAX = 3
# A batch takes some 16 ms; a process that is silent for so long on a machine of any load hangs.
SILENCE_S = 20.0
# Between a death and the next start: at once is too soon when it dies at once, and later than this nobody is helped.
RESTART_S, RESTART_MAX_S = 0.05, 5.0
# One that has lived so long has not died of its start.
SETTLED_S = 10.0
# For a process to see that its link is gone; then it is killed.
FAREWELL_S = 0.5


class Job:
    """Signatures that hold together or not at all. `holds`: what came of it once it is `done`; None: nobody could tell. `settled` hears
    of it at once."""

    __slots__ = ("_done", "_settled", "attempts", "checks", "holds", "is_done", "size")

    def __init__(self, checks: Sequence[Check], settled: Callable[[Job], None]) -> None:
        self.checks, self._settled = checks, settled
        self.size = sum(len(each.public) + len(each.message) + len(each.signature) for each in checks)
        self.attempts = 0
        self.holds: bool | None = None
        self.is_done = False
        self._done: trio.Event | None = None

    @property
    def done(self) -> trio.Event:
        """To wait for; made when somebody does, for most jobs are done with others that are waited for."""
        if self._done is None:
            self._done = trio.Event()
            if self.is_done:
                self._done.set()
        return self._done

    def settle(self, holds: bool | None) -> None:
        """This came of it."""
        self.holds, self.is_done = holds, True
        self._settled(self)
        if self._done is not None:
            self._done.set()


class CheckPool:
    """`run` it; what is put waits until it runs. `is_short`: no process could be started the last time."""

    def __init__(self, workers: int = 0) -> None:
        """`workers`: how many processes at most; 0: one less than there are processors."""
        self.workers = workers or max(1, min(WORKERS_MAX, (os.cpu_count() or 1) - 1))
        self.starts = self.checked = 0
        self.pids: set[int] = set()
        self.command = (sys.executable, "-I", "-m", "qnode.service.verify_child")
        self._urgent: deque[Job] = deque()
        self._others: deque[Job] = deque()
        self._waiting_bytes = 0
        self.is_short = False  # of processes
        self._work, self._room = trio.Event(), trio.Event()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    async def put(self, job: Job, *, urgent: bool) -> None:
        """Let it be checked; wait for room, not for the answer (`Job.done`). What is urgent has room: who asks for it bounds it, and votes
        do not stand outside among transactions."""
        while not urgent and self._waiting_bytes and self._waiting_bytes + job.size > WAITING_MAX_BYTES:
            await self._room.wait()
        (self._urgent if urgent else self._others).append(job)
        self._waiting_bytes += job.size
        self._work.set()

    def check_now(self, job: Job) -> None:
        """Check it at once and here, which holds the event loop for as long."""
        self._settle(job, check(job.checks))

    # -- processes --------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for index in range(self.workers):
                nursery.start_soon(self._keep, index)
            task_status.started()

    async def _keep(self, index: int) -> None:
        """A process, and another when it is gone."""
        pause_s = RESTART_S
        while True:
            await self._wait_for_work(index)
            began_s = trio.current_time()
            try:
                await self._live(index)
            except OSError as error:  # no descriptor, memory or process is left for a moment
                if not self.is_short:  # once
                    logger("verify").error("no process can be started to check signatures", detail=str(error.strerror))
                self.is_short = True
                await self._check_here()
            pause_s = RESTART_S if trio.current_time() - began_s > SETTLED_S else min(RESTART_MAX_S, 2 * pause_s)
            await trio.sleep(pause_s)

    async def _live(self, index: int) -> None:
        """One process to its end. Errors: OSError, if it cannot be started."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unless_started, theirs:
            unless_started.callback(ours.close)
            process = await trio.lowlevel.open_process(
                [*self.command, str(theirs.fileno())], stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )  # fmt: skip
            unless_started.pop_all()
        self.starts += 1
        self.is_short = False
        self.pids.add(process.pid)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_dead, process, nursery.cancel_scope)
                await self._feed(stream, index)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                stream.socket.close()
                with trio.move_on_after(FAREWELL_S):
                    await process.wait()
                process.kill()
                code = await process.wait()
            self.pids.discard(process.pid)
            logger("verify").debug("a process that checks signatures has ended", exit_code=code)

    async def _feed(self, stream: trio.SocketStream, index: int) -> None:
        """Give it batches and take its answers, until it is of no use any more."""
        under_way: deque[list[Job]] = deque()
        try:
            while True:
                while len(under_way) < BATCHES_UNDER_WAY and (batch := self._take()):
                    under_way.append(batch)
                    await stream.send_all(pack([job.checks for job in batch]))
                if not under_way:
                    await self._wait_for_work(index)
                    continue
                with trio.fail_after(SILENCE_S):
                    answer = await _receive(stream, len(under_way[0]))
                if not answer:
                    return
                for job, holds in zip(under_way.popleft(), answer, strict=True):
                    self._settle(job, bool(holds))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            return
        finally:
            self._give_back(under_way)

    def _take(self) -> list[Job]:
        """The next batch: what is urgent first, and what somebody died over by itself."""
        batch: list[Job] = []
        size = 0
        for queue in (self._urgent, self._others):
            while queue and len(batch) < BATCH_JOBS and (not batch or size + queue[0].size <= BATCH_BYTES):
                if batch and (queue[0].attempts or batch[0].attempts):
                    break
                batch.append(queue.popleft())
                size += batch[-1].size
        if size:
            self._waiting_bytes -= size
            self._room.set()
            self._room = trio.Event()
        return batch

    def _give_back(self, under_way: deque[list[Job]]) -> None:
        """It has died: over the first batch, if over any."""
        for number, batch in reversed(list(enumerate(under_way))):
            for job in reversed(batch):
                job.attempts += not number
                if job.attempts >= ATTEMPTS_MAX:
                    self._settle(job, None)
                else:
                    self._urgent.appendleft(job)
                    self._waiting_bytes += job.size
                    self._work.set()

    def _settle(self, job: Job, holds: bool | None) -> None:
        self.checked += 1
        job.settle(holds)

    async def _check_here(self) -> None:
        """Without a process: slower, and the node lives."""
        for job in self._take():
            self._settle(job, await trio.to_thread.run_sync(check, job.checks))

    async def _wait_for_work(self, index: int) -> None:
        """Until there is some; for all but the first, until there is more than those before can have under way."""
        while len(self) <= index * BATCH_JOBS:
            self._work = trio.Event() if self._work.is_set() else self._work
            await self._work.wait()


async def _until_dead(process: trio.Process, scope: trio.CancelScope) -> None:
    await process.wait()
    scope.cancel()


async def _receive(stream: trio.SocketStream, size: int) -> bytes:
    """So many bytes; none if the other end is gone."""
    answer = b""
    while len(answer) < size:
        part = await stream.receive_some(size - len(answer))
        if not part:
            return b""
        answer += part
    return answer
