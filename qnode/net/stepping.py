"""Events for a core, one at a time: what comes of performing its effects waits until all of them have been performed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["Stepping"]

_Event = TypeVar("_Event")
_Effect = TypeVar("_Effect")


class Stepping(Generic[_Event, _Effect]):
    """Call it with an event. `step`: what follows from one; `perform`: does it, and may call this again."""

    def __init__(self, step: Callable[[_Event], Iterable[_Effect]], perform: Callable[[_Effect], None]) -> None:
        self._step, self._perform = step, perform
        self._events: deque[_Event] = deque()
        self._is_stepping = False

    def __call__(self, event: _Event) -> None:
        self._events.append(event)
        if self._is_stepping:
            return
        self._is_stepping = True
        try:
            while self._events:
                for effect in self._step(self._events.popleft()):
                    self._perform(effect)
        finally:
            self._is_stepping = False
