"""Drives operations with threads, and flows of them to their end (`proto/spec/client.md`, "Asking")."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from typing import TypeVar

from qustream.client.asking import Ask, Operation
from qustream.client.connections import Connections
from qustream.client.flows import Flow
from qustream.errors import QuStreamError

__all__ = ["ThreadDriver"]

_T = TypeVar("_T")
# What came of an ask; an exception that is no `QuStreamError` is our own bug.
_Done = tuple[Ask, bytes | BaseException]


class ThreadDriver:
    """One thread an ask, ten at most for an operation. Threads left over when an operation is over end by themselves within the
    timeouts, and hold up neither the caller nor the end of the program."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def follow(self, flow: Flow[_T]) -> _T:
        """Run a flow to its end and return its result. Whatever happens, Ctrl-C included, the flow tidies up after itself."""
        with contextlib.closing(flow):
            while True:
                try:
                    operation = next(flow)
                except StopIteration as done:
                    result: _T = done.value
                    return result
                self.run(operation)

    def run(self, operation: Operation) -> None:
        """Run `operation` until it is over."""
        done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        under_way = self._begin(operation.start(), done)
        patience_s = operation.patience_ms / 1000 if operation.patience_ms is not None else None
        while under_way and not operation.is_over:
            try:
                ask, result = done.get(timeout=patience_s)
            except queue.Empty:
                under_way += self._begin(operation.waited(), done)
                continue
            under_way -= 1
            if not isinstance(result, bytes | QuStreamError):
                raise result
            under_way += self._begin(operation.completed(ask, result), done)

    def _begin(self, asks: Sequence[Ask], done: queue.SimpleQueue[_Done]) -> int:
        for ask in asks:
            threading.Thread(target=self._ask, args=(ask, done), name="qustream-ask", daemon=True).start()
        return len(asks)

    def _ask(self, ask: Ask, done: queue.SimpleQueue[_Done]) -> None:
        try:
            done.put((ask, self._connections.ask(ask)))
        except BaseException as error:
            done.put((ask, error))
