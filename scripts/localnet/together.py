"""Threads that no signal leaves behind: whoever interrupts a run finds none of its work still going on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def together(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose `count` threads have started. Interrupted, what waits in it is dropped, and what runs has ended at the end.

    A pool starts its threads when it is given work, and one interrupted in that moment forgets the thread: its end would not wait.
    """
    with ThreadPoolExecutor(count) as pool:
        with interrupts_held():
            met = threading.Barrier(count)
            try:
                for _ in range(count):
                    pool.submit(met.wait)
            except BaseException:  # no thread is left to be had: those that wait for it end
                met.abort()
                raise
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def interrupts_held() -> Iterator[None]:
    """What would interrupt the block does so at its end. Threads and programs started within inherit no mask of signals."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python interrupts the main thread alone
        return
    came: list[int] = []
    is_held = True

    def note(number: int, frame: FrameType | None) -> None:
        if is_held:
            came.append(number)
        elif callable(handler := before[signal.Signals(number)]):  # not set back yet
            handler(number, frame)

    before = {number: handler for number in INTERRUPTS if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, note)
        yield
    finally:
        is_held = False
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)
