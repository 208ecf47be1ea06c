"""What a node thinks of one peer it is linked to: score, allowances, whether it is in the mesh (`proto/spec/gossip.md`, §2 and §7)."""

from __future__ import annotations

from collections import OrderedDict

from qnode.core.gossip_limits import (
    DECAY_MS,
    DELAY_UNKNOWN_MS,
    HOLLOW_MAX,
    LATE_MAX,
    PAST_MAX,
    PAST_MS,
    SCORE_GOOD_MAX,
    SCORE_KEPT_MIN,
    SCORE_MESH_MIN,
    SCORE_UNKEPT,
    TOPIC_LIMITS,
    UNASKED_BURST_BYTES,
    UNASKED_BYTES_PER_S,
    UNKEPT_EVERY_MS,
)
from qnode.core.gossip_seats import ASKED, HEARD, SEAT_BITS, SERVED, TOLD
from qustream.wire.gossip import Topic

__all__ = ["Link", "Past"]

# An allowance is counted in thousandths, so that a millisecond fills whole numbers.
_WHOLE = 1000


class Allowance:
    """So much a second, and so much at once."""

    __slots__ = ("_left", "_most", "_per_s", "_then_ms")

    def __init__(self, per_s: int, at_once: int) -> None:
        self._per_s, self._most = per_s, at_once * _WHOLE
        self._left, self._then_ms = self._most, 0

    def take(self, count: int, now_ms: int) -> bool:
        """Take so much if there is as much."""
        left = self._left + (now_ms - self._then_ms) * self._per_s if now_ms > self._then_ms else self._left
        if left > self._most:
            left = self._most
        self._then_ms = now_ms
        wanted = count * _WHOLE
        is_there = left >= wanted
        self._left = left - wanted if is_there else left
        return is_there


