"""Which transactions wait for a block, and in which order they are offered to it (`proto/spec/mempool.md`).

    offered ─▶ has it a place? (nonce, expiry, a replacement's fee, what the account has) ─▶ is there room, or who pays less? ─▶ kept
    executed ─▶ what is behind the account's nonce goes, what it cannot pay any more goes, what has expired goes

Nobody's signature is looked at here, and nothing but what is told: the same events make the same mempool.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from qnode.core.mempool_events import Dropped, Effect, Event, Executed, Kept, Offered, Refused, Waiting, Why
from qnode.core.mempool_limits import (
    BOUNDS,
    BUMP_DENOMINATOR,
    BUMP_NUMERATOR,
    EXPIRY_AHEAD_MAX,
    EXPIRY_LEAST,
    QUEUE_MAX,
    STALE_FACTOR,
    Bounds,
)
from qnode.core.mempool_queue import Queue, Rank

__all__ = ["Mempool", "step"]

# Of a heap this small the old entries are not worth a look.
STALE_MIN = 64


class Mempool:
    """`height`: of the newest executed block; a transaction that waits can stand in the next one at the earliest."""

    def __init__(self, bounds: Bounds = BOUNDS, *, height: int = 0) -> None:
        self.height, self.bytes, self._bounds = height, 0, bounds
        self._by_id: dict[bytes, Waiting] = {}
        self._queues: dict[bytes, Queue] = {}
        self._arrived = self._parked = self._parked_bytes = 0
        self._parked_of: dict[bytes, tuple[int, int]] = {}
        # The last of each queue, and the expiry of each transaction. What has changed since stays in a heap until it comes up. Nobody looks
        # for the last ones as long as there is room: they are gone through when there is none, and kept until nothing waits any more.
        self._lasts: list[tuple[Rank, bytes]] | None = None
        self._expiries: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, name: bytes) -> bool:
        return name in self._by_id

    def next_nonce(self, account: bytes) -> int:
        """The nonce after all of an account's that is ready; 0 if nothing of it waits."""
        queue = self._queues.get(account)
        return 0 if queue is None else queue.next_nonce + queue.ready

    def is_ready(self, offered: Offered) -> bool:
        """Whether there is no gap before it."""
        queue = self._queue(offered)
        return offered.waiting.nonce <= queue.next_nonce + queue.ready

    # -- what is offered --------------------------------------------------------------------------------------------------

    def refusal(self, offered: Offered) -> Refused | None:
        """What would be answered to it now, None if it would be kept. Changes nothing: whoever asks before he verifies saves himself
        the work."""
        waiting, queue = offered.waiting, self._queue(offered)
        refused = self._misplaced(waiting, queue) or self._too_dear(waiting, queue)
        return _full(waiting) if refused is None and self._victims(waiting, queue) is None else refused

    def offer(self, offered: Offered) -> list[Effect]:
        """Take it in, if it is to be."""
        waiting = offered.waiting
        effects = self._settle(waiting.sender, offered.nonce, offered.liquid)
        queue = self._queue(offered)
        refused = self._misplaced(waiting, queue) or self._too_dear(waiting, queue)
        victims = self._victims(waiting, queue) if refused is None else None
        if victims is None:
            return [*effects, refused or _full(waiting)]
        for victim in victims:
            effects.append(self._drop(victim, Why.EVICTED))
        replaced = queue.at(waiting.nonce)
        if replaced is not None:
            effects.append(self._drop(replaced, Why.REPLACED))
        self._queues[waiting.sender] = queue
        self._arrived += 1
        queue.put(waiting, self._arrived)
        self._by_id[waiting.id] = waiting
        self.bytes += waiting.size
        heapq.heappush(self._expiries, (waiting.expires, waiting.id))
        self._changed(waiting.sender)
        self._throw_out_stale()
        return [*effects, Kept(waiting.id)]

    def _queue(self, offered: Offered) -> Queue:
        return self._queues.get(offered.waiting.sender) or Queue(offered.nonce, offered.liquid)

    def _misplaced(self, waiting: Waiting, queue: Queue) -> Refused | None:
        """Whether nonce and expiry leave it a place."""
        if waiting.id in self._by_id:
            return Refused(waiting.id, "E-LEDGER-KNOWN", "it waits already")
        if not queue.next_nonce <= waiting.nonce < queue.next_nonce + QUEUE_MAX:
            return Refused(waiting.id, "E-LEDGER-NONCE", f"the account's next nonce is {queue.next_nonce}; {QUEUE_MAX} may wait")
        if not self.height + EXPIRY_LEAST <= waiting.expires <= self.height + EXPIRY_AHEAD_MAX:
            detail = f"{self.height} has been executed; from {self.height + EXPIRY_LEAST} on is taken"
            return Refused(waiting.id, "E-LEDGER-EXPIRED", detail)
        return None

    def _too_dear(self, waiting: Waiting, queue: Queue) -> Refused | None:
        """Whether its sender has what it costs beside all else of his that waits; and what it takes to replace one of those."""
        replaced = queue.at(waiting.nonce)
        if replaced is not None:
            # Its fee, and its fee a byte: a larger one costs the network more.
            least = max(_bumped(replaced.fee, 1, 1), _bumped(replaced.fee, waiting.size, replaced.size))
            if waiting.fee < least:
                return Refused(waiting.id, "E-LEDGER-FEE", f"one with this nonce waits; to replace it takes a fee of {least}")
        spent = queue.spent - (replaced.cost if replaced is not None else 0) + waiting.cost
        if spent > queue.liquid:
            return Refused(waiting.id, "E-LEDGER-FUNDS", f"with all that waits it takes {spent}, and {queue.liquid} are liquid")
        return None

    def _victims(self, newcomer: Waiting, queue: Queue) -> list[Waiting] | None:
        """Who goes to make room for it; None if there are not enough who offer less."""
        if self._has_room(newcomer.size):
            return []
        replaced = queue.at(newcomer.nonce)
        if max(self._over(newcomer, replaced, is_parked=True)) <= 0:  # most of the time there is room for anybody
            return []
        is_ready, worth = queue.place_of(newcomer)
        count, size = self._over(newcomer, replaced, is_parked=not is_ready)
        victims: list[Waiting] = []
        looked_at: dict[bytes, Rank] = {}
        behind: list[tuple[Rank, bytes, int]] = []  # what is last in a queue whose last has gone
        while count > 0 or size > 0:
            found = self._next_lowest(looked_at, behind)
            if found is None or not _gives_way(found[0], is_ready, worth):
                break
            if found[1] is not replaced:
                victims.append(found[1])
                count, size = count - 1, size - found[1].size
        lasts = self._all_lasts()
        for account, rank in looked_at.items():
            heapq.heappush(lasts, (rank, account))
        return victims if count <= 0 and size <= 0 else None

    def _has_room(self, size: int) -> bool:
        """For one of this size, wherever it stands."""
        bounds = self._bounds
        is_room = len(self._by_id) < bounds.transactions and self.bytes + size <= bounds.bytes
        return is_room and self._parked < bounds.parked and self._parked_bytes + size <= bounds.parked_bytes

    def _over(self, newcomer: Waiting, replaced: Waiting | None, *, is_parked: bool) -> tuple[int, int]:
        """How many transactions and bytes too much there would be. What is parked can make room for what is parked alone."""
        more, bytes_more = 1, newcomer.size
        if replaced is not None:
            more, bytes_more = 0, newcomer.size - replaced.size
        bounds = self._bounds
        count, size = len(self._by_id) + more - bounds.transactions, self.bytes + bytes_more - bounds.bytes
        if is_parked:
            count = max(count, self._parked + more - bounds.parked)
            size = max(size, self._parked_bytes + bytes_more - bounds.parked_bytes)
        return count, size

    def _next_lowest(self, looked_at: dict[bytes, Rank], behind: list[tuple[Rank, bytes, int]]) -> tuple[Rank, Waiting] | None:
        """The lowest that has not been looked at."""
        lasts = self._all_lasts()
        while lasts and (lasts[0][1] in looked_at or not self._is_last(*lasts[0])):
            heapq.heappop(lasts)
        if not lasts and not behind:
            return None
        if lasts and (not behind or lasts[0] < behind[0][:2]):
            rank, account = heapq.heappop(lasts)
            looked_at[account] = rank
            depth = 0
        else:
            rank, account, depth = heapq.heappop(behind)
        ranked = self._queues[account].ranked()
        if depth + 1 < len(ranked):
            heapq.heappush(behind, (ranked[depth + 1][0], account, depth + 1))
        return ranked[depth]

    # -- what is executed -------------------------------------------------------------------------------------------------

    def executed(self, event: Executed) -> list[Effect]:
        """A block has been executed: what it leaves of those who sent something in it, and what has expired."""
        self.height = max(self.height, event.height)
        effects = [effect for account, nonce, liquid in event.accounts for effect in self._settle(account, nonce, liquid)]
        while self._expiries and self._expiries[0][0] <= self.height:
            waiting = self._by_id.get(heapq.heappop(self._expiries)[1])
            if waiting is not None:
                effects.append(self._drop(waiting, Why.EXPIRED))
        self._throw_out_stale()
        return effects

    def _settle(self, account: bytes, nonce: int, liquid: int) -> list[Effect]:
        """See what an account has become."""
        queue = self._queues.get(account)
        if queue is None or (queue.next_nonce, queue.liquid) == (nonce, liquid):
            return []
        queue.liquid = liquid
        effects: list[Effect] = []
        for waiting in queue.go_on(nonce):  # all of them, and then one look at what is left
            self._forget(waiting)
            effects.append(Dropped(waiting.id, Why.EXECUTED))
        while queue.spent > liquid:
            effects.append(self._drop(queue.last(), Why.UNFUNDED))
        self._changed(account)
        return effects

    # -- what a block gets ------------------------------------------------------------------------------------------------

    def pick(self, admit: Callable[[bytes], bool | None], bytes_max: int, count_max: int) -> list[bytes]:
        """Ids for a block, the highest fee a byte first, each account's nonces in order. `admit`: whether the block takes one; None: it has
        been ordered before, and the account's next may still be taken; False: nothing more of this account."""
        heads = [head for queue in self._queues.values() if (head := _head(queue, queue.next_nonce)) is not None]
        heapq.heapify(heads)
        taken: list[bytes] = []
        while heads and len(taken) < count_max:
            _, _, waiting = heads[0]
            admitted = admit(waiting.id) if waiting.size <= bytes_max else False
            if admitted:
                taken.append(waiting.id)
                bytes_max -= waiting.size
            head = _head(self._queues[waiting.sender], waiting.nonce + 1) if admitted is not False else None
            if head is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, head)
        return taken

    # -- keeping the books ------------------------------------------------------------------------------------------------

    def _forget(self, waiting: Waiting) -> None:
        del self._by_id[waiting.id]
        self.bytes -= waiting.size

    def _drop(self, waiting: Waiting, why: Why) -> Dropped:
        self._forget(waiting)
        self._queues[waiting.sender].remove(waiting.nonce)
        self._changed(waiting.sender)
        return Dropped(waiting.id, why)

    def _changed(self, account: bytes) -> None:
        """The last of an account is perhaps another."""
        queue = self._queues.get(account)
        was, now = self._parked_of.pop(account, (0, 0)), queue.parked if queue is not None else (0, 0)
        self._parked, self._parked_bytes = self._parked + now[0] - was[0], self._parked_bytes + now[1] - was[1]
        if now[0]:
            self._parked_of[account] = now
        if queue is not None and len(queue):
            if self._lasts is not None:
                heapq.heappush(self._lasts, (queue.ranked()[0][0], account))
        elif queue is not None:
            del self._queues[account]

    def _all_lasts(self) -> list[tuple[Rank, bytes]]:
        if self._lasts is None:
            self._lasts = sorted((queue.ranked()[0][0], account) for account, queue in self._queues.items())
        return self._lasts

    def _is_last(self, rank: Rank, account: bytes) -> bool:
        queue = self._queues.get(account)
        return queue is not None and queue.ranked()[0][0] == rank

    def _throw_out_stale(self) -> None:
        """What has changed stays in the heaps until it comes up, and now and then all of it goes."""
        if not self._by_id:
            self._lasts = None
        elif self._lasts is not None and len(self._lasts) > STALE_MIN + STALE_FACTOR * len(self._queues):
            self._lasts = None
            self._all_lasts()
        if len(self._expiries) > STALE_MIN + STALE_FACTOR * len(self._by_id):
            self._expiries = sorted((waiting.expires, waiting.id) for waiting in self._by_id.values())


