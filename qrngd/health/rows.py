"""The two tests that count hits in a row: adaptive proportion (SP 800-90B §4.4.2) and the lag predictor.

Both compare every sample with one other and count the equal pairs in each row; the count of a source that keeps its claim is
at most binomial, so both share one cutoff. The adaptive proportion test compares with the row's first sample (which counts
itself). The lag predictor guesses that each sample repeats the one d samples before it; row k of a window tries d = k + 1, so
each window tries every lag from 1 to 128, and a source with a period of 128 samples or less fails in every window.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from qrngd.health.samples import ROWS, Samples
from qrngd.health.verdict import Finding, Grade, HealthTest

__all__ = ["RowTests"]

_EVEN_BYTES = np.uint64(0x00FF00FF00FF00FF)
_ONES = np.uint64(0x0001000100010001)


class RowTests:
    """Counts hits row by row. Holds one scratch buffer of a batch's size and the last sample seen."""

    def __init__(self, cutoffs: tuple[int, int], row_samples: int, windows_max: int) -> None:
        """`cutoffs`: (intermittent, permanent); `windows_max`: most windows in one call."""
        self._cutoff, self._permanent = cutoffs
        self._row_samples = row_samples
        self._equal = np.empty(windows_max * ROWS * row_samples, dtype=np.bool_)
        self.restart()

    def restart(self) -> None:
        """Forget the last sample: the next one has no predecessor."""
        self._last: int | None = None

    def judge(self, samples: Samples) -> dict[int, list[Finding]]:
        """Findings by window number within `samples` (whole windows, in order); windows without one are left out."""
        found: dict[int, list[Finding]] = {}
        for test, hits in (
            (HealthTest.PROPORTION, self._proportion_hits(samples)),
            (HealthTest.PREDICTOR, self._predictor_hits(samples)),
        ):
            if int(hits.max()) >= self._cutoff:
                for window in np.flatnonzero((hits >= self._cutoff).any(axis=1)).tolist():
                    found.setdefault(window, []).append(self._finding(test, hits[window]))
        self._last = int(samples[-1])
        return found

    def _finding(self, test: HealthTest, hits: NDArray[np.uint64]) -> Finding:
        row = int(hits.argmax())
        worst = int(hits[row])
        return Finding(
            test=test,
            grade=Grade.PERMANENT if worst >= self._permanent else Grade.INTERMITTENT,
            worst=worst,
            cutoff=self._cutoff,
            alarms=int(np.count_nonzero(hits >= self._cutoff)),
            place=row + 1 if test is HealthTest.PREDICTOR else row,
        )

    def _proportion_hits(self, samples: Samples) -> NDArray[np.uint64]:
        rows = samples.reshape(-1, self._row_samples)
        equal = self._equal[: samples.size]
        np.equal(rows, rows[:, :1], out=equal.reshape(rows.shape))
        return self._count(equal)

    def _predictor_hits(self, samples: Samples) -> NDArray[np.uint64]:
        width = self._row_samples
        windows = samples.reshape(-1, ROWS, width)
        equal = self._equal[: samples.size]
        cube = equal.reshape(windows.shape)
        # Row k starts at sample k * width of its window and is compared with what stands k + 1 samples earlier: from one row
        # to the next the other side moves by width - 1. Row 0 would begin one sample before the window and is done apart.
        window_stride, row_stride, item = windows.strides
        earlier = as_strided(
            samples[width - 2 :],
            shape=(windows.shape[0], ROWS - 1, width),
            strides=(window_stride, row_stride - item, item),
            writeable=False,
        )
        np.equal(windows[:, 1:], earlier, out=cube[:, 1:])
        np.equal(windows[:, 0, 1:], windows[:, 0, :-1], out=cube[:, 0, 1:])
        np.equal(windows[1:, 0, 0], windows[:-1, -1, -1], out=cube[1:, 0, 0])
        cube[0, 0, 0] = self._last is not None and int(samples[0]) == self._last
        return self._count(equal)

    def _count(self, equal: NDArray[np.bool_]) -> NDArray[np.uint64]:
        """True items in each row, as (windows, ROWS). Eight columns are summed in the bytes of one word: at most 128 a byte."""
        words = equal.view(np.uint64).reshape(-1, self._row_samples // 8)
        columns = np.einsum("ij->i", words)  # half the time of np.add.reduce for rows this short
        pairs = (columns & _EVEN_BYTES) + (columns >> np.uint64(8) & _EVEN_BYTES)
        counts: NDArray[np.uint64] = pairs * _ONES >> np.uint64(48)
        return counts.reshape(-1, ROWS)
