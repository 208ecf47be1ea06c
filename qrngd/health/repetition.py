"""The repetition count test, exact over any number of windows at once (SP 800-90B §4.4.1).

The standard's loop keeps B, the length of the run so far, and alarms at each sample where B >= C. Here a batch is first
screened: a long run holds neighbouring equal words, which are rare in random data; only when a screened place really is part
of a long run are all runs measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qrngd.health.samples import Samples
from qrngd.health.verdict import Finding, Grade, HealthTest

__all__ = ["RepetitionTest"]

# Screened places found and examined one by one in Python; random bytes give a few in a batch. A batch in which more remain is measured
# as a whole.
_PLACES_MAX = 64


class RepetitionTest:
    """Carries the current run from call to call, so runs span buffers and windows."""

    def __init__(self, cutoffs: tuple[int, int], itemsize: int) -> None:
        """`cutoffs`: (intermittent, permanent); `itemsize`: bytes an array item, 1 or 2."""
        self._flags = bytearray()
        self._cutoff, self._permanent = cutoffs
        # A run of C samples covers at least (C - w + 1) // w whole aligned words of w samples, all equal: the longest w that
        # leaves two of them is the cheapest screen. Eight bytes is numpy's longest word.
        longest = 8 // itemsize
        fitting = [w for w in (8, 4, 2, 1) if w <= longest and self._cutoff >= 3 * w - 1]
        self._word_samples = fitting[0] if fitting else 1
        self._words = (self._cutoff - self._word_samples + 1) // self._word_samples
        self.restart()

    def restart(self) -> None:
        """Forget the run: the next sample has no predecessor."""
        self._value = -1  # no sample has this value
        self._run = 0

    def judge(self, samples: Samples, window_samples: int) -> dict[int, Finding]:
        """Findings by window number within `samples` (whole windows, in order); windows without one are left out."""
        lead = self._run if samples[0] == self._value else 0
        head = self._head_run(samples) if lead else 0
        if lead + head < self._cutoff and not self._suspicious(samples):
            self._value, self._run = int(samples[-1]), self._head_run(samples[::-1])
            return {}
        return self._measure(samples, window_samples, lead)

    def _head_run(self, samples: Samples) -> int:
        """Length of the run that begins `samples`, as far as the cutoff."""
        first, run = samples[0], 1
        while run < self._cutoff and run < samples.size and samples[run] == first:
            run += 1
        return run

    def _suspicious(self, samples: Samples) -> bool:
        """False only if `samples` holds no run of `_cutoff` samples."""
        if self._words < 2:
            return True
        words = samples.view(f"u{self._word_samples * samples.dtype.itemsize}")
        places = self._equal_neighbours(words)
        for step in range(2, self._words):
            places = places[places + step < words.size]
            places = places[words[places + step] == words[places]]
        inside = samples.reshape(-1, self._word_samples)[places]
        places = places[(inside == inside[:, :1]).all(axis=1)] * self._word_samples
        if places.size > _PLACES_MAX:
            return True
        return any(self._is_long(samples, int(place)) for place in places)

    def _equal_neighbours(self, words: NDArray[np.unsignedinteger]) -> NDArray[np.intp]:
        """Where a word equals the next one."""
        size = -(-words.size // 8) * 8
        if len(self._flags) < size:
            self._flags = bytearray(size)  # as large as the largest batch, once
        equal = np.frombuffer(self._flags, dtype=np.bool_, count=size)
        equal[words.size - 1 :] = False
        np.equal(words[1:], words[:-1], out=equal[: words.size - 1])
        few: list[int] = []
        place = self._flags.find(1, 0, size)
        while place >= 0:
            if len(few) == _PLACES_MAX:
                return self._all_of(equal)
            few.append(place)
            place = self._flags.find(1, place + 1, size)
        return np.array(few, dtype=np.intp)

    @staticmethod
    def _all_of(equal: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Where `equal` is true. Looks at eight at a time first."""
        groups = np.flatnonzero(equal.view(np.uint64) != 0)
        which, inside = np.nonzero(equal.reshape(-1, 8)[groups])
        places: NDArray[np.intp] = groups[which] * 8 + inside
        return places

    def _is_long(self, samples: Samples, place: int) -> bool:
        """Whether the run through `place` reaches the cutoff."""
        start = max(0, place - self._cutoff + 1)
        before, after = samples[start : place + 1][::-1], samples[place : place + self._cutoff]
        return self._head_run(before) + self._head_run(after) > self._cutoff

    def _measure(self, samples: Samples, window_samples: int, lead: int) -> dict[int, Finding]:
        starts = np.concatenate(([0], np.flatnonzero(samples[1:] != samples[:-1]) + 1))
        ends = np.append(starts[1:], samples.size)
        counted_from = starts.copy()  # where the run would have begun had all of it been in this batch
        counted_from[0] -= lead
        self._value, self._run = int(samples[-1]), int(ends[-1] - counted_from[-1])
        long = ends - counted_from >= self._cutoff
        counted_from, ends = counted_from[long], ends[long]
        findings = {}
        for window in range(samples.size // window_samples):
            finding = self._finding(counted_from, ends, window * window_samples, (window + 1) * window_samples)
            if finding is not None:
                findings[window] = finding
        return findings

    def _finding(self, starts: NDArray[np.intp], ends: NDArray[np.intp], low: int, high: int) -> Finding | None:
        """The finding for samples low … high-1, given the long runs [start, end)."""
        first = np.maximum(starts + self._cutoff - 1, low)  # the run's first alarming sample in the window
        last = np.minimum(ends, high)  # one past its last
        here = last > first
        if not here.any():
            return None
        first, last, starts = first[here], last[here], starts[here]
        worst = int((last - starts).max())
        grade = Grade.PERMANENT if worst >= self._permanent else Grade.INTERMITTENT
        return Finding(HealthTest.REPETITION, grade, worst, self._cutoff, int((last - first).sum()), int(first[0]) - low)
