"""Transactions of a block that are not here: asking peers for them, and answering peers that ask (`proto/spec/mempool.md`, §6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from qnode.core.ledger.block import Checked
from qnode.net.answers import Quota
from qnode.net.session import Session
from qnode.service.verify import UNTOLD, Verifier
from qustream.errors import QuStreamError, fault
from qustream.model.keys import PublicKey
from qustream.wire.codec import decode, encode
from qustream.wire.mempool import (
    TRANSACTIONS_ANSWER_MAX_BYTES,
    TRANSACTIONS_ASK_MAX_BYTES,
    TRANSACTIONS_ASKED_MAX,
    TransactionsAnswer,
    TransactionsAsk,
)
from qustream.wire.transactions import transaction_id

__all__ = ["MEMPOOL_TAGS", "Obtained", "Puller"]

# What the desk hands to `Mempool.answer`.
MEMPOOL_TAGS = range(101, 102)
# A whole body of a block is nine asks; whoever misses every one of a block a second asks for 90 in ten seconds.
ASKS_MAX, ASKS_MS = 128, 10_000
# An answer of 512 KiB takes 42 ms of a 100 Mbit/s line; one that is this late is as good as none to a voter.
ASK_MS = 2_000
# What may be otherwise another time: the key may have come with a block that is not executed here yet.
UNSURE = frozenset({UNTOLD, "E-LEDGER-KEY"})
# In an answer: the head of each transaction's bytes, and its own.
HEAD_BYTES, ANSWER_HEAD_BYTES = 5, 16


@dataclass(slots=True)
class Obtained:
    """What became of the ids that were asked for. `found`: bytes, and what has been verified; `bad`: bytes that have this id are here, and
    can stand in no valid block, with the code; `missing`: nobody had them, or it could not be told yet."""

    found: dict[bytes, tuple[bytes, Checked]] = field(default_factory=dict)
    bad: dict[bytes, str] = field(default_factory=dict)
    missing: tuple[bytes, ...] = ()


class Puller:
    """`here`: a transaction that waits here; `keys`: of accounts; `misled`: a peer answered what it was not asked; `stored`: from the disk,
    called in a thread."""

    def __init__(
        self, here: Callable[[bytes], tuple[bytes, Checked] | None], verifier: Verifier, keys: Callable[[bytes], PublicKey | None],
        misled: Callable[[bytes], None], stored: Callable[[bytes], bytes | None],
    ) -> None:  # fmt: skip
        self._here, self._verifier, self._keys, self._misled, self._stored = here, verifier, keys, misled, stored
        self._quota = Quota(ASKS_MAX, ASKS_MS)

    async def obtain(self, ids: Sequence[bytes], sessions: Sequence[Session]) -> Obtained:
        """See `Mempool.obtain`. Each session is asked until it has nothing more of them; whoever is in a hurry gives fewer."""
        wanted = list(dict.fromkeys(ids))
        done = Obtained({name: here for name in wanted if (here := self._here(name)) is not None})
        await self._from_disk(wanted, done)
        for session in sessions:
            while left := self._left(wanted, done):
                before = len(left)
                asked = left[:TRANSACTIONS_ASKED_MAX]
                try:
                    await self._take(await self._ask(session, asked), done)
                except QuStreamError:
                    break  # it is gone, slow, or has said what is not so
                if len(self._left(wanted, done)) == before:
                    break
        done.missing = tuple(self._left(wanted, done))
        return done

    @staticmethod
    def _left(wanted: Sequence[bytes], done: Obtained) -> list[bytes]:
        return [name for name in wanted if name not in done.found and name not in done.bad]

    async def _from_disk(self, wanted: Sequence[bytes], done: Obtained) -> None:
        left = self._left(wanted, done)
        if left:
            stored = await trio.to_thread.run_sync(lambda: {name: raw for name in left if (raw := self._stored(name)) is not None})
            await self._take(stored, done)

    async def _ask(self, session: Session, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """What a peer has of these. Errors: those of a call; `E-ANSWER-INVALID`."""
        answer = await session.call(encode(TransactionsAsk(tuple(ids))), ASK_MS, max_answer_bytes=TRANSACTIONS_ANSWER_MAX_BYTES)
        try:
            told = decode(answer, TransactionsAnswer, max_bytes=TRANSACTIONS_ANSWER_MAX_BYTES)
            named = {transaction_id(raw): raw for raw in told.transactions}
            if len(named) < len(told.transactions) or not named.keys() <= set(ids):
                raise fault("E-ANSWER-INVALID", "transactions that were not asked for")
        except QuStreamError:
            self._misled(session.peer)
            raise
        return named

    async def _take(self, named: dict[bytes, bytes], done: Obtained) -> None:
        """Verify what has come. That a peer hands on what does not hold is no fault of its own: the ids were the block's."""
        checked = await self._verifier.transactions(list(named.values()), self._keys)
        for (name, raw), found in zip(named.items(), checked, strict=True):
            if isinstance(found, Checked):
                done.found[name] = raw, found
            elif found not in UNSURE:
                done.bad[name] = found

    # -- answering --------------------------------------------------------------------------------------------------------

    async def answer(self, session: Session, body: bytes, _deadline_ms: int) -> bytes:
        """See `Mempool.answer`. Errors: `E-WIRE-…`, `E-PEER-LIMIT`."""
        ask = decode(body, TransactionsAsk, max_bytes=TRANSACTIONS_ASK_MAX_BYTES)
        self._quota.spend(session.peer)
        return encode(TransactionsAnswer(tuple(await self._gathered(tuple(dict.fromkeys(ask.ids))))))

    async def _gathered(self, ids: Sequence[bytes]) -> list[bytes]:
        """As many as fit, in order; the disk is looked at once, for those that do not wait."""
        here = {name: found[0] for name in ids if (found := self._here(name)) is not None}
        others = [name for name in ids if name not in here]

        def read() -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            room = TRANSACTIONS_ANSWER_MAX_BYTES - sum(map(len, here.values()))
            for name in others:
                raw = self._stored(name) if room > 0 else None
                if raw is not None:
                    found[name] = raw
                    room -= len(raw)
            return found

        gathered = here | (await trio.to_thread.run_sync(read) if others else {})
        room, fitting = TRANSACTIONS_ANSWER_MAX_BYTES - ANSWER_HEAD_BYTES, []
        for name in ids:
            raw = gathered.get(name)
            if raw is not None and len(raw) + HEAD_BYTES <= room:
                fitting.append(raw)
                room -= len(raw) + HEAD_BYTES
        return fitting
