"""Time for machines that must not see it go back."""

from __future__ import annotations

from collections.abc import Callable

import trio

__all__ = ["SteadyClock"]


class SteadyClock:
    """Unix ms as they were when it was first asked, and from then on by trio's clock: whoever sets the machine's clock moves no back-off,
    and ends no punishment. To be asked in the event loop."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._offset_ms: int | None = None

    def __call__(self) -> int:
        now_ms = int(trio.current_time() * 1000)
        if self._offset_ms is None:
            self._offset_ms = self._clock_ms() - now_ms
        return now_ms + self._offset_ms
