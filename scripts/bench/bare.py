"""The other sides of bench `feed`: streams that carry the same bytes and compute nothing else. Not a bench by itself.

Eight bytes ask for so many units. Kinds: "tls" (as the profile has it, 256 KiB a write), "bare" (no TLS), "hot" (no TLS, one buffer).
The first two send out of as much memory as a feed has under way, and "bare" is received into as much.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle

import trio

from qrngd.feed.credit import SHARE_MAX_UNITS
from qustream.identity.signing import SigningKey
from qustream.model.entropy import UNIT_BYTES
from qustream.transport.limits import COALESCE_BYTES, SHARED_READ_BYTES
from qustream.transport.tls import TlsLayer

__all__ = ["NODE", "SERVER", "Taker", "bare_end", "serve_bare"]

SERVER, NODE = SigningKey(b"s" * 32), SigningKey(b"n" * 32)
Sender = Callable[[int], Awaitable[None]]  # sends so many bytes
Taker = Callable[[int], Awaitable[None]]  # asks for so many units and takes them


def memory_under_way(step: int) -> list[memoryview]:
    """As much memory as a feed to one node has under way, in pieces of `step` bytes."""
    size = SHARE_MAX_UNITS * UNIT_BYTES // step * step
    whole = memoryview(bytearray(os.urandom(size)))
    return [whole[start : start + step] for start in range(0, size, step)]


async def bare_sender(kind: str, stream: trio.SocketStream) -> tuple[Sender, Callable[[], Awaitable[bytes]]]:
    """How `kind` sends, and how it hears what it is asked for."""
    if kind == "hot":
        unit = os.urandom(UNIT_BYTES)

        async def send(size: int) -> None:
            for _ in range(size // UNIT_BYTES):
                await stream.send_all(unit)

        return send, partial(stream.receive_some, 8)
    pieces = cycle(memory_under_way(COALESCE_BYTES))
    if kind == "bare":
        return partial(send_pieces, pieces, stream.send_all), partial(stream.receive_some, 8)
    tls = await BareTls.opened("server", SERVER, stream)
    return partial(send_pieces, pieces, tls.send), tls.receive


async def send_pieces(pieces: Iterator[memoryview], send: Callable[[memoryview], Awaitable[None]], size: int) -> None:
    while size:
        piece = next(pieces)[:size]
        await send(piece)
        size -= len(piece)


async def serve_bare(kind: str, listen: str) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        send, hear = await bare_sender(kind, stream)
        while asked := await hear():
            await send(int.from_bytes(asked, "big") * UNIT_BYTES)

    if listen.startswith("unix:"):
        sock = trio.socket.socket(socket.AF_UNIX)
        await sock.bind(listen.removeprefix("unix:"))
        sock.listen()
        listeners, bound = [trio.SocketListener(sock)], listen
    else:
        listeners = await trio.open_tcp_listeners(0, host=listen.partition(":")[0])
        bound = ":".join(map(str, listeners[0].socket.getsockname()))
    print(bound, flush=True)
    await trio.serve_listeners(talk, listeners)


class BareTls:
    """The profile's TLS over a trio socket, and nothing else."""

    def __init__(self, layer: TlsLayer, stream: trio.SocketStream) -> None:
        self._layer, self._stream = layer, stream
        self._buffer = memoryview(bytearray(SHARED_READ_BYTES))
        self._early: list[bytes] = []

    @classmethod
    async def opened(cls, role: str, key: SigningKey, stream: trio.SocketStream) -> BareTls:
        tls = cls(TlsLayer("server" if role == "server" else "client", key), stream)
        if role == "client":
            tls._layer.start()
        while not tls._layer.ready:
            await tls._flush()
            tls._early += await tls._read()
        await tls._flush()
        return tls

    async def _flush(self) -> None:
        for part in self._layer.pull():
            await self._stream.send_all(part)

    async def _read(self) -> list[bytes]:
        count = await self._stream.socket.recv_into(self._buffer)
        return self._layer.receive(self._buffer[:count]) if count else [b""]

    async def send(self, data: bytes | memoryview) -> None:
        self._layer.write(data)
        await self._flush()

    async def receive(self) -> bytes:
        return b"".join(await self.receive_chunks())

    async def receive_chunks(self) -> list[bytes]:
        while not self._early:
            self._early += await self._read()
        chunks, self._early = self._early, []
        return chunks


async def bare_end(stack: AsyncExitStack, kind: str, address: str) -> Taker:
    if address.startswith("unix:"):
        stream = await trio.open_unix_socket(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
    await stack.enter_async_context(stream)
    if kind == "tls":
        return await tls_taker(stream)
    if kind == "bare":
        return fresh_taker(stream)

    async def take(count: int) -> None:
        await stream.send_all(count.to_bytes(8, "big"))
        left = count * UNIT_BYTES
        while left:
            left -= len(await stream.receive_some(min(left, SHARED_READ_BYTES)))

    return take


async def tls_taker(stream: trio.SocketStream) -> Taker:
    tls = await BareTls.opened("client", NODE, stream)

    async def take(count: int) -> None:
        await tls.send(count.to_bytes(8, "big"))
        left = count * UNIT_BYTES
        while left:
            left -= sum(map(len, await tls.receive_chunks()))

    return take


def fresh_taker(stream: trio.SocketStream) -> Taker:
    places = cycle(memory_under_way(UNIT_BYTES))

    async def take(count: int) -> None:
        await stream.send_all(count.to_bytes(8, "big"))
        for _ in range(count):
            place = next(places)
            while place:
                place = place[await stream.socket.recv_into(place) :]

    return take
