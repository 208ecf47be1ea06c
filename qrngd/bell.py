"""Waking whoever waits for something to have changed, within one event loop."""

from __future__ import annotations

import trio

__all__ = ["Bell"]


class Bell:
    """`ring` wakes every task that is in `wait` at that moment; nothing is remembered, so check the condition before waiting."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        await self._event.wait()
