"""What a node thinks of one peer it is linked to: score, allowances, whether it is in the mesh (`proto/spec/gossip.md`, §2 and §7)."""

from __future__ import annotations

from typing import TypeAlias

from qnode.core.gossip_limits import (
    DECAY_MS,
    DELAY_UNKNOWN_MS,
    HOLLOW_MAX,
    SCORE_GOOD_MAX,
    SCORE_KEPT_MIN,
    SCORE_MESH_MIN,
    TOPIC_LIMITS,
)
from qustream.wire.gossip import Topic

__all__ = ["Link"]

# An allowance is counted in thousandths of a message, so that a millisecond fills whole numbers.
_MESSAGE = 1000


_Allowances: TypeAlias = dict[Topic, tuple[int, int]]  # topic -> what is left, and when that was


def _take(allowances: _Allowances, topic: Topic, burst: int, now_ms: int) -> bool:
    """Take one message if there is a whole one."""
    most = burst * _MESSAGE
    left, then_ms = allowances.get(topic, (most, now_ms))
    left = min(most, left + max(0, now_ms - then_ms) * TOPIC_LIMITS[topic].rate_per_s)
    is_there = left >= _MESSAGE
    allowances[topic] = (left - _MESSAGE if is_there else left, now_ms)
    return is_there


class Link:
    """One peer. `ours`: we opened the link; `assigned`: because the epoch's seed says so."""

    __slots__ = ("_decayed_ms", "_own", "_theirs", "assigned", "backoff_until_ms", "delay_ms", "good", "hollow", "in_mesh", "operator",
                 "ours", "peer", "pulls", "score")  # fmt: skip

    def __init__(self, peer: bytes, *, operator: str, ours: bool, assigned: bool, now_ms: int) -> None:
        self.peer, self.operator, self.ours, self.assigned = peer, operator, ours, assigned
        self.in_mesh = False
        self.delay_ms = DELAY_UNKNOWN_MS
        self.backoff_until_ms = 0
        self.score = 0
        self.good = 0  # points of `score` that good messages brought
        self.hollow = 0  # announcements that came to nothing, less those that did not
        self.pulls = 0  # under way to this peer
        self._decayed_ms = now_ms
        self._theirs: _Allowances = {}
        self._own: _Allowances = {}

    def allowed(self, topic: Topic, now_ms: int) -> bool:
        """Take one message of `topic` from what the peer may send; False if nothing is left."""
        return _take(self._theirs, topic, TOPIC_LIMITS[topic].burst, now_ms)

    def may_send(self, topic: Topic, now_ms: int) -> bool:
        """Take one from what we may send to the peer: four fifths at once of what it takes, so that no delay on the way puts us above."""
        return _take(self._own, topic, TOPIC_LIMITS[topic].burst * 4 // 5, now_ms)

    def praise(self) -> None:
        """It was the first to bring a message that was good."""
        if self.good < SCORE_GOOD_MAX:
            self.good += 1
            self.score += 1
        self.hollow = max(0, self.hollow - 1)

    def charge(self, points: int) -> None:
        """`points` are negative."""
        self.score += points

    def decay(self, now_ms: int) -> None:
        """A tenth towards 0 for every ten seconds that have passed."""
        while now_ms - self._decayed_ms >= DECAY_MS:
            self._decayed_ms += DECAY_MS
            self.score -= int(self.score / 10)
            self.good -= self.good // 10

    @property
    def is_welcome(self) -> bool:
        """Whether it may come into the mesh."""
        return self.score >= SCORE_MESH_MIN

    @property
    def is_trusted(self) -> bool:
        """Whether its news is passed on before the message is here, and it may stay in the mesh."""
        return self.score >= SCORE_KEPT_MIN and self.hollow < HOLLOW_MAX

    def __repr__(self) -> str:
        ends = ">" if self.ours else "<"
        return f"<Link {ends}{self.peer.hex()[:8]} {'mesh ' if self.in_mesh else ''}{self.score}>"
