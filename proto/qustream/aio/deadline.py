"""A deadline that speaks our language."""

from __future__ import annotations

from types import TracebackType

import trio

from qustream.errors import fault

__all__ = ["Deadline"]


class Deadline:
    """`with Deadline(timeout_ms, detail)`: like `trio.fail_after`, with our own error. Errors: `E-DEADLINE`."""

    def __init__(self, timeout_ms: float, detail: str) -> None:
        self._scope = trio.CancelScope()
        self._timeout_s = timeout_ms / 1000
        self._detail = detail

    def __enter__(self) -> None:
        self._scope.deadline = trio.current_time() + self._timeout_s
        self._scope.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise fault("E-DEADLINE", self._detail)
