"""The units a node has in memory, and how many more it wants (`proto/spec/entropy-feed.md`, "Feed").

A unit is taken once and never comes back. Units whose attestation has run out are thrown away, not served. Nothing here touches a disk.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import trio

from qustream.model.base import Signed
from qustream.model.entropy import LeafProof

__all__ = ["Pool", "PooledUnit"]

# A unit this close to its attestation's end would be stale by the time the user checks it.
EXPIRY_MARGIN_MS = 30_000


@dataclass(frozen=True, slots=True)
class PooledUnit:
    """A checked unit: its leaf is proven under `attestation`, whose signature holds. `leaf`: RFC 6962 leaf hash."""

    material: bytes = field(repr=False)
    scatter: bytes = field(repr=False)
    attestation: Signed = field(repr=False)
    proof: LeafProof = field(repr=False)
    leaf: bytes
    expires_ms: int


class Pool:
    """At most `capacity` units, oldest first. Links reserve room before they grant credit, so a feed never overfills it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken = 0
        self.expired = 0
        self._units: deque[PooledUnit] = deque()
        self._reserved = 0
        self._wanted = trio.Event()

    def __len__(self) -> int:
        return len(self._units)

    def take(self, now_ms: int) -> PooledUnit | None:
        """The oldest unit that will still be good when the user checks it, or None when there is none."""
        self.drop_expired(now_ms)
        if not self._units:
            return None
        self.taken += 1
        self.stir()
        return self._units.popleft()

    def drop_expired(self, now_ms: int) -> None:
        """Throw away what is too old to serve."""
        before = len(self._units)
        while self._units and self._units[0].expires_ms - EXPIRY_MARGIN_MS <= now_ms:
            self._units.popleft()
        if dropped := before - len(self._units):
            self.expired += dropped
            self.stir()

    def reserve(self) -> int:
        """Reserve all free room for a link's credit; returns the number of units."""
        room = max(0, self.capacity - len(self._units) - self._reserved)
        self._reserved += room
        return room

    def release(self, units: int) -> None:
        """Give back reserved room that will not be used: the link is gone or its server has stopped."""
        self._reserved -= units
        assert self._reserved >= 0, "more room released than reserved"
        if units:
            self.stir()

    def put(self, unit: PooledUnit) -> None:
        """Store a unit for which room was reserved."""
        self._reserved -= 1
        assert self._reserved >= 0, "a unit without reserved room"
        self._units.append(unit)

    async def room(self) -> None:
        """Wait for the next `stir`. There is no checkpoint between `reserve` finding no room and this wait, so none is missed."""
        await self._wanted.wait()

    def stir(self) -> None:
        """Wake every link: there is room, or a server has changed its mind."""
        self._wanted.set()
        self._wanted = trio.Event()
