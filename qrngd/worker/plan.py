"""When a device is opened and how much is read of it: decisions alone, no clock and no device (`proto/spec/entropy-feed.md`).

What is read is what there is room for. When there is none, one window every `PROBE_INTERVAL_S` is still read and judged, so the state in
every display is at most that old and an idle daemon costs next to nothing. A slow device is probed a tenth of the time, at
least every `PROBE_PAUSE_MAX_S`.

    closed ──opened──▶ open: stretch, stretch, …                 a stretch: some whole windows, read to their end
       ▲                  │                                      times are seconds of any monotonic clock
       └──────lost────────┘
"""

from __future__ import annotations

import math

from qrngd.devices import SILENCE_LIMIT_MS, reopen_delay_ms
from qustream.errors import fault

__all__ = ["PROBE_INTERVAL_S", "ReadPlan"]

# How old the state of an idle device may be.
PROBE_INTERVAL_S = 1.0
# A window of the slowest devices takes seconds of polling; with nine times as long a pause that is under 1 % of a core.
PROBE_PAUSE_FACTOR = 9
PROBE_PAUSE_MAX_S = 60.0
# The slowest devices we know give kilobytes a second, a window in one or two minutes. Without a bound a device that gives a byte now and
# then would be shown for days as it was judged before.
WINDOW_MAX_S = 600.0


class ReadPlan:
    """`window_bytes`: raw bytes of a window; `raw_bytes` in give `out_bytes` out."""

    def __init__(self, *, window_bytes: int, raw_bytes: int, out_bytes: int) -> None:
        self._window_bytes, self._raw_bytes, self._out_bytes = window_bytes, raw_bytes, out_bytes
        self.is_open = False
        self._attempts = 0
        self._open_at_s = -math.inf
        self._left = 0  # raw bytes of the stretch that have not come yet
        self._windows = 0
        self._started_s = 0.0
        self._whole_s = 0.0  # when the last window was whole, or the first began
        self._probe_at_s = 0.0
        self._heard_s = 0.0

    # --- opening

    def open_in_s(self, now_s: float) -> float:
        """How long to wait before the next attempt to open."""
        return max(0.0, self._open_at_s - now_s)

    def try_now(self) -> None:
        """Something has appeared where the device is expected, or the operator wants it: do not wait for the next attempt."""
        self._open_at_s = -math.inf

    def opened(self, now_s: float) -> None:
        """The device was opened; what it says first is read at once."""
        self.is_open = True
        self._left = 0
        self._heard_s = self._probe_at_s = now_s

    def lost(self, now_s: float) -> None:
        """The device could not be opened or read; each attempt in vain makes the next one later."""
        self.is_open = False
        self._open_at_s = now_s + reopen_delay_ms(self._attempts) / 1000
        self._attempts += 1

    def closed(self) -> None:
        """The device was let go of without being lost."""
        self.is_open = False
        self._left = 0
        self.try_now()

    # --- reading

    def wanted_bytes(self, now_s: float, *, is_live: bool, room_bytes: int) -> int:
        """How many raw bytes to read now; 0: none. `room_bytes`: what more conditioned bytes there is room for."""
        if not self._left:
            self._begin(now_s, self._stretch(now_s, is_live, room_bytes))
        return self._left

    def _stretch(self, now_s: float, is_live: bool, room_bytes: int) -> int:
        """Windows to read without a pause. A device that is not live has to be tested whatever there is room for."""
        if is_live and room_bytes > 0:
            raw = -(-room_bytes // self._out_bytes) * self._raw_bytes
            return -(-raw // self._window_bytes)
        return 1 if not is_live or now_s >= self._probe_at_s else 0

    def _begin(self, now_s: float, windows: int) -> None:
        self._windows, self._left = windows, windows * self._window_bytes
        self._started_s = self._heard_s = self._whole_s = now_s

    def got(self, size: int, now_s: float) -> None:
        """`size` bytes came. Raises E-DEV-READ when none has come for too long, or too few for a window."""
        if size:
            self._heard_s = now_s
            before, self._left = self._left, self._left - size
            if -(-before // self._window_bytes) != -(-self._left // self._window_bytes):
                self._whole_s = now_s
            self._attempts = 0
            if not self._left:
                pause_s = PROBE_PAUSE_FACTOR * (now_s - self._started_s) / self._windows
                self._probe_at_s = now_s + min(PROBE_PAUSE_MAX_S, max(PROBE_INTERVAL_S, pause_s))
        elif now_s - self._heard_s >= SILENCE_LIMIT_MS / 1000:
            raise fault("E-DEV-READ", f"the device gave no byte for {SILENCE_LIMIT_MS // 1000} s")
        if self._left and now_s - self._whole_s >= WINDOW_MAX_S:
            raise fault("E-DEV-READ", f"the device gave less than a window of {self._window_bytes} bytes in {WINDOW_MAX_S:.0f} s")

    def abandon(self) -> None:
        """What was planned is not read any more: the pipeline has thrown its unfinished window away."""
        self._left = 0

    def idle_s(self, now_s: float) -> float:
        """How long nothing is due."""
        return max(0.0, self._probe_at_s - now_s)
