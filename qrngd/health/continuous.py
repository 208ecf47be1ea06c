"""The continuous health tests over whole windows (SP 800-90B §4.4; `proto/spec/entropy-feed.md`, "Health").

    raw bytes → samples → repetition count, adaptive proportion, lag predictor → one verdict a window

State is carried from call to call: how a stream is cut into calls changes no verdict. The start-up test (§4.3) is the same
tests over one full window, at least 65,536 samples where the standard asks for 1,024; those samples are not used.
"""

from __future__ import annotations

from qrngd.health.cutoffs import Cutoffs
from qrngd.health.repetition import RepetitionTest
from qrngd.health.rows import RowTests
from qrngd.health.samples import Bytes, Layout
from qrngd.health.verdict import Grade, WindowVerdict

__all__ = ["BATCH_WINDOWS", "ContinuousTests"]

# Most windows in one call: 1 MiB of byte samples; with fewer the fixed cost of a call shows, with more the caches do.
BATCH_WINDOWS = 16


class ContinuousTests:
    """Judges windows in order. One instance a device; not for two threads at once."""

    def __init__(self, cutoffs: Cutoffs) -> None:
        self.cutoffs = cutoffs
        self.layout = Layout(cutoffs.sample_bits)
        self._windows = 0
        self._repetition = RepetitionTest(cutoffs.repetition, (self.layout.stored_bits + 7) // 8)
        self._rows = RowTests(cutoffs.proportion, self.layout.row_samples, BATCH_WINDOWS)

    def restart(self, window: int) -> None:
        """What comes next does not continue what came before, and the next window has this number."""
        self._windows = window
        self._repetition.restart()
        self._rows.restart()

    def judge(self, raw: Bytes) -> list[WindowVerdict]:
        """One verdict for each window of `raw`: 1 to `BATCH_WINDOWS` whole windows, contiguous.

        Raises E-DEV-READ when a sample is wider than the device's sample width.
        """
        count, rest = divmod(raw.size, self.layout.window_bytes)
        assert rest == 0, "judge takes whole windows"
        assert 1 <= count <= BATCH_WINDOWS, "judge takes 1 to 16 windows"
        samples = self.layout.samples(raw)
        repeated = self._repetition.judge(samples, self.layout.window_samples)
        counted = self._rows.judge(samples)
        first = self._windows
        self._windows += count
        verdicts = [WindowVerdict(first + window, Grade.PASSED) for window in range(count)]
        for window in repeated.keys() | counted.keys():
            findings = tuple(([repeated[window]] if window in repeated else []) + counted.get(window, []))
            verdicts[window] = WindowVerdict(first + window, max(finding.grade for finding in findings), findings)
        return verdicts
