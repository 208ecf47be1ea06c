"""Bench `feed`: units from a QRNG server to a node, against the same bytes through a bare trio stream between two processes.

Our side is the feed itself, in a server process of its own: cutting, hashing, the tree, the signatures, credit, the transport; and in
this process the node's end: the connection, decoding, the check of canonical form. Conditioned bytes come from memory (what device
and pipeline cost is bench `qrng_pipeline`); what a node checks beyond that is shown in the rows "checked". The other side is `send_all` and
`receive_some` of trio, TCP or Unix, no protection, nothing computed.

    scripts/bench/feed.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import trio
from report import MIN_ROUNDS, Row, compare, emit

from qrngd.cutter import Cutter
from qrngd.feed.batch import Statement
from qrngd.feed.service import FeedService
from qrngd.pipeline import Conditioned, Measurement, Pipeline
from qrngd.stock import Span, Stock
from qustream.aio.connection import Connection, connect, connect_unix
from qustream.aio.listener import serve, serve_unix
from qustream.entropy import check_leaf
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.entropy import MATERIAL_BYTES, UNIT_BYTES, Attestation, DeviceDescriptor
from qustream.transport.greeting import LocalHello
from qustream.wire.codec import decode, encode
from qustream.wire.feed import FEED_MAX_BYTES, FeedBatch, FeedCredit, FeedHealth, FeedMessage, FeedOpen, FeedUnit
from qustream.wire.hello import Role

CHAIN = "bench"
SERVER, NODE = SigningKey(b"s" * 32), SigningKey(b"n" * 32)
ROUNDS = 7
UNITS = 512  # a round: 134 MB, a tenth of a second for the quicker side
CREDIT = 256
STEP = 64  # credit is granted in steps of so many units
CHUNK_BYTES = 1 << 20  # as a pipeline delivers
STOCK_UNITS = 64
DEVICE = DeviceDescriptor("emulator", "bench", "", 8, 7000, 0, False, True, "")
# As in the service units: 256 KiB buffers are reused instead of mapped anew each time.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- the server process


class EndlessStock(Stock):
    """Refilled whenever somebody looks, always with the same memory: what it holds makes no difference to the speed."""

    def __init__(self) -> None:
        super().__init__(2 * STOCK_UNITS * UNIT_BYTES)
        self._chunk = memoryview(bytearray(CHUNK_BYTES))
        self._measured = Measurement()

    @property
    def units(self) -> int:
        while self.size_bytes < STOCK_UNITS * UNIT_BYTES:
            before, after = self._measured, Measurement(samples=self._measured.samples + 1, windows=self._measured.windows + 1)
            self._measured = after
            self.put(Conditioned(self._chunk, 0, 0, after), Span(DEVICE, before, after, now_ms(), now_ms()))
        return super().units


async def serve_feed(listen: str) -> None:
    pipeline = Pipeline(DEVICE, draw=os.urandom, reseed=lambda _: None)
    feed = FeedService(may_have=lambda node: node == NODE.id, health=FeedHealth("live", "", ""), clock_ms=now_ms)
    statement = Statement(CHAIN, SERVER.id, pipeline.conditioning_report(), 3_600_000, pipeline.health_report)
    sign = partial(SERVER.sign_noun, "attestation")
    cutter = Cutter(stock=EndlessStock(), feed=feed, statement=statement, sign=sign, first_number=0, clock_ms=now_ms)
    hello = LocalHello(CHAIN, (Role.QRNG_SERVER,))

    async def talk(connection: Connection) -> None:
        peer = connection.peer.id
        await feed.serve(connection, peer=peer or None, transport="tls" if peer else "unix")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cutter.run)
        if listen.startswith("unix:"):
            bound = await nursery.start(partial(serve_unix, hello=hello), listen.removeprefix("unix:"), talk)
        else:
            bound = await nursery.start(partial(serve, key=SERVER, hello=hello, handler=talk), listen)
        print(bound[0], flush=True)


async def serve_bare(listen: str) -> None:
    unit = os.urandom(UNIT_BYTES)

    async def talk(stream: trio.SocketStream) -> None:
        while count := await stream.receive_some(8):
            for _ in range(int.from_bytes(count, "big")):
                await stream.send_all(unit)

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


# --- this process


Taker = Callable[[int], Awaitable[None]]


class FeedEnd:
    """The node's end. `checked`: with the attestation's signature and every unit's leaf, as a node does before it counts a unit."""

    def __init__(self, connection: Connection, *, checked: bool) -> None:
        self.checked = checked
        self._connection = connection
        self._batches: dict[bytes, Attestation] = {}

    async def open(self) -> None:
        await self._connection.call(encode(FeedOpen(NODE.id, 0)), deadline_ms=10_000)

    async def take(self, count: int) -> None:
        granted = min(count, CREDIT)
        async with trio.open_nursery() as nursery:  # answers may stand behind units, so units are read while a grant waits
            nursery.start_soon(self._grant, granted)
            for number in range(1, count + 1):
                await self._unit()
                if number % STEP == 0 and granted < count:
                    more = min(STEP, count - granted)
                    granted += more
                    nursery.start_soon(self._grant, more)

    async def _grant(self, units: int) -> None:
        await self._connection.call(encode(FeedCredit(units)), deadline_ms=10_000)

    async def _unit(self) -> None:
        while True:
            _, body = await self._connection.receive()
            message = decode(body, FeedMessage, max_bytes=FEED_MAX_BYTES)
            if isinstance(message, FeedUnit):
                if self.checked:
                    material = message.unit[:MATERIAL_BYTES]
                    await trio.to_thread.run_sync(check_leaf, self._batches[message.root], NODE.id, material, message.proof)
                return
            if isinstance(message, FeedBatch) and self.checked:
                attestation = open_signed(message.attestation, Attestation, SERVER.public, "attestation")
                self._batches = {attestation.root: attestation, **dict(list(self._batches.items())[:8])}


