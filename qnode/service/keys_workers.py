"""Threads for what takes long: signatures, blocks, seals. Waiting for them, and for the store's thread, on the event loop.

A job may end elsewhere than it began: a built answer is handed to the store on the worker's thread, and the event loop is woken once,
by the commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import trio

__all__ = ["Workers", "settled"]

T = TypeVar("T")


class Workers:
    """One thread more than there are processors: signing leaves the interpreter's lock, and who comes back waits for it. Jobs wait in a
    queue no longer than the requests that are admitted."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1 + (os.cpu_count() or 1), "qnode-keys")

    async def do(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises. Whoever is cancelled stops waiting; the call is finished all the same."""
        return await settled(self._pool.submit(call))

    def start(self, job: Callable[[Future[T]], None]) -> Future[T]:
        """Begin `job`, which completes the future that it is given, now or later; what it raises completes it too."""
        result: Future[T] = Future()

        def begin() -> None:
            try:
                job(result)
            except BaseException as error:  # whoever waits shall see it, a bug as well as a refusal
                result.set_exception(error)

        self._pool.submit(begin)
        return result


async def settled(future: Future[T]) -> T:
    """Wait for another thread's future."""
    if not future.done():
        done = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def wake(_: object) -> None:
            try:
                token.run_sync_soon(done.set)
            except trio.RunFinishedError:
                return  # the daemon has stopped; nobody waits

        future.add_done_callback(wake)
        await done.wait()
    return future.result()
