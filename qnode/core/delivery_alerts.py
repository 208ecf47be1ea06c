"""Alerts for users, bounded so that no stranger fills a disk with them (`proto/spec/delivery.md` §7).

`AlertGate` decides in memory what may be written; `noted` folds a written note into what a user's record holds.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from qustream.wire.keys import Alert

__all__ = ["ALERTS_A_CODE_MAX", "ALERT_KEEP_MS", "AlertGate", "AlertNote", "newest", "noted", "unexpired"]

# Two codes are noted and an answer carries 64; unknown devices, which anybody can invent, never displace revoked ones.
ALERTS_A_CODE_MAX = 32
# Longer than a user leaves all devices off, short enough that notes do not pile up.
ALERT_KEEP_MS = 90 * 86_400_000
# One note is written at most so often; what comes in between is counted and added.
NOTE_INTERVAL_MS = 60_000
# Writes a minute of one code: a person has a handful of devices; a node has many users, and one batch of the store holds as many.
USER_WRITES_A_MINUTE = 8
NODE_WRITES_A_MINUTE = 64
# Notes and users remembered in memory: what can be admitted in some ten minutes, ~200 KB.
REMEMBERED_MAX = 1024
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class AlertNote:
    """An attempt in the name of `user` by `device`, refused with `code`; `times`: how many attempts this note stands for."""

    user: bytes
    code: str
    device: bytes
    at_ms: int
    times: int = 1


class _Bucket:
    """So many a minute, as many at once. A write costs a minute of ms: integers lose nothing however often it is asked."""

    __slots__ = ("_filled_ms", "_level_ms", "_rate")

    def __init__(self, rate: int, now_ms: int) -> None:
        self._rate, self._level_ms, self._filled_ms = rate, rate * MINUTE_MS, now_ms

    def has_one(self, now_ms: int) -> bool:
        self._level_ms = min(self._rate * MINUTE_MS, self._level_ms + max(0, now_ms - self._filled_ms) * self._rate)
        self._filled_ms = now_ms
        return self._level_ms >= MINUTE_MS

    def take(self) -> None:
        self._level_ms -= MINUTE_MS


class AlertGate:
    """Which attempts are written now, which are counted towards a later note, which are only counted."""

    def __init__(self) -> None:
        self._codes: dict[str, _Bucket] = {}  # one an alert's code: there are two
        self._users: OrderedDict[tuple[bytes, str], _Bucket] = OrderedDict()
        # (user, code, device) -> [time of the last writing, attempts since, time of the last attempt]
        self._notes: OrderedDict[tuple[bytes, str, bytes], list[int]] = OrderedDict()
        self.dropped = 0

    def attempted(self, note: AlertNote) -> AlertNote | None:
        """Take notice of one attempt; return what is to be written now, if anything."""
        name = (note.user, note.code, note.device)
        known = self._notes.get(name)
        if known is not None and note.at_ms < known[0] + NOTE_INTERVAL_MS:
            known[1] += note.times
            known[2] = note.at_ms
            return None
        if not self._may_write(note.user, note.code, note.at_ms):
            self.dropped += note.times
            return None
        waiting = known[1] if known is not None else 0
        self._notes[name] = [note.at_ms, 0, note.at_ms]
        self._notes.move_to_end(name)
        if len(self._notes) > REMEMBERED_MAX:
            self.dropped += self._notes.popitem(last=False)[1][1]
        return AlertNote(note.user, note.code, note.device, note.at_ms, note.times + waiting)

    def ripe(self, now_ms: int) -> list[AlertNote]:
        """What was counted since its last writing and may be written now. To be called every now and then."""
        written = []
        for name in list(self._notes):
            last_ms, times, at_ms = self._notes[name]
            if now_ms < last_ms + NOTE_INTERVAL_MS:
                continue
            if not times:
                del self._notes[name]
            elif self._may_write(name[0], name[1], now_ms):
                self._notes[name] = [now_ms, 0, at_ms]
                written.append(AlertNote(*name, at_ms, times))
        return written

    def _may_write(self, user: bytes, code: str, now_ms: int) -> bool:
        of_node = self._codes.setdefault(code, _Bucket(NODE_WRITES_A_MINUTE, now_ms))
        of_user = self._users.setdefault((user, code), _Bucket(USER_WRITES_A_MINUTE, now_ms))
        self._users.move_to_end((user, code))
        if len(self._users) > REMEMBERED_MAX:
            self._users.popitem(last=False)
        if not of_user.has_one(now_ms) or not of_node.has_one(now_ms):
            return False
        of_user.take()
        of_node.take()
        return True


def noted(alerts: tuple[Alert, ...], note: AlertNote) -> tuple[Alert, ...]:
    """`alerts` (oldest first) with `note` folded in. Of each code at most `ALERTS_A_CODE_MAX` stay: the one longest not seen goes."""
    same = [alert for alert in alerts if (alert.code, alert.device) == (note.code, note.device)]
    times = min(note.times + sum(alert.times for alert in same), 0xFFFFFFFF)
    others = [alert for alert in alerts if alert not in same]
    of_code = [alert for alert in others if alert.code == note.code]
    for oldest in of_code[: max(0, len(of_code) + 1 - ALERTS_A_CODE_MAX)]:
        others.remove(oldest)
    together = [*others, Alert(note.code, note.device, note.at_ms, times)]
    return tuple(sorted(together, key=lambda alert: alert.at_ms))


def unexpired(alerts: tuple[Alert, ...], now_ms: int) -> tuple[Alert, ...]:
    """`alerts` without those last seen more than `ALERT_KEEP_MS` ago."""
    return tuple(alert for alert in alerts if now_ms < alert.at_ms + ALERT_KEEP_MS)


def newest(alerts: tuple[Alert, ...], since_ms: int, now_ms: int) -> tuple[Alert, ...]:
    """What a device that has seen everything until `since_ms` has not seen yet, oldest first."""
    return tuple(alert for alert in unexpired(alerts, now_ms) if alert.at_ms > since_ms)
