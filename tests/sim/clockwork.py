"""Virtual time: what is to happen, in order. Two things due at the same moment happen in the order in which they were planned, so a run
follows from its seed alone."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

__all__ = ["Clockwork"]


# So many things at one moment are a loop in which each plans the next.
AT_ONCE_MAX = 100_000


class Clockwork:
    """Times are microseconds since the beginning. `events`: how many have happened."""

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self._due: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def plan(self, at_us: int, act: Callable[..., None], *arguments: Any) -> None:
        """`act(*arguments)` at `at_us`, or now if that is over."""
        self._planned += 1
        heappush(self._due, (at_us if at_us > self.now_us else self.now_us, self._planned, act, arguments))

    def run(self, until_us: int) -> None:
        """Let happen all that is due up to `until_us`."""
        due = self._due
        moment_us, at_once = -1, 0
        while due and due[0][0] <= until_us:
            at_us, _, act, arguments = heappop(due)
            self.now_us = at_us
            self.events += 1
            if at_us != moment_us:
                moment_us, at_once = at_us, 0
            else:
                at_once += 1
                assert at_once < AT_ONCE_MAX, f"time stands still at {self.now_us} us"
            act(*arguments)
        self.now_us = max(self.now_us, until_us)
