"""How fast an emulated device delivers."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Pace"]

# What may be made up for after a pause: a device does not save what nobody took.
BURST_S = 0.05


class Pace:
    """At most `rate` bytes a second, 0: as fast as they are taken. `clock_s`: any monotonic clock."""

    def __init__(self, rate: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock_s = rate, clock_s
        self._burst = max(1.0, rate * BURST_S)
        self._saved = 0.0
        self._then_s = clock_s()

    def allowed(self, most: int) -> int:
        """How many bytes may go now, up to `most`."""
        if not self._rate:
            return most
        now_s = self._clock_s()
        self._saved = min(self._burst, self._saved + (now_s - self._then_s) * self._rate)
        self._then_s = now_s
        return min(most, int(self._saved))

    def spend(self, size: int) -> None:
        """`size` bytes went."""
        self._saved -= size
