"""What all who are not known may have of this node, so that those who are lose nothing by it (`proto/spec/sync.md`, §8).

A *stranger* is a key that no active node has, and the prefix of the address it comes from. It pays for each answer when it is begun, and
for its bytes when it is made, from three purses at once: its own, that of its prefix, and the one that all strangers share. Whose purse is
empty is refused before anything is decoded. Keys cost nothing, so their purses only see to it that one does not take all of its prefix's.

What strangers ask is worked on beside everything else, a little at a time; a few of their questions may wait for something new, and these
are the first to be answered without it when places are short.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import NamedTuple

import trio

from qustream.errors import QuStreamError, fault

__all__ = ["LIMITS", "Kind", "Stranger", "Strangers", "Waits"]

# Purses that are remembered, of keys and of prefixes. The longest unseen is forgotten, which only fills it; the common one stays.
PURSES_MAX = 4_096
# Answers of strangers that are made at a time, each in a thread (of forty); beyond, a few wait for their turn, and the others are refused.
# As many of their transactions are verified at a time, whatever is read meanwhile.
WORKED_ON_MAX, QUEUED_MAX = 2, 32
# Who is refused for want of a place may come again then.
AGAIN_MS = 2_000
_S_PER_MINUTE, _MS_PER_S = 60.0, 1_000
# What of the common purse is kept for prefixes that have had little in the last minute: who has had a purse full leaves a quarter of it to
# them. Or the few that ask most would have all that comes in.
KEPT_PART = 4


class Kind(StrEnum):
    """What strangers ask for; labels of metrics."""

    BLOCKS = "blocks"
    BODIES = "bodies"
    PLANS = "plans"
    CHUNKS = "chunks"
    TRANSACTIONS = "transactions"


class Stranger(NamedTuple):
    """Who asks. `prefix`: of the address it comes from."""

    id: bytes
    prefix: str


class Share(NamedTuple):
    """What a purse holds, and what comes into it a minute."""

    most: int
    a_minute: int


class Limit(NamedTuple):
    """Of one key, of one prefix, of all."""

    key: Share
    prefix: Share
    all: Share


# Answers. A follower asks for blocks sixty times a minute at a block a second, and of a few nodes how far they are; one that catches up has
# 64 blocks of each answer, and a body in each two or three. All strangers together: a twentieth of a core, at a millisecond an answer.
# A submitted transaction may cost a verification, a third of a millisecond, and a place in the mempool: nobody has more than a handful when
# he begins, and four a second are 0.4 % of what the chain is made for.
LIMITS = {
    Kind.BLOCKS: Limit(Share(120, 120), Share(480, 480), Share(2_400, 2_400)),
    Kind.BODIES: Limit(Share(120, 240), Share(480, 960), Share(2_400, 2_400)),
    Kind.PLANS: Limit(Share(60, 60), Share(120, 120), Share(240, 240)),
    Kind.CHUNKS: Limit(Share(120, 120), Share(240, 240), Share(600, 600)),
    Kind.TRANSACTIONS: Limit(Share(8, 6), Share(16, 30), Share(64, 240)),
}
# Bytes of answers, whatever the kind: 2 MiB/s to all strangers are a sixth of a line of 100 Mbit/s; a key has a quarter of that.
BYTES = Limit(Share(8 << 20, 30 << 20), Share(16 << 20, 60 << 20), Share(32 << 20, 120 << 20))
# Questions that wait for a block: of a key (two that cross), of a prefix, of all. Each is a task and a place among those of the listener.
WAITS_KEY_MAX, WAITS_PREFIX_MAX, WAITS_MAX = 2, 8, 64


class _Purse:
    """It may go into debt: what an answer weighs is known when it is made. `had`: what went out of it in the last minute or so."""

    __slots__ = ("_at_s", "_share", "amount", "had")

    def __init__(self, share: Share, now_s: float) -> None:
        self._share, self._at_s = share, now_s
        self.amount, self.had = float(share.most), 0.0

    def spend(self, amount: float) -> None:
        self.amount -= amount
        self.had += amount

    def fill(self, now_s: float) -> None:
        self.had *= math.exp((self._at_s - now_s) / _S_PER_MINUTE)
        self.amount = min(self._share.most, self.amount + (now_s - self._at_s) * self._share.a_minute / _S_PER_MINUTE)
        self._at_s = now_s

    def lacks_ms(self, least: float) -> int:
        """How long until there is so much in it; 0 if there is."""
        short = least - self.amount
        return 0 if short <= 0 else int(short * _S_PER_MINUTE / self._share.a_minute * _MS_PER_S) + 1

    def kept_from(self, other: _Purse) -> float:
        """What of this one is not for who has the other: the more he has had lately, the more."""
        return min(1.0, other.had / other._share.most) * self._share.most / KEPT_PART


class _Purses:
    """For one kind of cost: one for each key, one for each prefix, one for all."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._all: _Purse | None = None
        self._keys: OrderedDict[bytes, _Purse] = OrderedDict()
        self._prefixes: OrderedDict[str, _Purse] = OrderedDict()

    @property
    def size(self) -> int:
        return max(len(self._keys), len(self._prefixes))

    def lacks_ms(self, who: Stranger, least: float, now_s: float) -> int:
        """How long until each of its three has so much, and the common one what is kept for others besides; 0 if they have."""
        key, prefix, common = self.of(who, now_s)
        return max(key.lacks_ms(least), prefix.lacks_ms(least), common.lacks_ms(least + common.kept_from(prefix)))

    def of(self, who: Stranger, now_s: float) -> tuple[_Purse, _Purse, _Purse]:
        """Filled as of now."""
        key = self._keys.setdefault(who.id, _Purse(self._limit.key, now_s))
        prefix = self._prefixes.setdefault(who.prefix, _Purse(self._limit.prefix, now_s))
        self._keys.move_to_end(who.id)
        self._prefixes.move_to_end(who.prefix)
        while len(self._keys) > PURSES_MAX:
            self._keys.popitem(last=False)
        while len(self._prefixes) > PURSES_MAX:
            self._prefixes.popitem(last=False)
        self._all = self._all or _Purse(self._limit.all, now_s)
        purses = (key, prefix, self._all)
        for purse in purses:
            purse.fill(now_s)
        return purses


