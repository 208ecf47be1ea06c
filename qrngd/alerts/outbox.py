"""What one receiver still has to be told. Pure: whoever sends takes `due`, and says what became of it.

Alerts that last are told again every `renew_ms`, with their words of then. One that is over is remembered until the receiver has taken
notice, however long it is away; of these at most `ENDED_MAX`, then the oldest is dropped and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from qrngd.alerts.alert import Alert, AlertKey
from qrngd.alerts.core import Effect, Resolve

__all__ = ["Notice", "Outbox", "Status"]

# One request: with 1 KB each, far below what a receiver takes at once.
BATCH_MAX = 128
# Alerts that ended while the receiver was away, half a megabyte: more than anybody reads afterwards.
ENDED_MAX = 1024
# After a failure, doubled each time up to the second: an Alertmanager that restarts is back in seconds.
BACKOFF_FIRST_MS, BACKOFF_MOST_MS = 1_000, 60_000


class Status(StrEnum):
    """Told for the first time, told again, over."""

    RAISED = "raised"
    RENEWED = "renewed"
    RESOLVED = "resolved"


class Notice(NamedTuple):
    """One alert, as it is told."""

    status: Status
    alert: Alert


@dataclass(slots=True)
class _Entry:
    alert: Alert
    told_ms: int | None = None


class Outbox:
    """The memory of one receiver's affairs."""

    def __init__(self, renew_ms: int) -> None:
        self._renew_ms = renew_ms
        # An alert is known by its key and when it started: the same condition may come again before anybody heard that it was over.
        self._entries: dict[tuple[AlertKey, int], _Entry] = {}
        self._failures = 0
        self._not_before_ms = 0
        self.dropped = 0

    def take(self, effect: Effect) -> None:
        """Something is to be told."""
        alert = effect.alert
        entry = self._entries.setdefault((alert.key, alert.started_ms), _Entry(alert))
        entry.alert = alert
        if isinstance(effect, Resolve):
            ended = [key for key, each in self._entries.items() if each.alert.ended_ms is not None]
            for key in ended[:-ENDED_MAX]:
                del self._entries[key]
                self.dropped += 1

    def due(self, now_ms: int) -> list[Notice]:
        """What to send now, the oldest first; nothing while the receiver is given time to recover."""
        # A clock that was set back may keep the receiver waiting for no longer than a pause, or a renewal, lasts.
        self._not_before_ms = min(self._not_before_ms, now_ms + BACKOFF_MOST_MS)
        for entry in self._entries.values():
            entry.told_ms = None if entry.told_ms is None else min(entry.told_ms, now_ms)
        if now_ms < self._not_before_ms:
            return []
        entries = [each for each in self._entries.values() if self._due_ms(each) <= now_ms]
        return [Notice(_status(each), each.alert) for each in entries[:BATCH_MAX]]

    def next_due_ms(self) -> int | None:
        """When `due` has something next if nothing happens meanwhile; None if never."""
        if not self._entries:
            return None
        return max(self._not_before_ms, min(self._due_ms(each) for each in self._entries.values()))

    def _due_ms(self, entry: _Entry) -> int:
        if entry.told_ms is None or entry.alert.ended_ms is not None:
            return 0
        return entry.told_ms + self._renew_ms

    def acknowledged(self, notices: list[Notice], now_ms: int) -> None:
        """The receiver has taken `notices`."""
        self._failures = self._not_before_ms = 0
        for _, alert in notices:
            key = (alert.key, alert.started_ms)
            if alert.ended_ms is not None:
                self._entries.pop(key, None)
            elif key in self._entries:
                self._entries[key].told_ms = now_ms

    def failed(self, now_ms: int) -> int:
        """It has not. Returns the pause in ms before the next attempt."""
        pause_ms = min(BACKOFF_FIRST_MS << min(self._failures, 16), BACKOFF_MOST_MS)
        self._failures += 1
        self._not_before_ms = now_ms + pause_ms
        return pause_ms


def _status(entry: _Entry) -> Status:
    if entry.alert.ended_ms is not None:
        return Status.RESOLVED
    return Status.RAISED if entry.told_ms is None else Status.RENEWED
