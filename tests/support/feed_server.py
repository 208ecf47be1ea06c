"""A QRNG server played by a test, over real TLS with real signatures: as honest or as hostile as the test wants it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import trio
from msgspec.structs import replace
from support.keys_world import CHAIN, World

from qustream.aio.connection import Connection
from qustream.aio.listener import serve
from qustream.entropy import build_batch
from qustream.identity.signing import SigningKey
from qustream.model.entropy import MATERIAL_BYTES, UNIT_BYTES
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import Channel
from qustream.wire.codec import Message, decode, encode
from qustream.wire.feed import FeedBatch, FeedCredit, FeedHealth, FeedOpen, FeedUnit
from qustream.wire.hello import Role
from qustream.wire.rpc import Response

__all__ = ["LIVE", "FeedSession", "Script", "fed", "honest"]

LIVE = FeedHealth("live", "", "the start-up test passed")


class FeedSession:
    """The server's end of one feed."""

    def __init__(self, world: World, connection: Connection, numbers: Iterator[int]) -> None:
        self.world = world
        self.connection = connection
        self._numbers = numbers

    async def open(self, health: FeedHealth = LIVE) -> FeedOpen:
        """Take the node's FeedOpen and answer it."""
        request = await self.connection.next_request()
        opening = decode(request.body, FeedOpen | FeedCredit, max_bytes=64)
        assert isinstance(opening, FeedOpen)
        await self.answer(request.id, health)
        return opening

    async def credit(self, health: FeedHealth = LIVE) -> int:
        """Wait for credit, answer it, and return the units."""
        request = await self.connection.next_request()
        message = decode(request.body, FeedOpen | FeedCredit, max_bytes=64)
        assert isinstance(message, FeedCredit)
        await self.answer(request.id, health)
        return message.units

    async def answer(self, number: int, health: FeedHealth) -> None:
        await self.connection.answer(number, encode(Response(number, encode(health))))

    async def send(self, *messages: Message, channel: Channel = Channel.BULK) -> None:
        for message in messages:
            await self.connection.send(channel, encode(message))

    async def until_closed(self) -> str:
        """Wait for the node to leave; the code it gave."""
        return (await self.connection.wait_closed()).code

    def made(
        self, how_many: int = 1, *, first: int | None = None, node: bytes | None = None, signer: SigningKey | None = None, **changes: Any
    ) -> tuple[FeedBatch, list[FeedUnit]]:
        """`how_many` attested units for the world's node (or `node`), numbered on from the last (or from `first`); `changes` are of the
        attestation, before `signer` (the world's QRNG server) signs it."""
        numbers = [next(self._numbers) for _ in range(how_many)] if first is None else list(range(first, first + how_many))
        units = [os.urandom(UNIT_BYTES) for _ in range(how_many)]
        leaves: Sequence[tuple[bytes, int, bytes]] = [
            (node or self.world.node.id, number, hashlib.sha256(unit[:MATERIAL_BYTES]).digest())
            for number, unit in zip(numbers, units, strict=True)
        ]
        root, proofs = build_batch(leaves)
        attestation = replace(self.world.attestation(root, how_many), **changes)
        signed = (signer or self.world.qrng).sign_noun("attestation", attestation)
        return FeedBatch(signed), [FeedUnit(root, proof, unit) for proof, unit in zip(proofs, units, strict=True)]


Script = Callable[[FeedSession], Awaitable[None]]


async def honest(session: FeedSession) -> None:
    """Give what is asked for."""
    await session.open()
    while True:
        batch, units = session.made(await session.credit())
        await session.send(batch, *units)


@asynccontextmanager
async def fed(world: World, *scripts: Script, key: SigningKey | None = None, listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Play the server (with the world's QRNG key, or `key`); yields its address. The first connection gets the first script and so on;
    the last script serves all further ones."""
    left, numbers = list(scripts), count(1)

    async def handler(connection: Connection) -> None:
        script = left.pop(0) if len(left) > 1 else left[0]
        await script(FeedSession(world, connection, numbers))

    async with trio.open_nursery() as nursery:
        hello = LocalHello(CHAIN, (Role.QRNG_SERVER,))
        bound = await nursery.start(partial(serve, listen, key=key or world.qrng, hello=hello, handler=handler))
        yield bound[0]
        nursery.cancel_scope.cancel()
