"""Who may be served in bulk, and how much (`proto/spec/bulk.md`, §3 and §6): asks at a time, pieces an hour, probes.

Answers with how long to wait, in ms; 0 means now. Time comes in as an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from qnode.core import bulk_limits as limits

__all__ = ["BulkTurns"]


@dataclass(slots=True)
class _Use:
    """What one peer, or one operator, has had in the hour that began at `since_ms`."""

    since_ms: int
    pieces: int = 0
    manifests: int = 0
    probes: int = 0


class BulkTurns:
    """One node's, for all its peers."""

    def __init__(self) -> None:
        self._uses: OrderedDict[bytes, _Use] = OrderedDict()
        self._working: dict[bytes, int] = {}
        self._all = _Use(0)
        self._probing: tuple[bytes, int] | None = None  # who, until when

    @property
    def working(self) -> int:
        """Asks being worked on."""
        return sum(self._working.values())

    def _use(self, peer: bytes, now_ms: int) -> _Use:
        use = self._uses.pop(peer, None)
        if use is None or now_ms - use.since_ms >= limits.HOUR_MS:
            use = _Use(now_ms)
        self._uses[peer] = use
        if len(self._uses) > limits.PEERS_MAX:
            self._uses.popitem(last=False)
        return use

    # --- pieces

    def manifest(self, peer: bytes, now_ms: int) -> int:
        """May this peer have a manifest?"""
        use = self._use(peer, now_ms)
        if use.manifests >= limits.SERVED_PEER_MANIFESTS:
            return _rest_of_hour(use, now_ms)
        use.manifests += 1
        return 0

    def begin(self, peer: bytes, pieces: int, now_ms: int, *, is_link: bool = False) -> int:
        """May this peer have so many pieces? If so, `end` must follow."""
        use = self._use(peer, now_ms)
        if use.pieces + pieces > limits.SERVED_PEER_PIECES:
            return _rest_of_hour(use, now_ms)
        most = limits.SERVED_MAX_ASKS if is_link and peer not in self._working else limits.SERVED_COMMON_ASKS
        if self._working.get(peer, 0) >= limits.SERVED_PEER_MAX_ASKS or self.working >= most:
            return limits.REST_MS
        use.pieces += pieces
        self._working[peer] = self._working.get(peer, 0) + 1
        return 0

    def end(self, peer: bytes) -> None:
        """The work of a `begin` is over, whatever came of it."""
        self._working[peer] -= 1
        if not self._working[peer]:
            del self._working[peer]

    # --- probes

    def begin_probe(self, peer: bytes, now_ms: int, operator: str) -> int:
        """May this peer, a node of this operator, probe the line? If so, `end_probe` follows, or it is over by itself after
        `PROBE_OVER_MS`."""
        if self._probing is not None and now_ms < self._probing[1]:
            return self._probing[1] - now_ms
        use, together = self._use(peer, now_ms), self._use(b"operator " + operator.encode(), now_ms)
        if now_ms - self._all.since_ms >= limits.HOUR_MS:
            self._all = _Use(now_ms)
        for counted, most in ((use, limits.PROBES_PEER), (together, limits.PROBES_OPERATOR), (self._all, limits.PROBES_ALL)):
            if counted.probes >= most:
                return _rest_of_hour(counted, now_ms)
        for counted in (use, together, self._all):
            counted.probes += 1
        self._probing = (peer, now_ms + limits.PROBE_OVER_MS)
        return 0

    def is_probing(self, peer: bytes, now_ms: int) -> bool:
        """Whether the probe under way is this peer's."""
        return self._probing is not None and self._probing[0] == peer and now_ms < self._probing[1]

    def end_probe(self, peer: bytes) -> None:
        """The probe of this peer is over."""
        if self._probing is not None and self._probing[0] == peer:
            self._probing = None


def _rest_of_hour(use: _Use, now_ms: int) -> int:
    return max(1, use.since_ms + limits.HOUR_MS - now_ms)
