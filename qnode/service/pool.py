"""The units a node has in memory, and how many more it wants (`proto/spec/node.md`, "Pool").

A unit is taken once and never comes back. Units whose attestation has run out, or whose QRNG server the network has struck off, are
thrown away, not served. Nothing here touches a disk.

Every link to a QRNG server has a `Supply`: the room it has reserved for the credit it granted. Links reserve before they grant, so
feeds together never overfill the pool. While several servers are live each gets an even share of the room, so none of them can hold
all of it and deliver nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from qustream.model.base import Signed
from qustream.model.entropy import LeafProof

__all__ = ["EXPIRY_MARGIN_MS", "Pool", "PooledUnit", "Supply"]

# A unit this close to its attestation's end would be stale by the time the user checks it.
EXPIRY_MARGIN_MS = 30_000
# A link asks again when a quarter of its share is missing.
ASK_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class PooledUnit:
    """A checked unit: its leaf is proven under `attestation`, whose signature by `server` holds. `leaf`: RFC 6962 leaf hash. The
    material of one that came over the feed lies in the message that brought it."""

    material: bytes | memoryview = field(repr=False)
    scatter: bytes = field(repr=False)
    attestation: Signed = field(repr=False)
    proof: LeafProof = field(repr=False)
    leaf: bytes
    expires_ms: int
    server: bytes = b""


class Pool:
    """At most `capacity_units` units, first come first served."""

    def __init__(self, capacity_units: int) -> None:
        self.capacity_units = capacity_units
        self.taken = 0
        self.expired = 0
        self._units: deque[PooledUnit] = deque()
        self._supplies: list[Supply] = []
        self._empty_since_ms: int | None = 0  # it never had one
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._units)

    def take(self, now_ms: int) -> PooledUnit | None:
        """The oldest unit that will still be good when the user checks it, or None when there is none."""
        self.drop_expired(now_ms)
        if not self._units:
            return None
        unit = self._units.popleft()
        self.taken += 1
        self._removed(now_ms)
        return unit

    def drop_expired(self, now_ms: int) -> None:
        """Throw away what is too old to serve."""
        self.drop(lambda unit: unit.expires_ms - EXPIRY_MARGIN_MS <= now_ms, now_ms)

    def drop(self, is_bad: Callable[[PooledUnit], bool], now_ms: int) -> None:
        """Throw away every unit that `is_bad`."""
        good = [unit for unit in self._units if not is_bad(unit)]
        if len(good) < len(self._units):
            self.expired += len(self._units) - len(good)
            self._units = deque(good)
            self._removed(now_ms)

    def empty_ms(self, now_ms: int) -> int:
        """How long there has been no unit; 0 while there is one."""
        return 0 if self._empty_since_ms is None else max(0, now_ms - self._empty_since_ms)

    def supply(self) -> Supply:
        """An account for one more link."""
        supply = Supply(self)
        self._supplies.append(supply)
        return supply

    @property
    def room_units(self) -> int:
        """Room that is neither filled nor reserved."""
        return max(0, self.capacity_units - len(self._units) - sum(s.reserved_units for s in self._supplies))

    @property
    def share_units(self) -> int:
        """How much room each live link may have reserved."""
        live = sum(s.is_live for s in self._supplies)
        return -(-self.capacity_units // max(1, live))

    async def changed(self) -> None:
        """Wait until there may be more room, or shares have changed. There is no checkpoint between a `reserve` that found
        nothing and this wait, so nothing is missed."""
        await self._changed.wait()

    def _removed(self, now_ms: int) -> None:
        if not self._units and self._empty_since_ms is None:
            self._empty_since_ms = now_ms
        self._stir()

    def _added(self, unit: PooledUnit) -> None:
        self._units.append(unit)
        self._empty_since_ms = None

    def _stir(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Supply:
    """One link's account."""

    def __init__(self, pool: Pool) -> None:
        """Use `Pool.supply`."""
        self.reserved_units = 0
        self.is_live = False
        self._pool = pool

    def set_live(self, live: bool) -> None:
        """Say whether the server can deliver; shares follow."""
        if live != self.is_live:
            self.is_live = live
            self._pool._stir()

    @property
    def is_over_share(self) -> bool:
        """Whether other live links lack what this one has reserved."""
        return self.reserved_units > self._pool.share_units

    def reserve(self) -> int:
        """Reserve what room there is within the share, if it is worth asking for; returns the number of units, 0 while not live.

        A server signs one attestation for what is asked at one time: asking for every unit by itself would cost it a signature each.
        """
        share = self._pool.share_units
        units = min(self._pool.room_units, share - self.reserved_units)
        if not self.is_live or units < max(1, share // ASK_AT_ONCE):
            return 0
        self.reserved_units += units
        return units

    def put(self, unit: PooledUnit) -> None:
        """Store a unit for which room was reserved."""
        assert self.reserved_units > 0, "a unit without reserved room"
        self.reserved_units -= 1
        self._pool._added(unit)

    def release(self) -> None:
        """Give back all that is reserved: the link is gone, and its credit with it."""
        self.is_live = False
        self.reserved_units = 0
        self._pool._stir()
