"""Something that happens at a certain step of the tasks of a trio run: what a race brings about once in a thousand times, each time.

for moment in moments():
    ...
    with moment.happens(act): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import trio

__all__ = ["Moment", "moments"]


class Moment(trio.abc.Instrument):
    """After so many steps. `has_come`: it has happened."""

    def __init__(self, steps: int) -> None:
        self._left, self._act = steps, lambda: None
        self.has_come, self._trouble = False, None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """trio would drop an instrument that raises, and go on."""
        self._left -= 1
        if self._left == 0:
            self.has_come = True
            try:
                self._act()
            except BaseException as error:
                self._trouble = error

    @contextmanager
    def happens(self, act: Callable[[], None]) -> Iterator[None]:
        """Do it then, if this lasts for so long; and it must have been possible."""
        self._act = act
        trio.lowlevel.add_instrument(self)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self)
        if self._trouble is not None:
            raise self._trouble


def moments() -> Iterator[Moment]:
    """The first step, the second, and so on, until one that did not come any more."""
    for steps in count(1):
        yield (moment := Moment(steps))
        if not moment.has_come:
            return
