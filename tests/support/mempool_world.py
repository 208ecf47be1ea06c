"""A mempool over a chain's state in memory, with real signatures and real processes that check them.

async with mempool(LedgerWorld(people=3)) as pool:
    name = await pool.mempool.submit(pool.transfer(0))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import trio
from support.ledger_world import CHAIN, LedgerWorld, opened, signed

from qnode.core.ledger.state import Reader
from qnode.service.mempool import Mempool
from qnode.service.verify import Verifier
from qustream.errors import QuStreamError
from qustream.model.state import Parameters
from qustream.wire.transactions import AnyAction, Transfer

__all__ = ["MempoolWorld", "WorldLedger", "mempool"]


class WorldLedger:
    """What a `Mempool` asks of a chain. `looks`: how often it was looked at; `faults`: what comes of the next looks."""

    def __init__(self, world: LedgerWorld) -> None:
        self.world, self.looks = world, 0
        self.faults: list[QuStreamError] = []

    @property
    def parameters(self) -> Parameters:
        return self.world.parameters

    @contextmanager
    def view(self) -> Iterator[Reader]:
        self.looks += 1
        if self.faults:
            raise self.faults.pop()
        yield self.world.reader


class MempoolWorld:
    """`said`: what was published, if anybody is there; `misled_by`: peers that were charged."""

    def __init__(self, world: LedgerWorld, verifier: Verifier) -> None:
        self.world, self.verifier, self.ledger = world, verifier, WorldLedger(world)
        self.said: list[bytes] = []
        self.is_alone = False
        self.misled_by: list[bytes] = []
        self.disk: dict[bytes, bytes] = {}
        self.mempool = Mempool(
            self.ledger, verifier, publish=self.publish, misled=self.misled_by.append, stored=self.disk.get,
            height=world.progress.height,
        )  # fmt: skip

    def publish(self, raws: Sequence[bytes]) -> bool:
        """To nobody if `is_alone`."""
        if not self.is_alone:
            self.said += raws
        return not self.is_alone

    def made(self, person: int, action: AnyAction, *, bare: bool = False, **given: int) -> bytes:
        """A transaction of somebody, signed. `given`: nonce, fee, expires, if they are to be others than the next and the least."""
        key = self.world.people[person]
        return signed(key, self.world.body(key, action, **given), bare=bare)

    def transfer(self, person: int, amount: int = 5, **given: int) -> bytes:
        """To the next of the people."""
        return self.made(person, Transfer(self.world.account((person + 1) % len(self.world.people)), amount), **given)

    def execute(self, *raws: bytes) -> None:
        """One more block, with these."""
        checked = [opened(raw) for raw in raws]
        self.world.block(*checked)
        self.mempool.executed(self.world.progress.height, self.world.changes)


@asynccontextmanager
async def mempool(world: LedgerWorld | None = None, *, workers: int = 1) -> AsyncIterator[MempoolWorld]:
    """It runs until this is left."""
    verifier = Verifier(CHAIN, workers=workers)
    async with trio.open_nursery() as nursery:
        await nursery.start(verifier.run)
        yield MempoolWorld(world or LedgerWorld(validators=1, idle=0, people=4), verifier)
        nursery.cancel_scope.cancel()
