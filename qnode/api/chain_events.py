"""What happens on the chain, as it happens: server-sent events, a block each, from any height on (`proto/spec/chain-api.md`, §6)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec
import trio

from qnode.api.chain_blocks import block_page
from qnode.api.chain_source import ChainSource
from qnode.core.ledger.state import State
from qustream.aio.http import Stream
from qustream.errors import QuStreamError

__all__ = ["Events"]

# Proxies let a silent answer end after half a minute or later, and a client that has gone is noticed by what is sent to it.
BEAT_S = 15.0
# The newest blocks are made once for all who follow; a full one has half a megabyte.
KEPT_BLOCKS = 8


class Events:
    """Streams of blocks that have been executed."""

    def __init__(self, source: ChainSource, limiter: trio.CapacityLimiter) -> None:
        self._source, self._limiter = source, limiter
        self._made: OrderedDict[int, bytes] = OrderedDict()

    def stream(self, after: int | None) -> Stream:
        """All blocks above `after`, in order; None: those to come."""
        start = self._source.store.executed.height if after is None else after

        async def run(send: Callable[[bytes], Awaitable[None]]) -> None:
            await send(b"retry: 1000\n\n")  # how soon a browser comes back
            try:
                await self._follow(start, send)
            except QuStreamError as error:  # the store has no state now, or not this block: the reader asks again, or elsewhere
                await send(f": {error.code}\n\n".encode())

        return Stream(run)

    async def _follow(self, height: int, send: Callable[[bytes], Awaitable[None]]) -> None:
        while True:
            if height < self._source.store.executed.height:
                height += 1
                await send(await self._event(height))
                continue
            with trio.move_on_after(BEAT_S) as waited:
                await self._source.wait_above(height)
            if waited.cancelled_caught:
                await send(b": nothing new\n\n")

    async def _event(self, height: int) -> bytes:
        made = self._made.get(height)
        if made is None:
            made = await trio.to_thread.run_sync(self._make, height, limiter=self._limiter)
            self._made[height] = made
            while len(self._made) > KEPT_BLOCKS:
                self._made.popitem(last=False)
        return made

    def _make(self, height: int) -> bytes:
        with self._source.store.state() as view:
            page = block_page(self._source, State(view), height)
        return b"id: %d\nevent: block\ndata: %s\n\n" % (height, msgspec.json.encode(page))
