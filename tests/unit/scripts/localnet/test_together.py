"""Threads of the local network's scripts: an interrupt at any moment leaves none of them at work."""

from __future__ import annotations

import importlib
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[4] / "scripts"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("localnet.together")


def test_all_threads_have_started_and_work_side_by_side(module: Any) -> None:
    met = threading.Barrier(3)
    with module.together(3) as pool:
        assert len(pool._threads) == 3
        assert sorted(pool.map(lambda _: met.wait(60), range(3))) == [0, 1, 2]


def test_who_is_interrupted_while_threads_start_waits_for_their_end(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        # As a Ctrl-C in the moment in which the thread goes and `start` has not returned.
        start(self)
        signal.raise_signal(signal.SIGINT)

    before = set(threading.enumerate())
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), module.together(2):
        raise AssertionError("the block is not entered")
    assert set(threading.enumerate()) <= before


def test_what_waits_is_dropped_and_what_runs_has_ended(module: Any) -> None:
    goes, dropped, ended, later = threading.Event(), threading.Event(), [], []

    def work() -> None:
        goes.set()
        dropped.wait(60)
        time.sleep(0.05)  # whoever does not wait for it is gone by then
        ended.append(True)

    def block() -> None:
        with module.together(1) as pool:
            pool.submit(work)
            waits = pool.submit(later.append, True)
            waits.add_done_callback(lambda _: dropped.set())
            assert goes.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block()
    assert (ended, later) == ([True], [])


def test_interrupts_come_at_the_end_and_handlers_are_as_before(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in module.INTERRUPTS]
    reached = []

    def block() -> None:
        with module.interrupts_held():
            signal.raise_signal(signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached
    assert [signal.getsignal(number) for number in module.INTERRUPTS] == before


def test_what_is_ignored_stays_ignored(module: Any) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with module.interrupts_held():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_than_the_main_one_holds_nothing(module: Any) -> None:
    before, during = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with module.interrupts_held():
            during.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [before]


def test_when_no_thread_is_to_be_had_those_that_have_started_end(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def scarce(self: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    before = set(threading.enumerate())
    monkeypatch.setattr(threading.Thread, "start", scarce)
    with pytest.raises(RuntimeError, match="new thread"), module.together(2):
        raise AssertionError("the block is not entered")
    assert set(threading.enumerate()) <= before


def test_an_interrupt_while_handlers_are_set_back_swallows_no_other(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    old = {number: signal.signal(number, lambda got, _: heard.append(got)) for number in module.INTERRUPTS}
    real, calls = signal.signal, []

    def signal_(number: int, handler: Any) -> Any:
        calls.append(number)
        if len(calls) == len(module.INTERRUPTS) + 1:
            raise KeyboardInterrupt
        return real(number, handler)

    def block() -> None:
        with module.interrupts_held():
            pass

    try:
        monkeypatch.setattr(signal, "signal", signal_)
        with pytest.raises(KeyboardInterrupt):
            block()
        for number in module.INTERRUPTS:
            signal.raise_signal(number)
        assert heard == list(module.INTERRUPTS)
    finally:
        monkeypatch.undo()
        for number, handler in old.items():
            signal.signal(number, handler)
