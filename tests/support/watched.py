"""Alert rules and a dashboard as they lie in `deploy/`, and what they speak of: for tests that compare them with the metrics there are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from support.debian import program

__all__ = ["DEPLOY", "FOREIGN", "PROMETHEUS", "TARGET_LABELS", "Watched", "only", "tool"]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
# What Prometheus adds itself, and the rules make.
FOREIGN = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
TARGET_LABELS = {"job", "instance"}


def tool(name: str, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of Prometheus' programs in the folder of the rules."""
    found = program(name)
    assert found is not None
    return subprocess.run([found, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=120, cwd=PROMETHEUS)


def only(rules: str, names: list[str]) -> str:
    """The rules of these names, as a file."""
    head, *groups = re.split(r"^(?=  - name: )", rules, flags=re.MULTILINE)
    kept = [head]
    for group in groups:
        top, *parts = re.split(r"^(?=      - (?:alert|record): )", group, flags=re.MULTILINE)
        if mine := [part for part in parts if part.split()[2] in names]:
            kept += [top, *mine]
    return "".join(kept)


class Watched:
    """What is watched of one daemon. `pages`: makes its pages with something in every field."""

    def __init__(self, daemon: str, pages: Callable[[], list[bytes]]) -> None:
        self.daemon, self._pages = daemon, pages
        self.rules = (PROMETHEUS / f"{daemon}.rules.yml").read_text()
        self.rule_tests = sorted(PROMETHEUS.glob(f"{daemon}.*.test.yml"))
        self.dashboard: dict[str, Any] = json.loads((DEPLOY / "grafana" / f"{daemon}.json").read_text())

    def __repr__(self) -> str:
        return self.daemon

    @cached_property
    def metrics(self) -> dict[str, set[str]]:
        """Every sample the daemon shows, with its labels."""
        found: dict[str, set[str]] = {}
        for text in self._pages():
            for family in text_string_to_metric_families(text.decode()):
                for line in family.samples:
                    found.setdefault(line.name, set()).update(line.labels)
        return found

    @cached_property
    def alerts(self) -> dict[str, str]:
        """The text of each alert's rule."""
        parts = re.split(r"^ +- (?=alert: |record: )", self.rules, flags=re.MULTILINE)[1:]
        return {part.split()[1]: part for part in parts if part.startswith("alert: ")}

    def rules_for(self, text: str) -> list[str]:
        """Names of the rules that are named in `text`, and in theirs: all others have no say in what a test of that text finds."""
        parts = {part.split()[1]: part for part in re.split(r"^ +- (?=alert: |record: )", self.rules, flags=re.MULTILINE)[1:]}
        found: dict[str, None] = {}
        texts = [text]
        while texts:
            text = texts.pop()
            new = [name for name in parts if name in text and name not in found]
            found |= dict.fromkeys(new)
            texts += [parts[name] for name in new]
        return list(found)

    def tests_of(self, rule: str) -> list[str]:
        """Each test of the rules as a file of its own: first those that name this rule, and of these the quickest."""
        found: list[tuple[bool, int, str]] = []
        for each in self.rule_tests:
            head, *tests = re.split(r"^(?=  - name: )", each.read_text(), flags=re.MULTILINE)
            for test in tests:
                times = re.findall(r"eval_time: (\d+)([mhd])", test)
                lasts = max(int(count) * {"m": 1, "h": 60, "d": 1440}[unit] for count, unit in times)
                found.append((rule not in test, lasts, head + test))
        return [test for *_, test in sorted(found)]

    @cached_property
    def recorded(self) -> set[str]:
        return set(re.findall(r"- record: (\S+)", self.rules))

    @cached_property
    def rule_expressions(self) -> list[str]:
        found = re.findall(r"^ +expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", self.rules, re.MULTILINE)
        return [block or line for block, line in found]

    @cached_property
    def panel_expressions(self) -> list[str]:
        return [target["expr"] for panel in self.dashboard["panels"] for target in panel.get("targets", [])]

    def names_in(self, expression: str) -> set[str]:
        """The metrics of an expression."""
        bare = re.sub(r'"[^"]*"|\{[^}]*\}', "", expression)
        return set(re.findall(rf"\b(?:{self.daemon}_\w+|process_\w+|up|ALERTS|(?:device|instance):[\w:]+)(?![\w:])", bare))

    def check_names(self, expression: str) -> None:
        """Raises AssertionError for a metric or a label that is not there."""
        known: set[str] = set(TARGET_LABELS)
        for name in self.names_in(expression):
            if name in self.recorded:
                known |= {name.partition(":")[0]}
            else:
                assert name in self.metrics or name in FOREIGN, f"no metric {name}"
                known |= self.metrics.get(name, FOREIGN.get(name, set()))
        assert self.names_in(expression)
        assert labels_in(expression) <= known, expression


def labels_in(expression: str) -> set[str]:
    """The labels of its matchers and of its clauses."""
    matchers = [re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\"", part) for part in re.findall(r"\{([^}]*)\}", re.sub(r'"[^"]*"', '""', expression))]
    clauses = re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", expression)
    return {label for found in matchers for label in found} | {label.strip() for each in clauses for label in each.split(",")}
