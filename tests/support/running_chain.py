"""A chain as the service runs it, over a store on the disk: blocks are made here, what follows is its own.

async with running_chain(tmp_path) as made:
    block = await made.final(made.stored.transfer(0, 1, 5))
    await made.chain.wait_above(0)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from msgspec.structs import replace
from support.ledger_world import LedgerWorld
from support.stored_chain import StoredChain, certificate

from qnode.core.consensus_events import Final
from qnode.core.ledger.block import Checked, Executed
from qnode.service.ancestry import next_set_for
from qnode.service.chain import Chain
from qustream.model.state import Progress
from qustream.wire.consensus import header_digest

__all__ = ["RunningChain", "running_chain"]


class RunningChain:
    """`done`: what listeners heard."""

    def __init__(self, stored: StoredChain) -> None:
        self.stored, self.world = stored, stored.world
        self.chain = Chain(stored.store, stored.world.genesis)
        self.done: list[tuple[Progress, Executed]] = []
        self.chain.followers.append(lambda changes, _progress: self.world.reader.apply(changes))
        self.chain.listeners.append(lambda progress, executed: self.done.append((progress, executed)))

    def made(self, *transactions: Checked, after_ms: int = 1_000, kept: bool = True) -> Final:
        """The next block as an honest leader makes it. `kept`: its transactions are on the disk."""
        if kept:
            self.stored.keep(transactions)
        block = self.stored.next_block(transactions, after_ms)
        header = replace(block.header, next_set=next_set_for(self.chain, block.header.rotation, block.header.executed))
        return Final(header_digest(header), header, block.ids)

    async def final(self, *transactions: Checked, after_ms: int = 1_000, kept: bool = True) -> Final:
        """Made, and final."""
        block = self.made(*transactions, after_ms=after_ms, kept=kept)
        await self.chain.finalise([block], certificate(block.header))
        return block

    async def block(self, *transactions: Checked, after_ms: int = 1_000) -> Final:
        """Made, final and executed."""
        block = await self.final(*transactions, after_ms=after_ms)
        await self.chain.wait_above(block.header.height - 1)
        self.world._nonces.clear()
        return block

    async def blocks(self, count: int) -> Sequence[Final]:
        """So many empty ones."""
        return [await self.block() for _ in range(count)]


@asynccontextmanager
async def running_chain(folder: Path, world: LedgerWorld | None = None) -> AsyncIterator[RunningChain]:
    """With the chain's task running."""
    stored = StoredChain(folder / "chain", world)
    made = RunningChain(stored)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(made.chain.run)
            yield made
            nursery.cancel_scope.cancel()
    finally:
        made.chain.close()
        stored.store.close()