class Strangers:
    """One node's accounts. `answered`, `refused`: how often, by kind, since the start; `sent`: bytes of answers."""

    def __init__(self) -> None:
        self.answered: Counter[Kind] = Counter()
        self.refused: Counter[Kind] = Counter()
        self.sent = 0
        self.waits = Waits()
        self._counts = {kind: _Purses(limit) for kind, limit in LIMITS.items()}
        self._bytes = _Purses(BYTES)
        reading = trio.Semaphore(WORKED_ON_MAX)
        self._places = dict.fromkeys(Kind, reading) | {Kind.TRANSACTIONS: trio.Semaphore(WORKED_ON_MAX)}

    @property
    def sizes(self) -> dict[str, int]:
        """How much of everything bounded there is."""
        return {
            "purses": max(purses.size for purses in (*self._counts.values(), self._bytes)),
            "queued": max(places.statistics().tasks_waiting for places in self._places.values()), "waits": len(self.waits),
        }  # fmt: skip

    def begin(self, who: Stranger, kind: Kind) -> None:
        """Pay for an answer. Errors: `E-PEER-LIMIT`, with the time until it can be paid."""
        now_s = trio.current_time()
        after_ms = max(self._counts[kind].lacks_ms(who, 1, now_s), self._bytes.lacks_ms(who, 0, now_s))
        if after_ms:
            raise self._refused(kind, after_ms)
        for purse in self._counts[kind].of(who, now_s):
            purse.spend(1)

    @asynccontextmanager
    async def working(self, kind: Kind) -> AsyncIterator[None]:
        """A place for making the answer. Errors: `E-PEER-LIMIT`."""
        places = self._places[kind]
        if places.value == 0 and places.statistics().tasks_waiting >= QUEUED_MAX:
            raise self._refused(kind, AGAIN_MS)
        async with places:
            yield

    def end(self, who: Stranger, kind: Kind, answer: bytes) -> bytes:
        """Pay for its bytes. Returns the answer."""
        for purse in self._bytes.of(who, trio.current_time()):
            purse.spend(len(answer))
        self.answered[kind] += 1
        self.sent += len(answer)
        return answer

    def count_refused(self, kind: Kind) -> None:
        """Something else was in the way of it."""
        self.refused[kind] += 1

    def _refused(self, kind: Kind, after_ms: int) -> QuStreamError:
        self.refused[kind] += 1
        return fault("E-PEER-LIMIT", "strangers have had their share for now", retry_after_ms=after_ms)


class Waits:
    """Questions of strangers that wait for something new. Each has a scope; cancelled, it is answered with what there is."""

    def __init__(self) -> None:
        self._next = 0
        self._waiting: OrderedDict[int, tuple[Stranger, Callable[[], None]]] = OrderedDict()
        self.shed_count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, who: Stranger, end: Callable[[], None]) -> int:
        """A place; to be left by its number. Errors: `E-PEER-LIMIT`. If all are taken, the prefix that has most of them gives its oldest to
        one that has fewer."""
        of_key = sum(1 for each, _ in self._waiting.values() if each.id == who.id)
        held = Counter(each.prefix for each, _ in self._waiting.values())
        if of_key >= WAITS_KEY_MAX or held[who.prefix] >= WAITS_PREFIX_MAX:
            raise fault("E-PEER-LIMIT", "too many questions wait", retry_after_ms=AGAIN_MS)
        if len(self._waiting) >= WAITS_MAX:
            greediest, most = held.most_common(1)[0]
            if most <= held[who.prefix] + 1:
                raise fault("E-PEER-LIMIT", "too many questions wait", retry_after_ms=AGAIN_MS)
            self._shed(next(number for number, (each, _) in self._waiting.items() if each.prefix == greediest))
        self._next += 1
        self._waiting[self._next] = who, end
        return self._next

    def leave(self, number: int) -> None:
        """Harmless when repeated."""
        self._waiting.pop(number, None)

    def shed(self) -> bool:
        """Let the one that waits longest go, for somebody known needs its place; whether there was one."""
        if not self._waiting:
            return False
        self._shed(next(iter(self._waiting)))
        return True

    def _shed(self, number: int) -> None:
        _, end = self._waiting.pop(number)
        self.shed_count += 1
        end()
