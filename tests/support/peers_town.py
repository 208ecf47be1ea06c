"""A few nodes' peer services in one process: real listeners, TLS and links on loopback, a real network file; no keys, no store.

Every node has a /16 of its own and an operator of its own, unless a test says otherwise. `until` waits for what a test expects.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import trio
from support.places import WORKER

from qnode.net.answers import Desk
from qnode.net.dialer import Reached
from qnode.service.forgetful import ForgetfulKeeper
from qnode.service.gossip import Judge
from qnode.service.peers import PeerService
from qustream.aio.connection import Connection
from qustream.aio.listener import ListenerLimits, ListenerStats, open_listener, serve
from qustream.aio.rpc import serve_requests
from qustream.errors import fault
from qustream.identity.signing import SigningKey
from qustream.model.network import NodeClass, NodeRecord
from qustream.registry import NetworkFileRegistry, NetworkFileWriter
from qustream.transport.greeting import LocalHello, Peer
from qustream.wire.gossip import Topic
from qustream.wire.hello import Role

__all__ = ["CHAIN", "Town", "TownNode", "until"]

CHAIN = "town"
EPOCH_MS = 3 * 86_400_000
PATIENCE_S = 60.0  # back-offs of a node that failed a few times, on a loaded machine
# The first of the /16s that are a town's own.
FIRST_NET = 40


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until it is true."""
    with trio.move_on_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.01)
        return
    raise AssertionError(f"in vain: {what or condition}")


class TownNode:
    """One node; `start` and `stop` it as often as wanted, it keeps its address and what its disk has."""

    def __init__(self, town: Town, number: int, operator: str) -> None:
        self.town, self.key, self.operator = town, SigningKey(number.to_bytes(32, "big")), operator
        self.listen = f"127.{FIRST_NET + number}.{WORKER}.1:0"
        self.keeper = ForgetfulKeeper()
        self.told: tuple[str, ...] = ()
        self.judges: dict[Topic, Judge] = {}
        self.skew_ms = 0  # of its own clock
        self.limits = ListenerLimits()
        self.stats = ListenerStats()
        self.scope: trio.CancelScope | None = None
        self.gone = trio.Event()
        with open_listener(self.listen) as sock:
            self.listen = f"{sock.getsockname()[0]}:{sock.getsockname()[1]}"

    @property
    def id(self) -> bytes:
        return self.key.id

    @property
    def links(self) -> set[bytes]:
        return {link.peer for link in self.service.hub.links}

    def clock_ms(self) -> int:
        return self.town.clock_ms() + self.skew_ms

    async def start(self) -> None:
        self.gone = trio.Event()
        await self.town.nursery.start(self._run)

    async def stop(self) -> None:
        assert self.scope is not None
        self.scope.cancel()
        await self.gone.wait()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        desk = Desk(_answer)
        self.service = PeerService(
            self.key, self.town.registry, desk, self.keeper, hello=self.hello, clock_ms=self.clock_ms, addresses=self.told,
            judges=self.judges,
        )  # fmt: skip

        reach = self.service._dialer.reach

        async def reach_uncut(peer: bytes, addresses: Sequence[str], **more: Any) -> Reached:
            if frozenset((self.id, peer)) in self.town.cuts:
                raise fault("E-PEER-UNREACHABLE", "the network is cut")
            return await reach(peer, addresses, **more)

        self.service._dialer.reach = reach_uncut  # type: ignore[method-assign]

        async def talk(connection: Connection) -> None:
            if connection.peer.id in self.service.known:
                await self.service.talk(connection)
            else:
                await serve_requests(connection, partial(desk.answer_stranger, connection.peer, remote=connection.remote))

        with trio.CancelScope() as self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.service.run)
                run = partial(
                    serve, self.listen, key=self.key, hello=self.hello, handler=talk, permit=self.service.permit, limits=self.limits,
                    stats=self.stats,
                )  # fmt: skip
                await nursery.start(run)
                task_status.started()
        self.gone.set()

    def hello(self) -> LocalHello:
        return LocalHello(CHAIN, (Role.NODE,), (), self.town.registry.height)


async def _answer(_peer: Peer, body: bytes, _deadline_ms: int) -> bytes:
    """Where a node has its keys."""
    if body == b"a bad one":
        raise fault("E-REQUEST-INVALID")
    return b"answer to " + body


class Town:
    """`async with town(folder, 4) as t:`; `t.nodes`. The network file lists all of them."""

    def __init__(self, folder: Path, operators: Sequence[str], nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.skew_ms = 0
        self.cuts: set[frozenset[bytes]] = set()
        self.authority = SigningKey(os.urandom(32))
        self.writer = NetworkFileWriter.create(
            folder / "network.toml", CHAIN, self.authority,
            genesis_ms=self.clock_ms() - 10 * EPOCH_MS, epoch_length_ms=EPOCH_MS, seed=bytes(32),
        )  # fmt: skip
        self.nodes = [TownNode(self, number + 1, operator) for number, operator in enumerate(operators)]
        for node in self.nodes:  # a licence runs one node
            self.writer.add_node(NodeRecord(node.key.public, NodeClass.COMMUNITY, node.operator, node.id[:16], (node.listen,), 1, True))
        self.registry = NetworkFileRegistry(folder / "network.toml", self.authority.public)
        self.write()

    def clock_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.skew_ms

    def write(self) -> None:
        """Let the network file be what the writer has."""
        self.writer.write()
        self.registry.load(self.clock_ms())

    async def start(self, *nodes: TownNode) -> None:
        for node in nodes or self.nodes:
            await node.start()

    def cut(self, ones: Sequence[TownNode], others: Sequence[TownNode]) -> None:
        """None of these reaches any of those any more, and links between them end."""
        for one, other in product(ones, others):
            self.cuts.add(frozenset((one.id, other.id)))
            for node, peer in ((one, other), (other, one)):
                if node.scope is not None and not node.gone.is_set():
                    for session in list(node.service.hub):
                        if session.peer == peer.id:
                            session.connection.close_soon("E-PEER-UNREACHABLE", "the network is cut")

    def heal(self, ones: Sequence[TownNode], others: Sequence[TownNode]) -> None:
        """They do again."""
        self.cuts -= {frozenset((one.id, other.id)) for one, other in product(ones, others)}

    async def linked(self, *nodes: TownNode) -> None:
        """Until each is linked to all others, no two have a second connection, and none is on its way that might replace the first."""
        circle = nodes or self.nodes
        wanted = {node.id for node in circle}

        def is_settled(node: TownNode) -> bool:
            dialled = {each.peer for each in node.service.core.next_dials if not each.next_ms}
            return node.links >= wanted - {node.id} and len(node.service.hub) == len(node.links) and not dialled & wanted

        await until(lambda: all(map(is_settled, circle)), "everybody is linked to everybody")


@asynccontextmanager
async def town(folder: Path, count: int = 0, operators: Sequence[str] = ()) -> AsyncIterator[Town]:
    """A town of `count` nodes, or of one for each of `operators`; not started. Everything ends when this is left."""
    async with trio.open_nursery() as nursery:
        yield Town(folder, operators or [f"operator-{number}" for number in range(count)], nursery)
        nursery.cancel_scope.cancel()
