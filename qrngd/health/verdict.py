"""What the continuous tests say about one window: plain data."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

__all__ = ["Finding", "Grade", "HealthTest", "WindowVerdict"]


class Grade(IntEnum):
    """How bad; the worst of several is their maximum."""

    PASSED = 0
    INTERMITTENT = 1
    PERMANENT = 2


class HealthTest(StrEnum):
    """Which test spoke."""

    REPETITION = "repetition count"
    PROPORTION = "adaptive proportion"
    PREDICTOR = "lag predictor"


class Finding(NamedTuple):
    """One test's alarm in one window.

    `worst`: the largest count, `cutoff`: the intermittent cutoff it reached. `alarms`: samples (repetition) or rows (the other
    two) at or above that cutoff. `place`: the first such sample's offset in the window (repetition), the worst row
    (proportion), the lag of the worst row in samples (predictor).
    """

    test: HealthTest
    grade: Grade
    worst: int
    cutoff: int
    alarms: int
    place: int

    def __str__(self) -> str:
        where = {HealthTest.REPETITION: "sample", HealthTest.PROPORTION: "row", HealthTest.PREDICTOR: "lag"}[self.test]
        return f"{self.test}: {self.worst} where fewer than {self.cutoff} are allowed ({where} {self.place})"


class WindowVerdict(NamedTuple):
    """The verdict on one window, counted from 0 since the daemon started. No findings means passed."""

    window: int
    grade: Grade
    findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        return "; ".join(map(str, self.findings)) or "passed"
