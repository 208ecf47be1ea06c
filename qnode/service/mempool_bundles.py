"""Transactions that are said together (`proto/spec/mempool.md`, §5): gathered for a moment, and taken apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import trio

from qustream.errors import QuStreamError
from qustream.wire.bundle import BUNDLE_HEAD_BYTES, BUNDLE_MAX_BYTES, BUNDLE_TRANSACTIONS_MAX, ITEM_HEAD_BYTES, Bundle
from qustream.wire.codec import decode, encode

__all__ = ["Outbox", "bundled", "turn", "unbundled"]

# How long a transaction waits for others: a message costs each node as much as several transactions do. A tenth of the fastest block.
GATHER_S = 0.02


def bundled(raws: Sequence[bytes]) -> bytes:
    """What travels."""
    return encode(Bundle(tuple(raws)))


def unbundled(body: bytes) -> tuple[bytes, ...] | None:
    """The transactions in hostile bytes; None if they are no bundle, or have one twice."""
    try:
        raws = decode(body, Bundle, max_bytes=BUNDLE_MAX_BYTES).transactions
    except QuStreamError:
        return None
    return raws if len(set(raws)) == len(raws) else None


def turn(due: Iterable[bytes], part: float, count: int, size: int) -> list[bytes]:
    """Of what is to be said again, what goes now: a bundle, or more if all there is (`count`, `size` bytes) would not go otherwise in
    1 / `part` turns. Everybody has it, as a rule: of whom many such bundles come at once nothing is looked at for a while."""
    count_room = max(BUNDLE_TRANSACTIONS_MAX, count * part)
    room = max(BUNDLE_MAX_BYTES - BUNDLE_HEAD_BYTES, (size + count * ITEM_HEAD_BYTES) * part)
    taken: list[bytes] = []
    for raw in due:
        room -= len(raw) + ITEM_HEAD_BYTES
        if taken and (room < 0 or len(taken) >= count_room):
            break
        taken.append(raw)
    return taken


class Outbox:
    """One bundle in the making. `publish`: says these transactions to all, False if nobody is there to hear; `said`: hears of which ids,
    and what came of it."""

    def __init__(self, publish: Callable[[Sequence[bytes]], bool], said: Callable[[Sequence[bytes], bool], None]) -> None:
        self._publish, self._said = publish, said
        self._waiting: dict[bytes, bytes] = {}
        self._bytes = BUNDLE_HEAD_BYTES
        self._news = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, name: bytes) -> bool:
        return name in self._waiting

    def add(self, name: bytes, raw: bytes) -> None:
        """Say it with the next bundle; if that is full, it goes at once."""
        size = len(raw) + ITEM_HEAD_BYTES
        if name in self._waiting:
            return
        if self._bytes + size > BUNDLE_MAX_BYTES or len(self._waiting) >= BUNDLE_TRANSACTIONS_MAX:
            self.flush()
        self._waiting[name] = raw
        self._bytes += size
        self._news.set()

    def flush(self) -> None:
        """Say what waits."""
        waiting, self._waiting, self._bytes = self._waiting, {}, BUNDLE_HEAD_BYTES
        self.say(list(waiting.items()))

    def say(self, transactions: Sequence[tuple[bytes, bytes]]) -> None:
        """Say these together at once: with nothing else, so that whoever has the same to say says the same message."""
        if transactions:
            self._said([name for name, _ in transactions], self._publish([raw for _, raw in transactions]))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            await trio.sleep(GATHER_S)
            self._news = trio.Event()
            self.flush()
