"""Which of our states a quorum has vouched for (`proto/spec/state.md` §3): the newest whose root stands in a final header.

A state's reading is opened right after it was executed, by the thread that writes, and held until a final header names its root.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from qnode.store.chain.environment import Environment
from qnode.store.chain.view import HeldState, ProvenNodes, StateView
from qustream.errors import QuStreamError
from qustream.wire.consensus import ChainHeader

__all__ = ["Certified"]

# Executed states that wait to be named. A header is at most 32 heights behind while there are transactions; beyond, some are left out.
PENDING_MAX = 64
# Roots that final headers name and that we have not executed up to: a node that catches up has that many blocks before it. Beyond, the
# highest are left out: they are named again by what comes after.
NAMED_MAX = 16_384


class Certified:
    """Fed by the writer's thread; looked at by any."""

    def __init__(self, environment: Environment, proven: ProvenNodes) -> None:
        self._environment, self._proven = environment, proven
        self._lock = threading.Lock()
        self._pending: deque[HeldState] = deque()
        self._named: dict[int, bytes] = {}
        self._held: HeldState | None = None

    def named(self, height: int) -> bytes | None:
        """The root that a final header says the state of `height` has."""
        with self._lock:
            return self._named.get(height)

    def executed(self, root: bytes) -> None:
        """There is a new state. If too many look at the chain for one more to do so, nothing is proved from this one: the next follows."""
        try:
            held = HeldState(self._environment, self._environment.read(), root, self._proven)
        except QuStreamError:  # it is on the disk, so this must not fail what was asked for
            return
        with self._lock:
            if len(self._pending) >= PENDING_MAX:
                self._pending.pop().release()
            self._pending.append(held)
            self._look()

    def finalised(self, headers: Sequence[ChainHeader]) -> None:
        """These are final now."""
        with self._lock:
            for header in headers:
                if header.executed in self._named or len(self._named) < NAMED_MAX:
                    self._named[header.executed] = header.executed_root
            self._look()

    def _look(self) -> None:
        newest = max((at for at, held in enumerate(self._pending) if self._named.get(held.progress.height) == held.root), default=None)
        if newest is not None:
            for _ in range(newest + 1):
                if self._held is not None:
                    self._held.release()
                self._held = self._pending.popleft()
            assert self._held is not None
            floor = self._held.progress.height
            self._named = {height: root for height, root in self._named.items() if height >= floor}
        # What headers name rises from block to block: what is below the newest will not be named any more.
        lowest = max(self._named, default=0)
        while self._pending and self._pending[0].progress.height < lowest:
            self._pending.popleft().release()

    def view(self) -> StateView | None:
        """The newest certified state."""
        with self._lock:
            return None if self._held is None else self._held.view()

    def forget(self) -> None:
        """Let go of all states: there are no more, or others."""
        with self._lock:
            for held in [*self._pending, *([self._held] if self._held is not None else [])]:
                held.release()
            self._pending.clear()
            self._named.clear()
            self._held = None