class Link:
    """One peer. `ours`: we opened the link; `assigned`: because the epoch's seed says so."""

    __slots__ = ("_decayed_ms", "_late", "_own", "_own_unasked", "_theirs", "_unasked", "_unkept_ms", "asked", "assigned",
                 "backoff_until_ms", "delay_ms", "good", "heard", "hollow", "in_mesh", "marks", "operator", "ours", "peer", "pulls",
                 "score", "seat", "served", "told", "was_in_mesh")  # fmt: skip

    def __init__(self, peer: bytes, *, operator: str, ours: bool, assigned: bool, now_ms: int) -> None:
        self.peer, self.operator, self.ours, self.assigned = peer, operator, ours, assigned
        self.in_mesh = self.was_in_mesh = False  # now; when the heart beat last
        self.delay_ms = DELAY_UNKNOWN_MS
        self.backoff_until_ms = 0
        self.score = 0
        self.good = 0  # points of `score` that good messages brought
        self.hollow = 0  # announcements that came to nothing, less those that did not
        self.pulls = 0  # under way to this peer
        self.sit((0, False))
        self._decayed_ms = now_ms
        self._unkept_ms = now_ms - UNKEPT_EVERY_MS
        self._late: dict[bytes, int] = {}  # what it did not bring in time, and what that cost it
        self._theirs: dict[Topic, Allowance] = {}
        self._own: dict[Topic, Allowance] = {}
        self._unasked: Allowance | None = None
        self._own_unasked: Allowance | None = None

    def sit(self, place: tuple[int, bool]) -> bool:
        """Take what `Seats.take` gave: what stands in a message's marks if it is told, heard, … of this peer; `marks`: all of them. Whether
        somebody else's may still be there."""
        seat, is_worn = place
        self.seat = seat
        self.told, self.heard, self.asked, self.served = (what << SEAT_BITS * seat for what in (TOLD, HEARD, ASKED, SERVED))
        self.marks = self.told | self.heard | self.asked | self.served
        return is_worn

    def allowed(self, topic: Topic, size: int, now_ms: int) -> bool:
        """Take a body of this size from what the peer may send of `topic`; False if nothing is left."""
        allowance, limits = self._theirs.get(topic), TOPIC_LIMITS[topic]
        if allowance is None:
            allowance = self._theirs[topic] = Allowance(limits.rate_per_s, limits.burst)
        return allowance.take(limits.count(size), now_ms)

    def may_send(self, topic: Topic, size: int, now_ms: int) -> bool:
        """Take one from what we may send to the peer: four fifths at once of what it takes, so that no delay on the way puts us above."""
        allowance, limits = self._own.get(topic), TOPIC_LIMITS[topic]
        if allowance is None:
            allowance = self._own[topic] = Allowance(limits.rate_per_s, limits.burst * 4 // 5)
        if allowance.take(limits.count(size), now_ms):
            return True
        self.was_in_mesh = False  # what it is not told now lazy repair tells it, as somebody who comes into the mesh
        return False

    def allowed_unasked(self, size: int, now_ms: int) -> bool:
        """Take so many bytes from what the peer may push unasked."""
        if self._unasked is None:
            self._unasked = Allowance(UNASKED_BYTES_PER_S, UNASKED_BURST_BYTES)
        return self._unasked.take(size, now_ms)

    def may_push(self, topic: Topic, size: int, now_ms: int) -> bool:
        """Take so many bytes from what we may push to the peer unasked, and one message."""
        if self._own_unasked is None:
            self._own_unasked = Allowance(UNASKED_BYTES_PER_S, UNASKED_BURST_BYTES * 4 // 5)
        return self._own_unasked.take(size, now_ms) and self.may_send(topic, size, now_ms)

    def praise(self) -> None:
        """It was the first to bring a message that was good."""
        if self.good < SCORE_GOOD_MAX:
            self.good += 1
            self.score += 1
        self.hollow = max(0, self.hollow - 1)

    def charge(self, points: int) -> None:
        """`points` are negative."""
        self.score += points

    def gave_up(self, name: bytes, held: bool, now_ms: int) -> int:
        """It did not bring a message in time. The points that costs it, if it said that it had it: several in one moment are one."""
        self.hollow += 1
        is_charged = held and now_ms - self._unkept_ms >= UNKEPT_EVERY_MS
        if is_charged:
            self._unkept_ms = now_ms
        self._late[name] = SCORE_UNKEPT if is_charged else 0
        if len(self._late) > LATE_MAX:
            del self._late[next(iter(self._late))]
        return self._late[name]

    def made_good(self, name: bytes) -> bool:
        """It brings a message. Whether it is one that we do not wait for any more: then it was late and no liar, and has back what that
        cost it."""
        if (points := self._late.pop(name, None)) is None:
            return False
        self.score = max(self.score, min(0, self.score - points))
        return True

    def take_over(self, before: Link) -> None:
        """What the same peer's last link has left: its standing. Not what it may send, for a peer that was restarted counts anew, too."""
        self.score, self.good, self.hollow, self._decayed_ms = before.score, before.good, before.hollow, before._decayed_ms
        self.backoff_until_ms, self._unkept_ms = before.backoff_until_ms, before._unkept_ms

    def decay(self, now_ms: int) -> int:
        """A tenth towards 0, and half of what was hollow, for every ten seconds that have passed. When the next have."""
        while now_ms - self._decayed_ms >= DECAY_MS:
            self._decayed_ms += DECAY_MS
            self.score -= int(self.score / 10)
            self.good -= self.good // 10
            self.hollow //= 2
        return self._decayed_ms + DECAY_MS

    @property
    def is_welcome(self) -> bool:
        """Whether it may come into the mesh."""
        return self.score >= SCORE_MESH_MIN

    @property
    def is_bearable(self) -> bool:
        """Whether it may stay in the mesh."""
        return self.score >= SCORE_KEPT_MIN

    @property
    def is_trusted(self) -> bool:
        """Whether its news is passed on before the message is here, and it may keep us waiting for much."""
        return self.score >= SCORE_KEPT_MIN and self.hollow < HOLLOW_MAX

    def __repr__(self) -> str:
        ends = ">" if self.ours else "<"
        return f"<Link {ends}{self.peer.hex()[:8]} {'mesh ' if self.in_mesh else ''}{self.score}>"


class Past:
    """The links that are gone, as long as it matters what they did. The one that went first is forgotten first."""

    __slots__ = ("_gone",)

    def __init__(self) -> None:
        self._gone: OrderedDict[bytes, tuple[Link, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._gone)

    def get(self, peer: bytes) -> Link | None:
        return self._gone[peer][0] if peer in self._gone else None

    def went(self, link: Link, now_ms: int) -> None:
        self._gone[link.peer] = (link, now_ms)
        self._gone.move_to_end(link.peer)
        if len(self._gone) > PAST_MAX:
            self._gone.popitem(last=False)

    def came(self, link: Link, now_ms: int) -> Link:
        """A new one, perhaps of a peer that is linked again."""
        before, went_ms = self._gone.pop(link.peer, (link, now_ms))
        if before is not link and now_ms - went_ms < PAST_MS:
            link.take_over(before)
            link.decay(now_ms)
        return link

    def forget(self, peer: bytes) -> bool:
        """Whether it was remembered."""
        return self._gone.pop(peer, None) is not None
