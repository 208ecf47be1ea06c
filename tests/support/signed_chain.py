"""A stored chain whose finalisations are really signed, through rotations; and nodes of a town that get it from each other.

chain = SignedChain(tmp_path / "chain")
chain.grow(40)
async with syncing(tmp_path, 3) as nodes: ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio
from support.ledger_world import LedgerWorld, voter
from support.peers_town import Town, TownNode, town
from support.stored_chain import StoredChain

from qnode.core.consensus_events import Final
from qnode.core.ledger import rotations
from qnode.core.ledger.block import Checked
from qnode.net.strangers import Strangers
from qnode.service.asked import Asked
from qnode.service.chain import Chain
from qnode.service.sync import Sync
from qnode.service.verify import Verifier
from qnode.store.chain import ChainStore
from qustream.model.genesis import Genesis
from qustream.wire.consensus import Certificate, ChainHeader, Kind, Statement, header_digest

__all__ = ["SignedChain", "SyncNode", "signed_certificate", "syncing"]

ROTATION_MS = 10_000


def signed_certificate(header: ChainHeader, numbers: Sequence[int] = (0, 1, 2), kind: Kind = Kind.FINAL) -> Certificate:
    """Of these validators, of four."""
    digest = header_digest(header)
    stated = Statement(header.chain, header.rotation, header.view, kind, digest)
    bits = sum(0x80 >> number for number in numbers)
    return Certificate(
        header.rotation, header.view, kind, digest, bytes([bits]), tuple(voter(number).sign(stated) for number in numbers)
    )  # fmt: skip


class SignedChain(StoredChain):
    """Four validators; rotations of ten seconds, so of ten blocks."""

    def __init__(self, directory: Path, **given: int) -> None:
        super().__init__(directory, LedgerWorld(validators=4, rotation_ms=ROTATION_MS, **given))

    def next_block(self, transactions: Sequence[Checked], after_ms: int = 1_000) -> Final:
        """As its leader makes it: with what the next rotation's set is."""
        block = super().next_block(transactions, after_ms)
        named = rotations.next_set(self.world.state(), block.header.rotation)
        header = msgspec.structs.replace(block.header, next_set=named)
        return Final(header_digest(header), header, block.ids)

    def finalise(self, *blocks: Final, tail: Sequence[ChainHeader] = ()) -> None:
        certificate = signed_certificate(tail[-1] if tail else blocks[-1].header)
        self.store.finalise(blocks, certificate, tail).result()
        self.blocks += blocks

    def grow(self, blocks: int, *, transactions: int = 1, tail: bool = False) -> None:
        """More blocks, each with so many transfers. `tail`: boundary blocks are made final by descendants."""
        for _ in range(blocks):
            checked = [self.transfer(0, 1, 5) for _ in range(transactions)]
            self.keep(checked)
            block = self.next_block(checked)
            entry = rotations.current(self.world.state(), block.header.rotation)
            after = self._descendants(block.header) if tail and block.header.time_ms >= entry.edge_ms else ()
            self.finalise(block, tail=after)
            self.execute(block)

    @staticmethod
    def _descendants(header: ChainHeader) -> tuple[ChainHeader, ...]:
        made = []
        for _ in range(2):
            header = msgspec.structs.replace(
                header, view=header.view + 1, parent=header_digest(header), parent_view=header.view, time_ms=header.time_ms + 500, count=0
            )
            made.append(header)
        return tuple(made)


class SyncNode:
    """A node of a town with a chain of its own; `start` and `stop` it as often as wanted."""

    def __init__(self, node: TownNode, directory: Path, genesis: Genesis, *, is_validator: bool = False) -> None:
        self.node, self.directory, self.genesis, self.is_validator = node, directory, genesis, is_validator
        self.store: ChainStore | None = None
        self.scope: trio.CancelScope | None = None
        self.gone = trio.Event()

    async def start(self, nursery: trio.Nursery) -> None:
        self.store = ChainStore.open(self.directory, self.genesis)
        self.gone = trio.Event()
        await self.node.start()
        await nursery.start(self._run)

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.chain = Chain(self.store, self.genesis)
        verifier = Verifier(self.genesis.chain, workers=1)
        service = self.node.service
        self.asked, self.strangers = Asked(service), Strangers()
        self.sync = Sync(
            self.chain, verifier, self.asked, service._desk, self.strangers, is_validator=lambda: self.is_validator
        )  # fmt: skip
        with trio.CancelScope() as self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(verifier.run)
                await nursery.start(self.chain.run)
                nursery.start_soon(self.sync.run)
                task_status.started()
        self.chain.close()
        self.store.close()
        self.store = None
        self.gone.set()

    async def stop(self) -> None:
        assert self.scope is not None
        self.scope.cancel()
        await self.gone.wait()
        await self.node.stop()

    @property
    def height(self) -> int:
        return self.chain.executed.height

    def root(self) -> bytes | None:
        return self.store.root(self.height)


@asynccontextmanager
async def syncing(folder: Path, chains: Sequence[StoredChain | None]) -> AsyncIterator[tuple[Town, list[SyncNode], trio.Nursery]]:
    """A town with a node for each of `chains`, which has what is in it; None: only the beginning. None is started."""
    genesis = next(chain.world.genesis for chain in chains if chain is not None)
    async with town(folder, len(chains)) as t, trio.open_nursery() as nursery:
        nodes = []
        for number, (node, chain) in enumerate(zip(t.nodes, chains, strict=True)):
            directory = chain.directory if chain is not None else folder / f"node{number}"
            nodes.append(SyncNode(node, directory, genesis))
        yield t, nodes, nursery
        for each in nodes:
            if each.store is not None:
                await each.stop()
