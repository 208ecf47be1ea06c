"""How much a counter grew in the last minutes, across restarts of whoever counts."""

from __future__ import annotations

from collections import deque

__all__ = ["Meter"]

# One mark a minute: sixty for the longest window, which then begins at most a minute, and what lay between two readings, too early.
MARK_INTERVAL_MS = 60_000


class Meter:
    """Follows one counter over a window of `window_ms`."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._marks: deque[tuple[int, int]] = deque()  # (when, growth since the first reading), oldest first
        self._last = 0
        self._total = 0

    def read(self, value: int, now_ms: int, *, restarted: bool) -> None:
        """The counter stands at `value`; `restarted`: it began from zero since the last reading. After a gap longer than the window, or
        when the clock went back, this is a first reading again."""
        if self._marks and 0 <= now_ms - self._marks[-1][0] <= self._window_ms:
            self._total += value if restarted or value < self._last else value - self._last
        else:
            self._marks.clear()
            self._total = 0
        self._last = value
        if not self._marks or now_ms - self._marks[-1][0] >= MARK_INTERVAL_MS:
            self._marks.append((now_ms, self._total))
        while len(self._marks) > 1 and self._marks[1][0] <= now_ms - self._window_ms:
            self._marks.popleft()

    @property
    def growth(self) -> int:
        """In the window, or in what was seen of it."""
        return self._total - self._marks[0][1] if self._marks else 0

    def covers(self, now_ms: int) -> bool:
        """Whether the whole window was seen."""
        return bool(self._marks) and now_ms - self._marks[0][0] >= self._window_ms
