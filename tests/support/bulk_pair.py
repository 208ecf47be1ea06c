"""Nodes in one process that fetch from each other over real connections, for tests of bulk transfer."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from qnode.net.answers import Desk
from qnode.net.bulk import BULK_TAGS, Bulk
from qnode.net.hub import Hub
from qnode.net.session import NODE_CHANNELS, Answer, BulkTaker, Session
from qnode.store.pieces import FileObject, PieceStore
from qustream.aio.connection import Connection, connect
from qustream.aio.listener import serve
from qustream.errors import fault
from qustream.identity.signing import SigningKey
from qustream.transport.greeting import LocalHello, Peer
from qustream.wire.hello import Role

__all__ = ["HELLO", "BulkNode", "Hooked", "listening", "made_object"]

HELLO = LocalHello("bulk-test", (Role.NODE,))


async def nothing_else(_peer: Peer, _body: bytes, _deadline_ms: int) -> bytes:
    raise fault("E-REQUEST-INVALID", "nobody answers this")


def made_object(folder: Path, size: int) -> FileObject:
    """A file of random bytes."""
    path = folder / f"object-{os.urandom(4).hex()}"
    path.write_bytes(os.urandom(size))
    return FileObject.open(path)


class Hooked:
    """An object that calls `hook` in the event loop, with how many pieces were read before, whenever some are read."""

    def __init__(self, source: FileObject, hook: Callable[[int], None]) -> None:
        self.manifest, self.id, self.served = source.manifest, source.id, 0
        self._source, self._hook = source, hook

    def read(self, first: int, count: int) -> list[bytes]:
        trio.from_thread.run_sync(self._hook, self.served)
        self.served += count
        return self._source.read(first, count)


@dataclass
class BulkNode:
    """One node. `answer` and `take` may be replaced by a test to make it a bad one. `sessions`: by peer, ours."""

    folder: Path
    key: SigningKey = field(default_factory=lambda: SigningKey(os.urandom(32)))
    charged: list[tuple[bytes, str]] = field(default_factory=list)
    sessions: dict[bytes, Session] = field(default_factory=dict)
    inbound: list[Session] = field(default_factory=list)
    address: str = ""

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.hub = Hub()
        self.desk = Desk(nothing_else)
        self.bulk = Bulk(
            charge=lambda session, code: self.charged.append((session.peer, code)),
            stands=lambda session: self.hub.get(session.number) is session,
            clock_ms=lambda: int(trio.current_time() * 1000),
        )
        self.desk.route(BULK_TAGS, self.bulk.answer)
        self.answer: Answer = self.desk.answer
        self.take: BulkTaker = self.bulk.take

    @property
    def id(self) -> bytes:
        return self.key.id

    def store(self, room_bytes: int = 1 << 30) -> PieceStore:
        return PieceStore(self.folder / "bulk", room_bytes=room_bytes)

    async def run_session(self, connection: Connection, *, ours: bool) -> None:
        session = Session(self.hub.number(), connection, ours=ours)
        self.hub.join(session)
        if ours:
            self.sessions[session.peer] = session
        else:
            self.inbound.append(session)
        try:
            await session.run(self.answer, self.take)
        finally:
            self.hub.leave(session)

    async def listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        async def talk(connection: Connection) -> None:
            await self.run_session(connection, ours=False)

        run = partial(serve, "127.0.0.1:0", key=self.key, hello=HELLO, handler=talk, permit=lambda _: NODE_CHANNELS)
        async with trio.open_nursery() as nursery:
            [self.address] = await nursery.start(run)
            task_status.started()

    async def connect(self, other: BulkNode, nursery: trio.Nursery) -> Session:
        """A session to it, served until it ends."""
        connection = await connect(other.address, key=self.key, hello=HELLO, expect=other.id, permit=lambda _: NODE_CHANNELS)

        async def serve_it() -> None:
            async with connection:
                await self.run_session(connection, ours=True)

        self.sessions.pop(other.id, None)
        nursery.start_soon(serve_it)
        with trio.fail_after(60):
            while other.id not in self.sessions:
                await trio.sleep(0.001)
        return self.sessions[other.id]

    def cut(self) -> None:
        """Every connection to it breaks, as a cable would."""
        for session in self.inbound:
            session.connection._link.close()
        self.inbound.clear()


@asynccontextmanager
async def listening(nodes: Sequence[BulkNode]) -> AsyncIterator[trio.Nursery]:
    """All of them listen; yields a nursery for sessions."""
    async with trio.open_nursery() as nursery:
        for node in nodes:
            await nursery.start(node.listen)
        yield nursery
        nursery.cancel_scope.cancel()
