"""The form every bench reports in: one JSON object on standard output, made of rows that compare two sides in one run.

A bench reads like this (run it as `.venv/bin/python scripts/bench/<name>.py`, then this module is importable as `report`):

    from report import compare, emit, measure

    times = measure(lambda: ours(data), lambda: theirs(data))
    emit("block", [compare("build", times.ours_ms, times.theirs_ms, unit="ms", against="SHA-256 of 256 KiB", at_most=3)])

`measure` alternates the two sides, ≥ 5 rounds, and swaps which goes first. A bench that has to time in its own way (a server, a
process) alternates itself and hands `compare` one figure of each side for each round, in the same unit: times, with `at_most`, or rates,
with `at_least`. `plain` makes a row that has no other side. Figures drift between machines and hours; ratios of one round hold, so the
ratio is taken round by round and its median, least and greatest are reported. Nothing here asserts: a bench exits 0 whatever it finds.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

__all__ = ["MIN_ROUNDS", "Row", "Times", "compare", "emit", "machine", "measure", "plain"]

MIN_ROUNDS = 5  # fewer say nothing about the spread
ROUND_S = 0.1  # each side of a round is repeated for at least this long, so that the clock and one interruption do not matter


@dataclass(frozen=True)
class Row:
    """One line of a report. `value` is the median of our side in `unit`; `ratio` is ours divided by theirs, the median of the rounds.

    `target` is in words ("≤ 3 ×", "≥ 7.5 Gbit/s"), None where the row only informs; `met` is then None too. `cpu_s` is the CPU time of
    one call of ours, where it tells more than the wall clock.
    """

    name: str
    value: float
    unit: str
    against: str | None
    ratio: float | None
    ratio_min: float | None
    ratio_max: float | None
    target: str | None
    met: bool | None
    cpu_s: float | None = None


@dataclass(frozen=True)
class Times:
    """Milliseconds a call, one entry for each round; `cpu_s` is the median CPU time of one call of ours, in seconds."""

    ours_ms: list[float]
    theirs_ms: list[float]
    cpu_s: float

    def ours_rate(self, amount: float) -> list[float]:
        """Return `amount` a second for each round: of bytes, keys, Gbit, whatever one call of ours handles."""
        return [amount / (ms / 1000) for ms in self.ours_ms]

    def theirs_rate(self, amount: float) -> list[float]:
        """Return the same for the other side."""
        return [amount / (ms / 1000) for ms in self.theirs_ms]


def measure(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 7, round_s: float = ROUND_S) -> Times:
    """Time the two sides in alternation. Each is called once before, and then as often as fills `round_s` seconds a round."""
    assert rounds >= MIN_ROUNDS
    ours_calls, theirs_calls = _calls_to_fill(ours, round_s), _calls_to_fill(theirs, round_s)
    ours_ms: list[float] = []
    theirs_ms: list[float] = []
    cpu_s: list[float] = []
    for number in range(rounds):
        if number % 2:
            theirs_ms.append(_timed(theirs, theirs_calls)[0])
        wall_ms, cpu = _timed(ours, ours_calls)
        ours_ms.append(wall_ms)
        cpu_s.append(cpu)
        if not number % 2:
            theirs_ms.append(_timed(theirs, theirs_calls)[0])
    return Times(ours_ms, theirs_ms, statistics.median(cpu_s))


def _calls_to_fill(call: Callable[[], object], seconds: float) -> int:
    call()
    calls = 1
    while (taken_ms := _timed(call, calls)[0] * calls) < 1000 * seconds / 4:
        calls *= 2
    return max(1, round(calls * 1000 * seconds / taken_ms))


def _timed(call: Callable[[], object], calls: int) -> tuple[float, float]:
    """Return milliseconds of wall clock and seconds of this process's CPU, for one of `calls` calls."""
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) * 1000 / calls, (time.process_time() - cpu) / calls


def compare(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    unit: str,
    against: str,
    at_most: float | None = None,
    at_least: float | None = None,
    cpu_s: float | None = None,
) -> Row:
    """Return the row of two sides measured in the same rounds and the same unit; the target is a bound on the ratio, if there is one."""
    assert len(ours) == len(theirs) >= MIN_ROUNDS
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    target, met = _judge(ratio, "×", at_most, at_least)
    return Row(name, statistics.median(ours), unit, against, ratio, min(ratios), max(ratios), target, met, cpu_s)


def plain(name: str, values: Sequence[float], *, unit: str, at_most: float | None = None, at_least: float | None = None) -> Row:
    """Return a row without another side: the median of `values`, with the target in the same unit, if there is one."""
    value = statistics.median(values)
    target, met = _judge(value, unit, at_most, at_least)
    return Row(name, value, unit, None, None, None, None, target, met)


def _judge(figure: float, unit: str, at_most: float | None, at_least: float | None) -> tuple[str | None, bool | None]:
    assert at_most is None or at_least is None
    if at_most is not None:
        return f"≤ {at_most:g} {unit}", figure <= at_most
    if at_least is not None:
        return f"≥ {at_least:g} {unit}", figure >= at_least
    return None, None


def machine() -> str:
    """Return processor, number of CPUs, Python and kernel: what a figure depends on. No host name, no paths."""
    model = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as info:
            model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), model)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{model}, {os.cpu_count()} CPUs, {python}, {platform.system()} {platform.release()}"


def emit(bench: str, rows: Sequence[Row], rounds: int = 7, skipped: Mapping[str, str] | None = None) -> None:
    """Print the report. Figures keep four significant digits. `skipped`: rows that could not be measured here, with the reason."""
    shown = [{k: _rounded(v) for k, v in asdict(row).items() if k != "cpu_s" or v is not None} for row in rows]
    report = {"bench": bench, "rounds": rounds, "machine": machine(), "rows": shown} | ({"skipped": dict(skipped)} if skipped else {})
    print(json.dumps(report, indent=1, ensure_ascii=False))


def _rounded(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value
