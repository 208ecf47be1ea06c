"""How fast bytes come: what of a probe came in the second half of its time, when TCP has found its rate (`proto/spec/bulk.md`, §6)."""

from __future__ import annotations

from bisect import bisect_right

__all__ = ["Meter"]

# Of a probe of 32 MiB in messages of 256 KiB; whoever sends smaller ones is measured by what came first.
ARRIVALS_MAX = 4096


class Meter:
    """`took` for each message, then `late`. Times are microseconds on a monotonic clock."""

    def __init__(self, began_us: int) -> None:
        self.size = 0
        self._times = [began_us]
        self._sizes = [0]  # how much had come by then

    def took(self, size: int, now_us: int) -> None:
        """`size` bytes came."""
        self.size += size
        if len(self._times) < ARRIVALS_MAX:
            self._times.append(now_us)
            self._sizes.append(self.size)

    def late(self) -> tuple[int, int]:
        """Bytes of the second half of the time, and how many microseconds that was."""
        if len(self._times) < 3:
            return 0, 0
        middle = (self._times[0] + self._times[-1]) // 2
        at = bisect_right(self._times, middle) - 1
        return self._sizes[-1] - self._sizes[at], self._times[-1] - self._times[at]
