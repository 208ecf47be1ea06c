"""The nouns of alerts: what is watched for, and one thing that was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from qustream.errors import CODES

__all__ = ["Alert", "AlertKey", "Condition", "Severity"]


class Severity(StrEnum):
    """How soon somebody must look: now, or in the morning."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Condition:
    """Something to watch for. `hold_ms`: how long it must last before it is told. Name, severity and code are those of the rule of the same
    name in `deploy/prometheus/qrngd.rules.yml`; `summary` says what is wrong, after the name of the server or device."""

    name: str
    severity: Severity
    code: str
    hold_ms: int
    summary: str


class AlertKey(NamedTuple):
    """What one alert is about: a condition of a server, or of one device of it, or of one flag of that device."""

    name: str
    instance: str
    device: str = ""
    flag: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that holds, or held. `cause`: the code that fits best, often the device's own; `ended_ms` is None while it lasts.
    `server`: the id the page gave, '' if it never answered."""

    key: AlertKey
    condition: Condition
    cause: str
    summary: str
    detail: str
    server: str
    started_ms: int
    ended_ms: int | None = None

    @property
    def remedy(self) -> str:
        """What to do next, as a phrase."""
        return CODES[self.cause].remedy

    @property
    def runbook(self) -> str:
        """Where the source tree has the page on it."""
        return f"deploy/runbooks/{self.cause}.md"
