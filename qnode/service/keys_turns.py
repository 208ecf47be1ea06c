"""One request at a time for one index: the second of two identical ones waits and gets the bytes of the first."""

from __future__ import annotations

from types import TracebackType

import trio

__all__ = ["Turn", "Turns"]


class Turns:
    """A lock for each index that somebody is busy with. Bounded by the number of requests that are admitted."""

    def __init__(self) -> None:
        self._locks: dict[bytes, tuple[trio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    def of(self, key: bytes) -> Turn:
        """Wait for the turn of index `key` on entering, give it up on leaving."""
        return Turn(self._locks, key)


class Turn:
    """One user of one lock; the last one takes it away."""

    def __init__(self, locks: dict[bytes, tuple[trio.Lock, int]], key: bytes) -> None:
        self._locks, self._key = locks, key

    async def __aenter__(self) -> None:
        lock, users = self._locks.get(self._key, (trio.Lock(), 0))
        self._locks[self._key] = (lock, users + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._locks[self._key][0].release()
        self._leave()

    def _leave(self) -> None:
        lock, users = self._locks.pop(self._key)
        if users > 1:
            self._locks[self._key] = (lock, users - 1)
