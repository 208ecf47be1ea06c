"""When an alert is raised, told anew, and over: `step(state, event, now_ms) -> effects`. Pure.

An alert is raised when its condition has held for its time at every look, and is over when it has not held for `settle_ms` at every look.
While a server does not answer nothing else is known of it: what fires goes on firing, what was waiting to fire begins from the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from qrngd.alerts.alert import Alert, AlertKey
from qrngd.alerts.conditions import SETTLE_MS, UNREACHABLE, Finding, ServerHistory
from qrngd.alerts.picture import StatusPicture

__all__ = ["AlertState", "Amend", "Effect", "Event", "Raise", "Resolve", "StatusMissed", "StatusSeen", "step"]

# Alerts that fire at once: 64 servers with a device each that reports all its flags. Above it a page invents them.
FIRING_MAX = 4096


@dataclass(frozen=True, slots=True)
class StatusSeen:
    """The status page of `instance` was read."""

    instance: str
    picture: StatusPicture


@dataclass(frozen=True, slots=True)
class StatusMissed:
    """It could not be read; `code` and `detail` say why."""

    instance: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Raise:
    """Tell of a new alert."""

    alert: Alert


@dataclass(frozen=True, slots=True)
class Amend:
    """Its words have changed: tell them with the next renewal."""

    alert: Alert


@dataclass(frozen=True, slots=True)
class Resolve:
    """Tell that it is over; `alert.ended_ms` says since when."""

    alert: Alert


Event: TypeAlias = StatusSeen | StatusMissed
Effect: TypeAlias = Raise | Amend | Resolve


@dataclass(slots=True)
class _Watched:
    """A condition that holds, or an alert that fires. `clear_ms`: since when the condition has not held."""

    since_ms: int
    alert: Alert | None = None
    clear_ms: int | None = None


@dataclass(slots=True)
class _Server:
    history: ServerHistory
    watched: dict[AlertKey, _Watched]
    name: str = ""


class AlertState:
    """Everything remembered. `settle_ms` stands for the minute that most conditions must hold, and that all must be over."""

    def __init__(self, settle_ms: int = SETTLE_MS) -> None:
        self.settle_ms = settle_ms
        self.servers: dict[str, _Server] = {}
        self.unraised = 0

    @property
    def firing(self) -> list[Alert]:
        """The alerts that fire, by server."""
        return [each.alert for server in self.servers.values() for each in server.watched.values() if each.alert is not None]


def step(state: AlertState, event: Event, now_ms: int) -> list[Effect]:
    """What to tell after `event`."""
    server = state.servers.setdefault(event.instance, _Server(ServerHistory(), {}))
    if isinstance(event, StatusSeen):
        server.name = event.picture.server
        findings = list(server.history.findings(event.picture, now_ms))
        effects = _clear(state, server, {_key(event.instance, each) for each in findings}, now_ms)
    else:
        findings = [Finding(UNREACHABLE, event.detail, code=event.code)]
        effects = []
        _hold_breath(server)
    return effects + _found(state, server, event.instance, findings, now_ms)


def _key(instance: str, finding: Finding) -> AlertKey:
    return AlertKey(finding.condition.name, instance, finding.device, finding.flag)


def _found(state: AlertState, server: _Server, instance: str, findings: Iterable[Finding], now_ms: int) -> list[Effect]:
    effects: list[Effect] = []
    for finding in findings:
        watched = server.watched.setdefault(_key(instance, finding), _Watched(now_ms))
        watched.clear_ms = None
        watched.since_ms = min(watched.since_ms, now_ms)  # a clock that was set back
        if watched.alert is not None:
            words = replace(watched.alert, detail=finding.detail, cause=finding.code or finding.condition.code)
            if words != watched.alert:
                watched.alert = words
                effects.append(Amend(words))
        elif now_ms - watched.since_ms >= _hold_ms(state, finding):
            if len(state.firing) >= FIRING_MAX:
                state.unraised += 1
                continue
            watched.alert = _alert(server, instance, finding, now_ms)
            effects.append(Raise(watched.alert))
    return effects


def _hold_ms(state: AlertState, finding: Finding) -> int:
    wanted = finding.condition.hold_ms
    return state.settle_ms if wanted == SETTLE_MS else wanted


def _alert(server: _Server, instance: str, finding: Finding, now_ms: int) -> Alert:
    code = finding.code or finding.condition.code
    where = f"device {finding.device} of {instance}" if finding.device else instance
    summary = f"{where}: {finding.condition.summary}"
    return Alert(_key(instance, finding), finding.condition, code, summary, finding.detail, server.name, now_ms)


def _clear(state: AlertState, server: _Server, held: set[AlertKey], now_ms: int) -> list[Effect]:
    """What does not hold any more: forgotten if it was never told, over when it has been so for long enough."""
    effects: list[Effect] = []
    for key, watched in list(server.watched.items()):
        if key in held:
            continue
        if watched.alert is None:
            del server.watched[key]
            continue
        watched.clear_ms = now_ms if watched.clear_ms is None else min(watched.clear_ms, now_ms)
        if now_ms - watched.clear_ms >= state.settle_ms:
            del server.watched[key]
            effects.append(Resolve(replace(watched.alert, ended_ms=max(now_ms, watched.alert.started_ms + 1))))
    return effects


def _hold_breath(server: _Server) -> None:
    """Nothing is known but that it does not answer."""
    for key, watched in list(server.watched.items()):
        if key.name == UNREACHABLE.name:
            continue
        watched.clear_ms = None
        if watched.alert is None:
            del server.watched[key]
