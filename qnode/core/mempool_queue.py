"""What waits of one account: by nonce, and which of it would have to go first (`proto/spec/mempool.md`, §2 and §3)."""

from __future__ import annotations

from typing import NamedTuple

from qnode.core.mempool_events import Waiting

__all__ = ["Queue", "Rank"]


class Rank(NamedTuple):
    """How good a transaction's place is; the least goes first. `worth`: its fee a byte, or that of one before it in the queue if that
    is less, for it is not taken sooner; `before`: minus the number of arrival, the latest of these likewise: of equals whoever came last
    goes first."""

    is_ready: bool
    worth: int
    before: int


class Queue:
    """Transactions of one account, from its `next_nonce` on. *Ready* are those without a gap before them."""

    __slots__ = ("_arrivals", "_next_nonce", "_ranked", "_waiting", "liquid", "ready", "spent")

    def __init__(self, next_nonce: int, liquid: int) -> None:
        self._next_nonce, self.liquid = next_nonce, liquid
        self.spent = 0
        self.ready = 0  # how many are
        self._ranked: list[tuple[Rank, Waiting]] | None = None  # to be made, or made again
        self._waiting: dict[int, Waiting] = {}
        self._arrivals: dict[int, int] = {}

    @property
    def next_nonce(self) -> int:
        """The account's, in the executed state."""
        return self._next_nonce

    def go_on(self, nonce: int) -> list[Waiting]:
        """The account's next nonce is this one now: what it is past waits no more."""
        passed = [self._waiting[each] for each in sorted(self._waiting) if each < nonce]
        for waiting in passed:
            del self._waiting[waiting.nonce], self._arrivals[waiting.nonce]
            self.spent -= waiting.cost
        self._next_nonce, self._ranked = nonce, None
        self.ready = 0
        self._count_ready()
        return passed

    def _count_ready(self) -> None:
        while self._next_nonce + self.ready in self._waiting:
            self.ready += 1

    def __len__(self) -> int:
        return len(self._waiting)

    def at(self, nonce: int) -> Waiting | None:
        """What waits with this nonce."""
        return self._waiting.get(nonce)

    def put(self, waiting: Waiting, arrival: int) -> None:
        """One more; there is none with its nonce."""
        assert waiting.nonce not in self._waiting
        ranked = self._ranked
        if ranked is not None and (not ranked or ranked[0][1].nonce < waiting.nonce):  # as most come
            ranked.insert(0, self._ranked_behind(waiting, arrival, ranked[0] if ranked else None))
        else:
            self._ranked = None
        self._waiting[waiting.nonce], self._arrivals[waiting.nonce] = waiting, arrival
        self.spent += waiting.cost
        self._count_ready()

    def remove(self, nonce: int) -> Waiting:
        """One less."""
        del self._arrivals[nonce]
        waiting = self._waiting.pop(nonce)
        self.spent -= waiting.cost
        if nonce >= self._next_nonce:
            self.ready = min(self.ready, nonce - self._next_nonce)
        if self._ranked is not None and self._ranked and self._ranked[0][1] is waiting:  # as most go
            del self._ranked[0]
        else:
            self._ranked = None
        return waiting

    def arrival(self, nonce: int) -> int:
        """The number of arrival of one that waits."""
        return self._arrivals[nonce]

    @property
    def parked(self) -> tuple[int, int]:
        """How many are not ready, and their bytes."""
        ready = self.ready
        if ready == len(self._waiting):
            return 0, 0
        first = self.next_nonce + ready
        behind = [waiting.size for nonce, waiting in self._waiting.items() if nonce > first]
        return len(behind), sum(behind)

    def last(self) -> Waiting:
        """The one with the highest nonce."""
        return self._waiting[max(self._waiting)]

    def ranked(self) -> list[tuple[Rank, Waiting]]:
        """All, the last nonce first: in this order they would go, the lowest rank first."""
        if self._ranked is None:
            self._ranked = []
            for nonce in sorted(self._waiting):
                before = self._ranked[-1] if self._ranked else None
                self._ranked.append(self._ranked_behind(self._waiting[nonce], self._arrivals[nonce], before))
            self._ranked.reverse()
        return self._ranked

    def _ranked_behind(self, waiting: Waiting, arrival: int, before: tuple[Rank, Waiting] | None) -> tuple[Rank, Waiting]:
        """It, behind the one with the next lower nonce that there is."""
        if before is None:
            return Rank(waiting.nonce == self._next_nonce, waiting.rate, -arrival), waiting
        rank, other = before
        is_ready = rank.is_ready and waiting.nonce == other.nonce + 1
        return Rank(is_ready, min(rank.worth, waiting.rate), min(rank.before, -arrival)), waiting

    def place_of(self, newcomer: Waiting) -> tuple[bool, int]:
        """Whether one that would come now would be ready, and its worth."""
        worth = min([newcomer.rate, *(waiting.rate for nonce, waiting in self._waiting.items() if nonce < newcomer.nonce)])
        return newcomer.nonce <= self.next_nonce + self.ready, worth
