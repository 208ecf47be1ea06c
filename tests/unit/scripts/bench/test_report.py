"""The form of a bench report; no test here asserts on time."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[4] / "scripts/bench/report.py"
KEYS = ["name", "value", "unit", "against", "ratio", "ratio_min", "ratio_max", "target", "met"]


@pytest.fixture
def report() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("bench_report", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_report"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_report"]


def test_ratio_is_taken_round_by_round(report: Any) -> None:
    row = report.compare("x", [2, 4, 6, 8, 100], [1, 1, 2, 8, 10], unit="ms", against="y", at_most=3)
    assert (row.value, row.ratio, row.ratio_min, row.ratio_max) == (6, 3, 1, 10)
    assert (row.target, row.met) == ("≤ 3 ×", True)


def test_targets_in_both_directions_and_none(report: Any) -> None:
    ours, theirs = [10.0] * 5, [20.0] * 5
    assert report.compare("x", ours, theirs, unit="MB/s", against="y", at_least=0.5).met is True
    assert report.compare("x", ours, theirs, unit="MB/s", against="y", at_least=0.6).met is False
    assert report.compare("x", ours, theirs, unit="ms", against="y", at_most=0.4).met is False
    assert report.compare("x", ours, theirs, unit="ms", against="y").met is None
    row = report.plain("memory", [80, 95, 91], unit="MB", at_most=90)
    assert (row.value, row.target, row.met, row.against, row.ratio) == (91, "≤ 90 MB", False, None, None)


def test_too_few_rounds_are_refused(report: Any) -> None:
    with pytest.raises(AssertionError):
        report.compare("x", [1.0] * 4, [1.0] * 4, unit="ms", against="y")
    with pytest.raises(AssertionError):
        report.measure(int, int, rounds=4)


def test_measure_alternates_and_changes_who_goes_first(report: Any) -> None:
    calls: list[str] = []
    times = report.measure(lambda: calls.append("a"), lambda: calls.append("b"), rounds=5, round_s=1e-7)
    assert len(times.ours_ms) == len(times.theirs_ms) == 5
    turns = [side for n, side in enumerate(calls) if n == 0 or calls[n - 1] != side]
    # a warms up, b warms up, then the rounds ab, ba, ab, ba, ab, in which neighbours of one side melt together.
    assert turns == ["a", "b", "a", "b", "a", "b", "a", "b"]
    assert times.ours_rate(3.0)[0] == pytest.approx(3000 / times.ours_ms[0])


def test_emit_prints_one_object_of_the_agreed_form(report: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        report.compare("x", [1.23456] * 5, [2.0] * 5, unit="ms", against="y", at_most=3, cpu_s=0.1),
        report.plain("z", [7.0], unit="MB"),
    ]
    report.emit("block", rows, 5)
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == ["bench", "rounds", "machine", "rows"]
    assert list(shown["rows"][0]) == [*KEYS, "cpu_s"]
    assert list(shown["rows"][1]) == KEYS
    assert shown["rows"][0]["value"] == 1.235
    assert report.machine() == shown["machine"]
