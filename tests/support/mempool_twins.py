"""A mempool beside a model that thinks of everything anew each time: both are told the same, and must say and hold the same."""

from __future__ import annotations

from fractions import Fraction

from qnode.core.mempool import Mempool, step
from qnode.core.mempool_events import Dropped, Effect, Executed, Kept, Offered, Refused, Waiting
from qnode.core.mempool_limits import EXPIRY_AHEAD_MAX, EXPIRY_LEAST, QUEUE_MAX, Bounds

__all__ = ["ACCOUNTS", "TINY", "Twins"]

TINY = Bounds(transactions=7, bytes=60, parked=3, parked_bytes=25)
ACCOUNTS = [b"a", b"b", b"c", b"d"]


class Naive:
    """A list, and every question answered by looking at all of it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Waiting]] = []  # with the number of arrival
        self.accounts = dict.fromkeys(ACCOUNTS, (0, 0))
        self.height = self.arrived = 0

    def of(self, sender: bytes) -> dict[int, tuple[int, Waiting]]:
        return {w.nonce: (arrival, w) for arrival, w in self.waiting if w.sender == sender}

    def is_ready(self, w: Waiting, own: dict[int, tuple[int, Waiting]]) -> bool:
        return all(nonce in own for nonce in range(self.accounts[w.sender][0], w.nonce))

    def rank(self, w: Waiting) -> tuple[bool, int, int]:
        own = self.of(w.sender)
        before = [each for nonce, each in own.items() if nonce <= w.nonce]
        return self.is_ready(w, own), min(each.rate for _, each in before), -max(arrival for arrival, _ in before)

    def offer(self, w: Waiting, nonce: int, liquid: int) -> list[tuple[str, bytes]]:
        done = self.settle(w.sender, nonce, liquid)
        own = self.of(w.sender)
        old = own.get(w.nonce, (0, None))[1]
        code = ""
        if any(each.id == w.id for _, each in self.waiting):
            code = "E-LEDGER-KNOWN"
        elif not nonce <= w.nonce < nonce + QUEUE_MAX:
            code = "E-LEDGER-NONCE"
        elif not self.height + EXPIRY_LEAST <= w.expires <= self.height + EXPIRY_AHEAD_MAX:
            code = "E-LEDGER-EXPIRED"
        elif old is not None and (
            w.fee <= old.fee or 10 * w.fee < 11 * old.fee or Fraction(w.fee, w.size) < Fraction(11 * old.fee, 10 * old.size)
        ):
            code = "E-LEDGER-FEE"
        elif sum(each.cost for n, (_, each) in own.items() if n != w.nonce) + w.cost > liquid:
            code = "E-LEDGER-FUNDS"
        if code:
            return [*done, (code, w.id)]
        victims = self.victims(w, old)
        if victims is None:
            return [*done, ("E-MEMPOOL-FULL", w.id)]
        done += [("evicted", each.id) for each in victims] + ([("replaced", old.id)] if old is not None else [])
        gone = {name for _, name in done}
        self.arrived += 1
        self.waiting = [each for each in self.waiting if each[1].id not in gone] + [(self.arrived, w)]
        return [*done, ("kept", w.id)]

    def victims(self, w: Waiting, old: Waiting | None) -> list[Waiting] | None:
        """The fewest of those who would go first, so that everything is within its bounds."""
        own = self.of(w.sender)
        ready = self.is_ready(w, own)
        worth = min([w.rate, *(each.rate for nonce, (_, each) in own.items() if nonce < w.nonce)])
        candidates = [(self.rank(each), each) for _, each in self.waiting if each is not old]
        candidates.sort(key=lambda one: (one[0], -one[1].nonce))
        parked = [each for _, each in self.waiting if each is not old and not self.is_ready(each, self.of(each.sender))]
        for count in range(len(candidates) + 1):
            gone = [each for _, each in candidates[:count]]
            if any(not gives_way(rank, ready, worth) for rank, _ in candidates[:count]):
                return None
            left = [w, *(each for _, each in candidates[count:])]
            left_parked = [w, *(each for each in parked if each not in gone)]
            fits = len(left) <= TINY.transactions and sum(each.size for each in left) <= TINY.bytes
            if not ready:
                fits = fits and len(left_parked) <= TINY.parked and sum(each.size for each in left_parked) <= TINY.parked_bytes
            if fits:
                return gone
        return None

    def settle(self, sender: bytes, nonce: int, liquid: int) -> list[tuple[str, bytes]]:
        self.accounts[sender] = (nonce, liquid)
        own = self.of(sender)
        done = [("executed", own[n][1].id) for n in sorted(own) if n < nonce]
        left = {n: each for n, (_, each) in own.items() if n >= nonce}
        while sum(each.cost for each in left.values()) > liquid:
            done.append(("unfunded", left.pop(max(left)).id))
        self.drop(done)
        return done

    def executed(self, height: int, accounts: list[tuple[bytes, int, int]]) -> list[tuple[str, bytes]]:
        self.height = height
        done = [each for sender, nonce, liquid in accounts for each in self.settle(sender, nonce, liquid)]
        expired = sorted((w.expires, w.id) for _, w in self.waiting if w.expires <= height)
        done += [("expired", name) for _, name in expired]
        self.drop(done)
        return done

    def drop(self, done: list[tuple[str, bytes]]) -> None:
        gone = {name for _, name in done}
        self.waiting = [each for each in self.waiting if each[1].id not in gone]

    def order(self) -> list[bytes]:
        taken: list[bytes] = []
        following = {name: nonce for name, (nonce, _) in self.accounts.items()}
        while True:
            heads = [(-w.rate, arrival, w) for arrival, w in self.waiting if w.nonce == following[w.sender]]
            if not heads:
                return taken
            best = min(heads)[2]
            following[best.sender] += 1
            taken.append(best.id)


def gives_way(rank: tuple[bool, int, int], is_ready: bool, worth: int) -> bool:
    return is_ready > rank[0] or (is_ready == rank[0] and worth > rank[1] and 10 * worth >= 11 * rank[1])


def told(effects: list[Effect]) -> list[tuple[str, bytes]]:
    words = {Kept: lambda _: "kept", Refused: lambda effect: effect.code, Dropped: lambda effect: effect.why.value}
    return [(words[type(effect)](effect), effect.id) for effect in effects]


class Twins:
    """Both are told the same, and must say and hold the same."""

    def __init__(self, liquid: list[int]) -> None:
        self.real, self.model = Mempool(TINY), Naive()
        self.state = {account: (0, amount) for account, amount in zip(ACCOUNTS, liquid, strict=True)}
        self.model.accounts = dict(self.state)
        self.offered: list[Waiting] = []

    def offer(self, account: bytes, ahead: int, fee: int, extra: int, size: int, life: int) -> None:
        nonce = max(0, self.state[account][0] + ahead)
        name = len(self.offered).to_bytes(3, "big")
        self.offered.append(Waiting(name, account, nonce, self.model.height + life, fee, fee + extra, size))
        self.say(self.offered[-1])

    def say(self, waiting: Waiting) -> None:
        event = Offered(waiting, *self.state[waiting.sender])
        is_news = self.model.accounts[waiting.sender] != self.state[waiting.sender]
        asked = self.real.refusal(event)
        expected = self.model.offer(waiting, event.nonce, event.liquid)
        assert is_news or (asked is None) == (expected[-1][0] == "kept")
        assert told(step(self.real, event)) == expected
        self.compare()

    def execute(self, more: int, steps: list[tuple[bytes, int, int]]) -> None:
        for account, nonces, liquid in steps:
            self.state[account] = (self.state[account][0] + nonces, liquid)
        accounts = [(account, *self.state[account]) for account in dict.fromkeys(account for account, _, _ in steps)]
        height = self.model.height + more
        expected = self.model.executed(height, accounts)
        assert told(step(self.real, Executed(height, tuple(accounts)))) == expected
        self.compare()

    def receive(self, account: bytes, amount: int) -> None:
        """It is told with the account's next offer."""
        self.state[account] = (self.state[account][0], self.state[account][1] + amount)

    def compare(self) -> None:
        waiting = [each for _, each in self.model.waiting]
        assert len(self.real) == len(waiting) <= TINY.transactions
        assert self.real.bytes == sum(each.size for each in waiting) <= TINY.bytes
        assert all(each.id in self.real for each in waiting)
        assert self.real.pick(lambda _: True, 1 << 30, 1 << 30) == self.model.order()
        for account, (_, liquid) in self.model.accounts.items():
            own = self.model.of(account)
            assert len(own) <= QUEUE_MAX
            assert sum(each.cost for _, each in own.values()) <= liquid
