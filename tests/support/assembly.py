"""Validators in one process: everything of consensus and the chain as it is, with wires in place of sessions.

async with assembly(tmp_path, validators=4) as made:
    await made.until_height(5)

Signatures are real, and checked in this process. `seat.is_cut` takes one off the wires; `made.stop(2)` and `made.start(2)` end it and
begin it anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace
from support.ledger_world import PARAMETERS, genesis, hash_chain, key, voter
from support.peers_town import until

from qnode.service.chain import Chain
from qnode.service.consensus import ConsensusService
from qnode.service.mempool import Mempool
from qnode.service.voter import Voter
from qnode.store.chain import ChainStore
from qnode.store.sign_state import SignStateFile
from qustream.identity.voting import verify_vote
from qustream.model.genesis import Genesis
from qustream.transport.limits import Channel
from qustream.wire.codec import decode
from qustream.wire.consensus import ConsensusMessage, Statement

__all__ = ["Assembly", "Seat", "assembly"]

QUICK = replace(PARAMETERS, interval_ms=50, idle_ms=100, delta_ms=300)
MESSAGE_MAX_BYTES = 1 << 20


class _Here:
    """Checks vote keys in this process (`Verifier.statements`)."""

    def __init__(self, chain: str) -> None:
        self.chain, self.checked = chain, 0

    async def statements(self, stated: Sequence[tuple[bytes, Statement, bytes]]) -> list[bool]:
        await trio.lowlevel.checkpoint()
        self.checked += len(stated)
        return [verify_vote(public, statement, signature) for public, statement, signature in stated]


class Wire:
    """One end of a link, as `Session`. `lost`: what it swallows; `ended`: why it was closed."""

    def __init__(self, town: Assembly, source: Seat, target: Seat) -> None:
        self.town, self.source, self.target, self.peer = town, source, target, target.node
        self.is_validators, self.height, self.connection = True, 0, self
        self.ended = ""

    def vote(self, body: bytes) -> bool:
        self.town.carry(self.source, self.target, body)
        return True

    async def send(self, _channel: Channel, body: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        return self.vote(body)

    def close_soon(self, code: str, _detail: str = "") -> None:
        self.ended = code


class _Hub:
    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    @property
    def links(self) -> list[Any]:
        return [link for node in self._seat.town.seats if (link := self.link_to(node.node)) is not None]

    def link_to(self, peer: bytes) -> Any:
        other = next((seat for seat in self._seat.town.seats if seat.node == peer), None)
        if other is None or other is self._seat or not other.is_up:
            return None
        wire = self._seat.wires.setdefault(peer, Wire(self._seat.town, self._seat, other))
        wire.height = other.chain.store.final.height
        return wire


class _Peers:
    """As `PeerService`, as far as consensus asks of it."""

    def __init__(self, seat: Seat) -> None:
        self.hub, self._town = _Hub(seat), seat.town
        self.take_consensus: Callable[[Any, Sequence[ConsensusMessage]], None] | None = None
        self.meshed: list[tuple[frozenset[bytes], frozenset[bytes] | None]] = []

    def mesh(self, nodes: frozenset[bytes], voters: frozenset[bytes] | None) -> None:
        self.meshed.append((nodes, voters))

    def steady_ms(self) -> int:
        return self._town.clock_ms()  # as a node's: Unix time, that never goes back


class Seat:
    """One validator. `service`, `chain`: of its present life."""

    def __init__(self, town: Assembly, number: int) -> None:
        self.town, self.number, self.node = town, number, key("node", number).id
        self.folder = town.folder / str(number)
        self.folder.mkdir()
        self.memory = SignStateFile(self.folder / "sign-state", voter(number).id)
        self.memory.begin()
        self.wires: dict[bytes, Wire] = {}
        self.is_up, self.is_cut = False, False
        self._scope = trio.CancelScope()
        self._over = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._scope, self._over = trio.CancelScope(), trio.Event()
        store = ChainStore.open(self.folder / "chain", self.town.genesis)
        try:
            with self._scope:
                self.chain, self.peers, self.verifier = Chain(store, self.town.genesis), _Peers(self), _Here(self.town.genesis.chain)
                self.mempool = Mempool(self.chain, self.verifier, height=self.chain.executed.height)  # type: ignore[arg-type]
                self.voter = Voter(voter(self.number), [hash_chain(self.number)], self.memory)
                self.service = ConsensusService(
                    self.chain, self.mempool, self.verifier, self.peers, key=key("node", self.number), voter=self.voter,  # type: ignore[arg-type]
                    clock_ms=self.town.clock_ms,
                )  # fmt: skip
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.chain.run)
                    self.is_up = True
                    nursery.start_soon(self.service.run)
                    task_status.started()
        finally:
            self.is_up = False
            self.chain.close()
            store.close()
            self._over.set()

    async def stop(self) -> None:
        """At once, as if it were killed: what is on the disk stays."""
        self._scope.cancel()
        await self._over.wait()

    @property
    def height(self) -> int:
        return self.chain.executed.height


class Assembly:
    """All of them. `lose`: which messages do not arrive, by (from, to, message)."""

    def __init__(self, folder: Path, document: Genesis, nursery: trio.Nursery) -> None:
        self.folder, self.genesis, self._nursery = folder, document, nursery
        self.lose: Callable[[int, int, ConsensusMessage], bool] = lambda _source, _target, _message: False
        self._began_s = trio.current_time()
        self.carried = 0
        self.seats: list[Seat] = []

    def clock_ms(self) -> int:
        """Time begins with the chain."""
        return self.genesis.time_ms + 1 + int((trio.current_time() - self._began_s) * 1000)

    def carry(self, source: Seat, target: Seat, body: bytes) -> None:
        if source.is_cut or target.is_cut or not target.is_up:
            return
        message = decode(body, ConsensusMessage, max_bytes=MESSAGE_MAX_BYTES)
        if not self.lose(source.number, target.number, message):
            self.carried += 1
            take = target.peers.take_consensus
            assert take is not None
            take(target.wires.setdefault(source.node, Wire(self, target, source)), [message])

    async def start(self, *numbers: int) -> None:
        for number in numbers:
            await self._nursery.start(self.seats[number].run)

    async def stop(self, *numbers: int) -> None:
        for number in numbers:
            await self.seats[number].stop()

    @property
    def up(self) -> list[Seat]:
        return [seat for seat in self.seats if seat.is_up]

    async def until_height(self, height: int, seats: Sequence[Seat] | None = None) -> None:
        await until(lambda: all(seat.height >= height for seat in (self.up if seats is None else seats)))

    def agree(self) -> int:
        """All that run have the same chain up to the lowest of them; its height."""
        height = min(seat.height for seat in self.up)
        for number in range(1, height + 1):
            assert len({seat.chain.store.block_at(number) for seat in self.up}) == 1
        return height


@asynccontextmanager
async def assembly(folder: Path, validators: int = 4, **parameters: int) -> AsyncIterator[Assembly]:
    """They run."""
    document = genesis(validators=validators, parameters=replace(QUICK, **parameters))
    async with trio.open_nursery() as nursery:
        made = Assembly(folder, document, nursery)
        made.seats = [Seat(made, number) for number in range(validators)]
        await made.start(*range(validators))
        yield made
        nursery.cancel_scope.cancel()
