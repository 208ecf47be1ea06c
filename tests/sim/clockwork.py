"""Virtual time: what is to happen, in order. Two things due at the same moment happen in the order in which they were planned, so a run
follows from its seed alone."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

__all__ = ["Clockwork"]


# So many things at one moment are a loop in which each plans the next.
AT_ONCE_MAX = 100_000
# What is planned lies in baskets of 2 to this power microseconds, about one millisecond, and a basket is sorted when its time has come: one
# heap of a hundred thousand things costs several times that.
BASKET_BITS = 10
_Planned = tuple[int, int, Callable[..., None], tuple[Any, ...]]


class Clockwork:
    """Times are microseconds since the beginning. `events`: how many have happened."""

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self._planned = 0
        self._baskets: dict[int, list[_Planned]] = {}
        self._order: list[int] = []  # a heap of their numbers
        self._basket = -1  # the one that is open
        self._open: list[_Planned] = []  # what is left of it, the last first
        self._late: list[_Planned] = []  # a heap of what was planned for it since it is open

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def plan(self, at_us: int, act: Callable[..., None], *arguments: Any) -> None:
        """`act(*arguments)` at `at_us`, or now if that is over."""
        self._planned = planned = self._planned + 1
        if at_us < self.now_us:
            at_us = self.now_us
        number = at_us >> BASKET_BITS
        if number <= self._basket:
            heappush(self._late, (at_us, planned, act, arguments))
        elif (basket := self._baskets.get(number)) is not None:
            basket.append((at_us, planned, act, arguments))
        else:
            self._baskets[number] = [(at_us, planned, act, arguments)]
            heappush(self._order, number)

    def _open_next(self, until_us: int) -> bool:
        """Open the next basket, if it is time; the last one is empty."""
        if not self._order or self._order[0] > until_us >> BASKET_BITS:
            return False
        self._basket = heappop(self._order)
        self._open = self._baskets.pop(self._basket)
        self._open.sort(reverse=True)
        return True

    def run(self, until_us: int) -> None:
        """Let happen all that is due up to `until_us`."""
        late, due = self._late, self._open
        moment_us, at_once = -1, 0
        while True:
            if late and (not due or late[0] < due[-1]):
                if late[0][0] > until_us:
                    break
                at_us, _, act, arguments = heappop(late)
            elif due:
                if due[-1][0] > until_us:
                    break
                at_us, _, act, arguments = due.pop()
            elif self._open_next(until_us):
                due = self._open
                continue
            else:
                break
            self.now_us = at_us
            self.events += 1
            if at_us != moment_us:
                moment_us, at_once = at_us, 0
            else:
                at_once += 1
                assert at_once < AT_ONCE_MAX, f"time stands still at {self.now_us} us"
            act(*arguments)
        self.now_us = max(self.now_us, until_us)
