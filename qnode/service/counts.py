"""What a node counts about the requests it answers; the status snapshot shows it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from qustream.errors import CODES

__all__ = ["DURATION_BOUNDS_MS", "RequestCounts"]

# Upper bounds of the duration counts. A signature and a sync take ~3 ms on an idle node; above ten seconds every deadline is over.
DURATION_BOUNDS_MS = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class RequestCounts:
    """Requests by what became of them, and how long the answered ones took. Keys are the kinds of the protocol and the codes of the
    error table: bounded."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.durations = [0] * (len(DURATION_BOUNDS_MS) + 1)  # the last: slower than all bounds
        self.duration_sum_ms = 0.0

    def count_answered(self, kind: str) -> None:
        """One request of this kind (key, collect, acknowledge, revoke, alerts) was answered."""
        self.answered[kind] += 1

    def count_refused(self, code: str) -> None:
        """One request was refused with this code."""
        assert code in CODES, "refusals carry codes of the table"
        self.refused[code] += 1

    def count_duration(self, duration_ms: float) -> None:
        """An answered request took this long."""
        self.durations[bisect_left(DURATION_BOUNDS_MS, duration_ms)] += 1
        self.duration_sum_ms += duration_ms
