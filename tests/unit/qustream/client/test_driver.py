"""Threads that ask, and flows followed to their end."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

from qustream.client.asking import Ask, Operation, Tell
from qustream.client.driver import ThreadDriver
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.network import NodeClass, NodeRecord

NODES = [
    NodeRecord(SigningKey(hashlib.sha256(bytes([n])).digest()).public, NodeClass.COMMUNITY, f"op{n}", bytes(16), (), 1, True)
    for n in range(4)
]


class Asked:
    """Stands where connections stand: answers as each node's function says."""

    def __init__(self, *answers: Callable[[], bytes]) -> None:
        self.answers = {node.key.id: answer for node, answer in zip(NODES, answers, strict=False)}

    def ask(self, ask: Ask) -> bytes:
        return self.answers[ask.id]()


def raising(error: BaseException) -> Callable[[], bytes]:
    def answer() -> bytes:
        raise error

    return answer


def tell(count: int, patience_ms: int | None = None) -> Tell[bytes]:
    return Tell(NODES[:count], ask=lambda node: Ask(node, lambda _: b"", 10), check=lambda node, data: data, patience_ms=patience_ms)


def test_asks_run_side_by_side() -> None:
    together = threading.Barrier(4, timeout=60)

    def meet() -> bytes:
        together.wait()
        return b"met"

    told = tell(4)
    ThreadDriver(Asked(meet, meet, meet, meet)).run(told)
    assert list(told.answers.values()) == [b"met"] * 4


def test_coded_errors_are_results() -> None:
    told = tell(2)
    ThreadDriver(Asked(lambda: b"yes", raising(fault("E-NODE-FULL")))).run(told)
    assert told.answers == {NODES[0].key.id: b"yes"}
    assert told.errors[NODES[1].key.id].code == "E-NODE-FULL"


def test_other_errors_are_our_bugs_and_come_out() -> None:
    with pytest.raises(ZeroDivisionError):
        ThreadDriver(Asked(raising(ZeroDivisionError("bug")))).run(tell(1))


def test_whoever_does_not_answer_is_left_behind() -> None:
    never = threading.Event()
    told = tell(2, patience_ms=30)
    started = time.monotonic()
    ThreadDriver(Asked(lambda: b"yes", lambda: bytes([never.wait(60)]))).run(told)
    assert time.monotonic() - started < 20
    assert told.errors[NODES[1].key.id].code == "E-DEADLINE"
    never.set()


def test_an_operation_that_asks_nobody_is_over() -> None:
    ThreadDriver(Asked()).run(tell(0))


class Flow:
    """A flow of two operations that notes how it ended."""

    def __init__(self) -> None:
        self.ended = ""

    def run(self) -> Generator[Operation, None, str]:
        try:
            for _ in range(2):
                told = tell(1)
                yield told
                told.answers[NODES[0].key.id]
            return "done"
        except GeneratorExit:
            self.ended = "closed"
            raise
        finally:
            self.ended = self.ended or "through"


def test_a_flow_is_followed_to_its_result() -> None:
    flow = Flow()
    assert ThreadDriver(Asked(lambda: b"yes")).follow(flow.run()) == "done"
    assert flow.ended == "through"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_a_flow_that_is_broken_off_tidies_up(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, driver = Flow(), ThreadDriver(Asked(lambda: b"yes"))

    def broken(operation: Operation) -> None:
        raise error

    monkeypatch.setattr(driver, "run", broken)
    with pytest.raises(type(error)):
        driver.follow(flow.run())
    assert flow.ended == "closed"


def test_a_flows_own_error_comes_out() -> None:
    def flow() -> Generator[Operation, None, None]:
        yield tell(1)
        raise fault("E-PAD-SIZE")

    with pytest.raises(QuStreamError) as caught:
        ThreadDriver(Asked(lambda: b"yes")).follow(flow())
    assert caught.value.code == "E-PAD-SIZE"


def test_threads_left_behind_do_not_hold_up_the_program() -> None:
    """They are daemons: a command ends although a node hangs."""
    kinds: list[Any] = []

    def look() -> bytes:
        kinds.append(threading.current_thread().daemon)
        return b""

    ThreadDriver(Asked(look)).run(tell(1))
    assert kinds == [True]
