"""Nodes of a town that give the state of a chain away, truly or not, and one that joins with it: real links, real signatures, real stores.

async with giving(tmp_path, 2) as place:
    joining = await place.join(number=2)
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from support.peers_town import Town, town, until
from support.signed_chain import SignedChain, SyncNode, signed_certificate
from support.stored_chain import raw_of

from qnode.net.session import Session
from qnode.net.strangers import Strangers
from qnode.service.chain import Chain
from qnode.service.joining import Joining
from qnode.service.keys_workers import settled
from qnode.service.light import LIGHT_TAGS, LightAnswers
from qnode.service.snapshot_serve import SNAPSHOT_TAGS, SnapshotAnswers
from qustream.wire.codec import decode, encode
from qustream.wire.light import LIGHT_ANSWER_MAX_BYTES, HandOvers, Proofs, SetTold, VoteKeys, checkpoint_digest
from qustream.wire.light import Checkpoint as LightCheckpoint
from qustream.wire.snapshot import SNAPSHOT_ANSWER_MAX_BYTES, ChunkTold, SnapshotTold

__all__ = ["Giver", "Giving", "giving"]

# Where the servers start, and where they come to while they run: across a boundary.
BEFORE, BLOCKS = 25, 38
_TOLD = LightCheckpoint | HandOvers | SetTold | VoteKeys | Proofs

Lie = Callable[[Any], Any]


class Giver(SyncNode):
    """`lie`: makes of a true answer what it says instead; `asked`: how often it was."""

    lie: Lie = staticmethod(lambda answer: answer)
    asked = 0

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        assert self.store is not None
        self.chain = Chain(self.store, self.genesis)
        self.snapshots = SnapshotAnswers(self.chain, self.directory, Strangers())
        self.light = LightAnswers(self.chain, None)  # type: ignore[arg-type]  # nobody asks for grants
        desk = self.node.service._desk
        for tags in SNAPSHOT_TAGS:
            desk.route(tags, self._answer)
        desk.route_open(LIGHT_TAGS, self._answer_light)
        with trio.CancelScope() as self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.snapshots.run)
                await nursery.start(self.chain.run)
                task_status.started()
        self.snapshots.close()
        self.chain.close()
        self.store.close()
        self.store = None
        self.gone.set()

    async def _answer(self, session: Session, body: bytes, deadline_ms: int) -> bytes:
        self.asked += 1
        said = await self.snapshots.answer(session, body, deadline_ms)
        return self._twisted(said, SnapshotTold | ChunkTold, SNAPSHOT_ANSWER_MAX_BYTES)

    async def _answer_light(self, body: bytes) -> bytes:
        return self._twisted(await self.light.answer(body), _TOLD, LIGHT_ANSWER_MAX_BYTES)

    def _twisted(self, said: bytes, kind: Any, max_bytes: int) -> bytes:
        twisted = self.lie(decode(said, kind, max_bytes=max_bytes))
        return twisted if isinstance(twisted, bytes) else encode(twisted)


class Giving:
    """`givers`, all with the same chain and state; `chain`: it, as it was made."""

    def __init__(self, folder: Path, chain: SignedChain, t: Town, givers: list[Giver], nursery: trio.Nursery) -> None:
        self.folder, self.chain, self.town, self.givers, self.nursery = folder, chain, t, givers, nursery
        self.joining: Joining | None = None

    @property
    def pinned(self) -> bytes:
        """The checkpoint of the rotation that runs."""
        return checkpoint_digest(self.givers[0].light.checkpoint)

    def now_ms(self) -> int:
        return self.chain.blocks[-1].header.time_ms + 5_000

    async def join(self, pinned: bytes | None = None, *, now_ms: int = 0) -> Joining:
        """A node that begins; it runs."""
        node = self.town.nodes[-1]
        await node.start()
        if not self.town.cuts:
            await self.town.linked()
        joining = Joining.open(
            self.folder / "new", self.chain.world.genesis, pinned or self.pinned, clock_ms=lambda: now_ms or self.now_ms()
        )
        assert joining is not None
        self.joining = joining
        joining.join(node.service, node.service._desk)
        await self.nursery.start(joining.run)
        return joining

    async def leave(self) -> None:
        """As if it had been killed."""
        assert self.joining is not None
        self.joining.close()
        await self.town.nodes[-1].stop()


@asynccontextmanager
async def giving(folder: Path, count: int) -> AsyncIterator[Giving]:
    """So many nodes that have the state, and a place for one more."""
    chain = SignedChain(folder / "chain", people=120)
    for number in range(BEFORE):
        chain.grow(1, transactions=1 + number % 3)
    chain.store.close()
    for number in range(count):
        shutil.copytree(chain.directory, folder / f"giver{number}")
    chain.reopen()
    chain.grow(BLOCKS - BEFORE)
    async with town(folder, count + 1) as t, trio.open_nursery() as nursery:
        givers = [Giver(node, folder / f"giver{number}", chain.world.genesis) for number, node in enumerate(t.nodes[:count])]
        for giver in givers:
            await giver.start(nursery)
            for block in chain.blocks[BEFORE:]:
                assert giver.store is not None
                await settled(giver.store.keep_transactions([(name, raw_of(chain.raws[name])) for name in block.ids]))
                await giver.chain.finalise([block], signed_certificate(block.header))
            await until(lambda giver=giver: giver.height == BLOCKS and giver.snapshots.heights[-1:] > (BEFORE,))  # type: ignore[misc]
        yield Giving(folder, chain, t, givers, nursery)
        nursery.cancel_scope.cancel()
    chain.store.close()