def step(mempool: Mempool, event: Event) -> list[Effect]:
    """What follows from an event, in order; to one that was offered the last effect is the answer."""
    return mempool.offer(event) if isinstance(event, Offered) else mempool.executed(event)


def _full(waiting: Waiting) -> Refused:
    return Refused(waiting.id, "E-MEMPOOL-FULL", "all that waits offers as much for a byte, or nearly")


def _bumped(fee: int, size: int, of_size: int) -> int:
    """The least fee for `size` bytes that takes the place of this one, which is for `of_size`."""
    return max(fee + 1, -(-fee * BUMP_NUMERATOR * size // (BUMP_DENOMINATOR * of_size)))


def _gives_way(rank: Rank, is_ready: bool, worth: int) -> bool:
    """Whether what has this rank makes room for such a newcomer."""
    if rank.is_ready != is_ready:
        return is_ready
    return worth > rank.worth and worth * BUMP_DENOMINATOR >= rank.worth * BUMP_NUMERATOR


def _head(queue: Queue, nonce: int) -> tuple[int, int, Waiting] | None:
    """One that could be taken next, so that the best comes first in a heap; numbers of arrival differ, so nothing else is compared."""
    waiting = queue.at(nonce)
    return (-waiting.rate, queue.arrival(nonce), waiting) if waiting is not None else None
