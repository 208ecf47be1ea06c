"""Telling systemd again and again how a daemon is, for as long as its event loop turns."""

from __future__ import annotations

from collections.abc import Callable

import trio

from qustream.aio.systemd import notify, watchdog_interval_ms

__all__ = ["heartbeat"]

STATUS_S = 5.0  # the status line, at least this often: what an operator looks at is never older


async def heartbeat(status: Callable[[], str]) -> None:
    """Keep systemd's status line fresh and its watchdog fed, until cancelled; a loop that hangs is restarted."""
    asked = watchdog_interval_ms()
    pause_s = min(STATUS_S, asked / 1000) if asked else STATUS_S
    while True:
        notify(STATUS=status(), WATCHDOG="1")
        await trio.sleep(pause_s)
