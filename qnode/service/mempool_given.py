"""Transactions that come or go without a link (`proto/spec/mempool.md`, "Without a link"): a stranger's, which this node takes in and says
to all; and this node's own, which it gives to others as a stranger as long as nobody is linked to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import trio

from qnode.net.session import Session
from qnode.net.strangers import Kind, Stranger, Strangers
from qustream.errors import QuStreamError, fault
from qustream.transport.limits import UNLICENSED_MESSAGE_MAX_BYTES
from qustream.wire.codec import decode, encode
from qustream.wire.mempool import TRANSACTION_GIVEN_MAX_BYTES, TRANSACTION_TAKEN_MAX_BYTES, TransactionGiven, TransactionTaken
from qustream.wire.transactions import transaction_id

__all__ = ["GIVEN_TAGS", "GIVE_MS", "Giver", "Taker"]

GIVEN_TAGS = range(125, 126)
# What a stranger may send in one message, less what stands around a transaction in it. One that is larger waits for a link; nobody's is.
SIZE_MAX = UNLICENSED_MESSAGE_MAX_BYTES - 128
# Of those that can be asked: one that takes it and says it to nobody has another beside it.
TAKERS = 2
# Its signatures may wait behind a block's.
GIVE_MS = 15_000
# Transactions on their way at a time. An operator has three when he begins: a bond, a registration, an activation.
UNDER_WAY_MAX = 64
# Of these one is given at a time, in order: nobody takes a stranger's whose one before has not come.
WAYS_MAX = 1
# When nobody took it: a stranger's purse has as much for a transaction in ten seconds.
AGAIN_S = 10.0


class Submitted(Protocol):
    """As much of `Mempool` as a taker needs."""

    async def submit_ready(self, raw: bytes) -> bytes: ...


class Taker:
    """Takes in what others give."""

    def __init__(self, mempool: Submitted, strangers: Strangers) -> None:
        self._mempool, self._strangers = mempool, strangers

    async def answer(self, session: Session, body: bytes, deadline_ms: int) -> bytes:
        """Answer a known node, which may have no link: as anybody. Errors: the refusal."""
        return await self.answer_stranger(Stranger(session.peer, session.prefix), body, deadline_ms)

    async def answer_stranger(self, who: Stranger, body: bytes, _deadline_ms: int) -> bytes:
        """Errors: those of `Mempool.submit_ready`; `E-PEER-LIMIT`."""
        self._strangers.begin(who, Kind.TRANSACTIONS)
        given = decode(body, TransactionGiven, max_bytes=TRANSACTION_GIVEN_MAX_BYTES)
        try:
            async with self._strangers.working(Kind.TRANSACTIONS):
                name = await self._mempool.submit_ready(given.transaction)
        except QuStreamError as error:
            if error.code != "E-PEER-LIMIT":
                self._strangers.count_refused(Kind.TRANSACTIONS)
            raise
        return self._strangers.end(who, Kind.TRANSACTIONS, encode(TransactionTaken(name)))


class Giver:
    """Gives this node's own transactions to others. `run` it; `peers`: who can be asked, best first; `call`: asks one of them; `waits`:
    whether the transaction of this id is still to be given. `refused`: what was said the last time that nobody took one."""

    def __init__(
        self, *, peers: Callable[[], Collection[bytes]], call: Callable[[bytes, bytes], Awaitable[bytes]], waits: Callable[[bytes], bool],
    ) -> None:  # fmt: skip
        self._peers, self._call, self._waits = peers, call, waits
        self._under_way: set[bytes] = set()
        self._ways = trio.CapacityLimiter(WAYS_MAX)
        self._nursery: trio.Nursery | None = None
        self.given = 0
        self.refused = ""

    def give(self, raw: bytes) -> bool:
        """Give it away soon; False if nobody can be asked, too much is on its way, or it is larger than a stranger's may be."""
        name = transaction_id(raw)
        if name in self._under_way:
            return True
        if self._nursery is None or not self._peers() or len(self._under_way) >= UNDER_WAY_MAX or len(raw) > SIZE_MAX:
            return False
        self._under_way.add(name)
        self._nursery.start_soon(self._insist, name, raw)
        return True

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def _insist(self, name: bytes, raw: bytes) -> None:
        """Until somebody has it, or it waits no longer."""
        try:
            while not await self._give(name, raw):
                await trio.sleep(AGAIN_S)
                if not self._waits(name):
                    return
            self.given += 1
        finally:
            self._under_way.discard(name)

    async def _give(self, name: bytes, raw: bytes) -> bool:
        body, takers = encode(TransactionGiven(raw)), 0
        async with self._ways:
            for peer in list(self._peers()):
                try:
                    taken = decode(await self._call(peer, body), TransactionTaken, max_bytes=TRANSACTION_TAKEN_MAX_BYTES)
                    if taken.id != name:
                        raise fault("E-ANSWER-INVALID", "another transaction")
                except QuStreamError as error:
                    self.refused = error.code
                    continue
                takers, self.refused = takers + 1, ""
                if takers == TAKERS:
                    break
        return takers > 0
