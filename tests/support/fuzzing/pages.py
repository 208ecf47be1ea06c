"""The pages over HTTP: whatever a client sends, it gets whole answers or none, and no more of them than it asked for.

input: how long the pieces are (1 byte) ‖ what the client sends
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import trio
import trio.testing
from support.fuzzing.choices import Choices

from qustream.aio.http import Answer, Asked, Folder, Limits, Stream, _Places, _serve_client, _Site

__all__ = ["run", "seeds"]

LIMITS = Limits(requests_per_connection=20)
ROUTES = {"/livez": lambda: Answer(200, b'{"alive":true}', "application/json")}
CONTINUE = 100
STATUSES = {200, 400, 404, 405, 413, 415, 431, 501}
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


async def _file(name: str) -> Answer | None:
    return Answer(200, name.encode()) if name == "a" else None


async def _beat(send: Callable[[bytes], Awaitable[None]]) -> None:
    await send(b": beat\n\n")


async def _below(asked: Asked) -> Answer | Stream | None:
    if asked.path == "stream":
        return Stream(_beat)
    return Answer(200, b"%d" % len(asked.body)) if asked.path == "put" else None


SITE = _Site(ROUTES, {"/files/": _file}, {"/below/": Folder(_below, {"put": 5000})})
MOST_BYTES = 100_000  # the server cuts a client off long before


async def _talk(stream: bytes, piece: int) -> bytes:
    client, server = trio.testing.memory_stream_pair()
    heard = bytearray()

    async def speak() -> None:
        try:
            for at in range(0, len(stream), piece):
                await client.send_all(stream[at : at + piece])
            await client.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the server had enough

    async def listen() -> None:
        try:
            while part := await client.receive_some(1 << 16):
                heard.extend(part)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        nursery.start_soon(listen)
        await _serve_client(SITE, LIMITS, _Places(LIMITS), server)  # type: ignore[arg-type]
    return bytes(heard)


def run(data: bytes) -> None:
    choices = Choices(data)
    piece, stream = 1 + choices.number(1), choices.rest()[:MOST_BYTES]
    # Time does not pass while anybody has something to do: the timeouts are met at once.
    heard = trio.run(_talk, stream, piece, clock=trio.testing.MockClock(autojump_threshold=0))
    statuses = [status for number in _STATUS.findall(heard) if (status := int(number)) != CONTINUE]
    assert not heard or heard.startswith(b"HTTP/1.1 ")
    assert set(statuses) <= STATUSES, statuses
    # An answer for each request that has ended, and one for what is none.
    assert len(statuses) <= min(LIMITS.requests_per_connection, stream.count(b"\n\n") + stream.count(b"\n\r\n") + 1)
    assert len(heard) <= 1000 * len(statuses)


def seeds() -> list[bytes]:
    get = b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n"
    post = b"POST /livez HTTP/1.1\r\nHost: node\r\nContent-Length: 5\r\n\r\n12345"
    chunked = b"POST / HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"
    close = b"HEAD /files/a?b HTTP/1.0\r\nConnection: close\r\n\r\n"
    upgrade = b"GET /files/../a HTTP/1.1\r\nHost: node\r\nUpgrade: h2c\r\nConnection: upgrade\r\nExpect: 100-continue\r\n\r\n"
    large = b"GET / HTTP/1.1\r\nHost: node\r\nX: " + b"x" * 9000 + b"\r\n\r\n"
    tunnel = b"CONNECT node:1 HTTP/1.1\r\nHost: node\r\n\r\n"
    put = b"POST /below/put HTTP/1.1\r\nHost: node\r\nContent-Type: application/octet-stream\r\nContent-Length: 5\r\n\r\n12345"
    waiting = put.replace(b"\r\nContent-Type", b"\r\nExpect: 100-continue\r\nContent-Type")
    streams = (
        put + put,
        waiting,
        put.replace(b"octet", b"other"),
        put.replace(b": 5\r", b": 6000\r") + bytes(6000),
        get.replace(b"livez", b"below/stream") + get,
        get,
        post,
        chunked,
        close,
        upgrade,
        large,
        tunnel,
        get * 25,
        get + post + get + chunked,
        post.replace(b"5\r", b"5000\r") + bytes(5000),
    )
    return [bytes([piece]) + stream for stream in streams for piece in (255, 6)]
