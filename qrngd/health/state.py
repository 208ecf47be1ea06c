"""The state of a device, and every way it can change (`proto/spec/entropy-feed.md`, "Health").

    starting ──opened──▶ testing ──passed──▶ live ──intermittent──▶ suspect ──passed──▶ live
        ▲                   │                  │                      │  ▲
    (daemon start,          └───permanent──────┴──────────────────────┘  └─ intermittent
     or cleared)     failed ◀──────────────────┘                            (tested again)
    failed ──cleared──▶ starting        any but failed ──lost──▶ absent ──opened──▶ testing
    live, suspect ──test requested──▶ testing

A device delivers in `live` only. `testing` and `suspect` both run the full start-up test, on samples that are thrown away; it is
the only way to `live`. `failed` is latched: nothing leads out of it but the operator's word (`clear`), when the device has been
examined, and then it is opened and tested from the beginning. A new start of the daemon does not lead out of it either: whoever
keeps the failure on disk hands it in again (`latched`). Nothing here ever names another source: when a device does not deliver,
nothing is delivered in its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from qrngd.health.verdict import Grade, WindowVerdict

__all__ = ["INTERMITTENT_LIMIT", "DeviceMachine", "DeviceState", "StateChanged"]

# A source that keeps its claim shows an intermittent alarm in a window (at most 131,072 samples) with probability 2^-23 or less,
# so eight of them within 2^20 windows (a minute at 7.5 Gbit/s) happen by chance less than once in 2^39 such spans.
INTERMITTENT_LIMIT = 8
INTERMITTENT_SPAN_WINDOWS = 1 << 20


class DeviceState(StrEnum):
    """Where a device stands; the words of `FeedHealth.state` and of every display."""

    STARTING = "starting"
    TESTING = "testing"
    LIVE = "live"
    SUSPECT = "suspect"
    FAILED = "failed"
    ABSENT = "absent"


class _Occasion(StrEnum):
    OPENED = "opened"
    LOST = "lost"
    PASSED = "passed"
    INTERMITTENT = "intermittent"
    PERMANENT = "permanent"
    CLEARED = "cleared"
    TEST_REQUESTED = "test requested"


_S, _O = DeviceState, _Occasion
# What is not in the table cannot happen: a window is judged only while the device is open, and it is opened only when closed. The
# operator may clear and ask for a test at any time; where that is not in the table, nothing happens.
_TRANSITIONS: dict[tuple[DeviceState, _Occasion], DeviceState] = {
    (_S.STARTING, _O.OPENED): _S.TESTING,
    (_S.STARTING, _O.LOST): _S.ABSENT,
    (_S.ABSENT, _O.OPENED): _S.TESTING,
    (_S.ABSENT, _O.LOST): _S.ABSENT,
    (_S.TESTING, _O.PASSED): _S.LIVE,
    (_S.TESTING, _O.INTERMITTENT): _S.SUSPECT,
    (_S.TESTING, _O.PERMANENT): _S.FAILED,
    (_S.TESTING, _O.LOST): _S.ABSENT,
    (_S.LIVE, _O.PASSED): _S.LIVE,
    (_S.LIVE, _O.INTERMITTENT): _S.SUSPECT,
    (_S.LIVE, _O.PERMANENT): _S.FAILED,
    (_S.LIVE, _O.LOST): _S.ABSENT,
    (_S.SUSPECT, _O.PASSED): _S.LIVE,
    (_S.SUSPECT, _O.INTERMITTENT): _S.SUSPECT,
    (_S.SUSPECT, _O.PERMANENT): _S.FAILED,
    (_S.SUSPECT, _O.LOST): _S.ABSENT,
    (_S.FAILED, _O.LOST): _S.FAILED,
    (_S.FAILED, _O.CLEARED): _S.STARTING,
    (_S.LIVE, _O.TEST_REQUESTED): _S.TESTING,
    (_S.SUSPECT, _O.TEST_REQUESTED): _S.TESTING,
}


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A change of state and why. `code`: a key of `qustream.errors.CODES`, '' when nothing is wrong. The reason is for people."""

    before: DeviceState
    after: DeviceState
    code: str
    reason: str


class DeviceMachine:
    """Holds the state and the reason of one device. Every method returns the change it made, or None."""

    def __init__(self, latched: tuple[str, str] | None = None, alarms: Iterable[int] = ()) -> None:
        """`latched`: code and reason of a failure that an earlier run recorded and nobody has cleared; the device is `failed` then.
        `alarms`: how many windows ago, as numbers of 0 and below, earlier processes saw intermittent ones of this device, oldest first."""
        self.state = DeviceState.STARTING if latched is None else DeviceState.FAILED
        self.code, self.reason = ("", "the daemon has started") if latched is None else latched
        self._alarms: deque[int] = deque(alarms, maxlen=INTERMITTENT_LIMIT)

    def opened(self, source: str) -> StateChanged | None:
        """The device was opened; `source` says what answered."""
        return self._move(_Occasion.OPENED, "", f"{source} opened; the start-up test runs")

    def lost(self, code: str, reason: str) -> StateChanged | None:
        """The device could not be opened or read; `code` is the error's."""
        return self._move(_Occasion.LOST, code, reason)

    def clear(self, reason: str) -> StateChanged | None:
        """The operator has examined a device that had failed; `reason` is what they say. Earlier alarms are forgotten. A device
        that has not failed has nothing to clear."""
        if self.state is not DeviceState.FAILED:
            return None
        self._alarms.clear()
        return self._move(_Occasion.CLEARED, "", f"cleared by the operator: {reason}")

    def retest(self, reason: str) -> StateChanged | None:
        """A test on demand (SP 800-90B §4.3). A device that is not open, or whose first test still runs, has none to repeat."""
        if (self.state, _Occasion.TEST_REQUESTED) not in _TRANSITIONS:
            return None
        return self._move(_Occasion.TEST_REQUESTED, "", f"a test was asked for: {reason}")

    def judged(self, verdict: WindowVerdict) -> StateChanged | None:
        """A window was judged."""
        if verdict.grade is Grade.PASSED:
            if self.state is DeviceState.LIVE:
                return None
            return self._move(_Occasion.PASSED, "", "the start-up test passed")
        what = f"window {verdict.window}: {verdict}"
        if verdict.grade is Grade.PERMANENT:
            return self._move(_Occasion.PERMANENT, "E-DEV-LATCHED", what)
        self._alarms.append(verdict.window)
        if len(self._alarms) == INTERMITTENT_LIMIT and verdict.window - self._alarms[0] < INTERMITTENT_SPAN_WINDOWS:
            reason = f"{INTERMITTENT_LIMIT} alarms within {INTERMITTENT_SPAN_WINDOWS} windows; the last, {what}"
            return self._move(_Occasion.PERMANENT, "E-DEV-LATCHED", reason)
        return self._move(_Occasion.INTERMITTENT, "E-DEV-HEALTH", what)

    def _move(self, occasion: _Occasion, code: str, reason: str) -> StateChanged | None:
        before = self.state
        after = _TRANSITIONS.get((before, occasion))
        assert after is not None, f"{occasion} cannot happen to a device that is {before}"
        if before is DeviceState.FAILED and after is DeviceState.FAILED:
            return None  # latched: the reason of the failure stays
        if (before, self.code, self.reason) == (after, code, reason):
            return None  # a retry that failed as the last one did
        self.state, self.code, self.reason = after, code, reason
        return StateChanged(before, after, code, reason)