async def feed_end(stack: AsyncExitStack, address: str, *, checked: bool) -> FeedEnd:
    hello = LocalHello(CHAIN, (Role.NODE,))
    if address.startswith("unix:"):
        connection = await connect_unix(address.removeprefix("unix:"), hello=hello)
    else:
        connection = await connect(address, key=NODE, hello=hello, expect=SERVER.id)
    end = FeedEnd(await stack.enter_async_context(connection), checked=checked)
    await end.open()
    return end


async def bare_end(stack: AsyncExitStack, address: str) -> Taker:
    if address.startswith("unix:"):
        stream = await trio.open_unix_socket(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
    await stack.enter_async_context(stream)

    async def take(count: int) -> None:
        await stream.send_all(count.to_bytes(8, "big"))
        left = count * UNIT_BYTES
        while left:
            left -= len(await stream.receive_some(min(left, 256 * 1024)))

    return take


async def rate(take: Taker, units: int) -> float:
    """MB/s of one round."""
    started = time.perf_counter()
    await take(units)
    return units * UNIT_BYTES / (time.perf_counter() - started) / 1e6


def start(kind: str, listen: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", kind, listen], stdout=subprocess.PIPE, text=True, env=os.environ | MALLOC
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


async def compare_ends(name: str, listen: tuple[str, str], *, at_least: float, rounds: int, units: int) -> list[Row]:
    servers = [start("feed", listen[0]), start("bare", listen[1])]
    try:
        async with AsyncExitStack() as stack:
            end = await feed_end(stack, servers[0][1], checked=False)
            bare = await bare_end(stack, servers[1][1])
            rates: dict[str, list[float]] = {"plain": [], "checked": [], "bare": []}
            await end.take(units)
            await bare(units)
            for number in range(rounds):
                sides = ["plain", "bare", "checked"]
                for side in sides if number % 2 else reversed(sides):
                    end.checked = side == "checked"
                    rates[side].append(await rate(bare if side == "bare" else end.take, units))
    finally:
        for process, _ in servers:
            process.kill()
            process.wait()
    against = "send_all and receive_some of the same bytes"
    return [
        compare(name, rates["plain"], rates["bare"], unit="MB/s", against=against, at_least=at_least),
        compare(f"{name}, checked", rates["checked"], rates["bare"], unit="MB/s", against=against),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "ADDRESS"), help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.serve:
        kind, listen = arguments.serve
        trio.run(serve_feed if kind == "feed" else serve_bare, listen)
        return
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)  # they are read when a process begins
    rounds, units = (MIN_ROUNDS, UNITS // 4) if arguments.quick else (ROUNDS, UNITS)
    with tempfile.TemporaryDirectory() as folder:
        unix = (f"unix:{Path(folder) / 'feed'}", f"unix:{Path(folder) / 'bare'}")
        rows = trio.run(partial(compare_ends, "PQ-TLS", ("127.9.0.1:0", "127.9.0.1:0"), at_least=0.5, rounds=rounds, units=units))
        rows += trio.run(partial(compare_ends, "Unix socket", unix, at_least=0.7, rounds=rounds, units=units))
    emit("feed", rows, rounds)


if __name__ == "__main__":
    main()
