"""When to ask the appliance again: as it says, else with growing pauses; and never faster than the configured rate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from qustream.errors import QuStreamError

__all__ = ["Backoff", "RateLimit", "retry_after_s"]

# The first pause by code: what passes by itself soon, and what a person has to change. An account that is asked with a wrong token
# every second may be locked.
FIRST_PAUSE_S = {"E-APPLIANCE-TOKEN": 60.0, "E-APPLIANCE-TLS": 30.0, "E-APPLIANCE-ANSWER": 5.0, "E-APPLIANCE-QUOTA": 30.0}
FIRST_PAUSE_OTHER_S = 1.0  # a connection that broke: the next one usually holds
# After an hour of trouble somebody may have mended it.
PAUSE_MAX_S = 300.0
# What an appliance may ask for: an hour. A Retry-After of a year would be a way to switch us off.
RETRY_AFTER_MAX_S = 3600
RETRY_AFTER_MAX_DIGITS = 9  # thirty years of seconds; more is not a time


def retry_after_s(value: str, now_s: float) -> int | None:
    """A Retry-After header (RFC 9110 §10.2.3) in seconds from `now_s` (Unix time), bounded; None if it says nothing one can use."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(int(text), RETRY_AFTER_MAX_S) if len(text) <= RETRY_AFTER_MAX_DIGITS else RETRY_AFTER_MAX_S
    try:
        when = parsedate_to_datetime(text)
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now_s
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return int(min(max(seconds, 0), RETRY_AFTER_MAX_S))


class Backoff:
    """Pauses between failures. `draw`: a random number below 1, so that readers that failed together do not come back together."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw, self._failures, self._code = draw, 0, ""

    def pause_s(self, error: QuStreamError) -> float:
        """How long to wait after this failure."""
        if error.code != self._code:
            self._failures, self._code = 0, error.code
        growing = min(PAUSE_MAX_S, FIRST_PAUSE_S.get(error.code, FIRST_PAUSE_OTHER_S) * 2.0 ** min(self._failures, 16))
        self._failures += 1
        if error.retry_after_ms:
            asked = min(max(error.retry_after_ms / 1000, FIRST_PAUSE_OTHER_S), RETRY_AFTER_MAX_S)
            return asked * (1 + self._draw() / 10)
        return growing * (1 + self._draw()) / 2

    def succeeded(self) -> None:
        """The next failure is a first one."""
        self._failures, self._code = 0, ""


class RateLimit:
    """At most `bytes_per_s` on average; 0: no limit."""

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s, self._free_s = bytes_per_s, 0.0

    def wait_s(self, now_s: float) -> float:
        """How long until the next answer may be asked for."""
        return max(0.0, self._free_s - now_s)

    def took(self, size: int, now_s: float) -> None:
        """`size` bytes were delivered."""
        if self._bytes_per_s:
            self._free_s = max(now_s, self._free_s) + size / self._bytes_per_s
