"""Two sessions that face each other over real TLS on loopback, each in its hub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio
from support.peers_town import until

from qnode.net.hub import Hub
from qnode.net.session import NODE_CHANNELS, Session
from qustream.aio.connection import Connection, connect
from qustream.aio.listener import serve
from qustream.errors import fault
from qustream.identity.signing import SigningKey
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role

__all__ = ["ALICE", "BOB", "HELLO", "End", "facing"]

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
HELLO = LocalHello("pair", (Role.NODE,), (), 7)


class End:
    """One end: its hub, and what became of its sessions. `alice` opens, `bob` accepts."""

    def __init__(self, key: SigningKey) -> None:
        self.key, self.hub = key, Hub()
        self.sessions: list[Session] = []
        self.codes: list[str] = []
        self.bulk: list[bytes] = []

    async def run(self, connection: Connection, *, ours: bool) -> None:
        session = Session(self.hub.number(), connection, ours=ours)
        self.hub.join(session)
        self.sessions.append(session)
        self.codes.append(await session.run(self._asked, self.take_bulk))
        self.hub.leave(session)

    async def _asked(self, session: Session, body: bytes, deadline_ms: int) -> bytes:
        return await self.answer(session, body, deadline_ms)  # which a test may change meanwhile

    async def answer(self, _session: Session, body: bytes, _deadline_ms: int) -> bytes:
        if body == b"no":
            raise fault("E-PEER-LIMIT", "asked too often", retry_after_ms=5)
        return body * 2

    async def take_bulk(self, _session: Session, bodies: Sequence[bytes | bytearray]) -> None:
        self.bulk += map(bytes, bodies)


@asynccontextmanager
async def facing(count: int = 1) -> AsyncIterator[tuple[End, End]]:
    """Alice with `count` sessions to bob."""
    alice, bob = End(ALICE), End(BOB)
    async with trio.open_nursery() as nursery:
        handler: Callable[[Connection], Awaitable[None]] = partial(bob.run, ours=False)
        run = partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=handler, permit=lambda _: NODE_CHANNELS)
        [address] = await nursery.start(run)

        async def dial() -> None:
            connection = await connect(address, key=ALICE, hello=HELLO, expect=BOB.id, permit=lambda _: NODE_CHANNELS)
            async with connection:
                await alice.run(connection, ours=True)

        for number in range(1, count + 1):
            nursery.start_soon(dial)
            await until(lambda number=number: len(alice.sessions) == len(bob.sessions) == number)  # type: ignore[misc]
        yield alice, bob
        nursery.cancel_scope.cancel()
