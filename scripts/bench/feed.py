"""Bench `feed`: units from a QRNG server to a node, against the same bytes through a bare stream between two processes.

Our side is the feed itself, in a server process of its own: giving units to nodes, the tree, the signatures, credit, the transport; and
in this process the node's end: the connection, decoding, the check of canonical form. The units lie ready in slots, hashed, as a device's
process leaves them (what that costs is bench `qrng_pipeline`); what a node checks beyond that is shown in the rows "checked".

The other side computes nothing else. "bare PQ-TLS": the same TLS over the same socket, 256 KiB a write, no frames, no messages. "bare Unix
stream": the same, no TLS. Both send out of as much memory as a feed has under way, and the Unix stream is received into as much, for a
single buffer would stay in the processor's cache as no unit does. What trio does with one such buffer is reported beside it.

    scripts/bench/feed.py [--quick]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle
from pathlib import Path

import trio
from report import MIN_ROUNDS, Row, compare, emit

from qnode.service.feed import check_leaves
from qrngd.cutter import Cutter, Source
from qrngd.feed.batch import Statement
from qrngd.feed.credit import IN_FLIGHT_UNITS, SHARE_MAX_UNITS
from qrngd.feed.service import FeedService
from qrngd.pipeline import Measurement, Pipeline
from qrngd.slots import SlotMemory
from qrngd.stock import ReadyUnit, Span, Stock
from qustream.aio.connection import Connection, connect, connect_unix
from qustream.aio.listener import serve, serve_unix
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.entropy import MATERIAL_BYTES, UNIT_BYTES, Attestation, DeviceDescriptor
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import COALESCE_BYTES, READ_BYTES
from qustream.transport.tls import TlsLayer
from qustream.wire.codec import encode
from qustream.wire.feed import FeedBatch, FeedCredit, FeedHealth, FeedOpen, ReceivedUnit, decode_feed
from qustream.wire.hello import Role

CHAIN = "bench"
SERVER, NODE = SigningKey(b"s" * 32), SigningKey(b"n" * 32)
ROUNDS = 7
UNITS = 1024  # a round: 269 MB, a tenth of a second for the quicker side
CREDIT = 256
STEP = 64  # credit is granted in steps of so many units
STOCK_UNITS = 64
DEVICE = DeviceDescriptor("emulator", "bench", "", 8, 7000, 0, False, True, "")
# As in the service units: 256 KiB buffers are reused instead of mapped anew each time.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- the server process: the feed


class EndlessSupply:
    """A device's stock whose worker takes no time. Slots are wiped when they come back, so their digest is that of zeros."""

    def __init__(self) -> None:
        memory = SlotMemory.create(STOCK_UNITS + 1 + IN_FLIGHT_UNITS)
        for slot in range(memory.count):
            memory.wipe(slot)  # its pages are there from now on
        self._stock = Stock(memory, STOCK_UNITS)
        self._digest = hashlib.sha256(bytes(MATERIAL_BYTES)).digest()
        self._measured = Measurement()

    @property
    def units(self) -> int:
        if slots := self._stock.due():
            before, at_ms = self._measured, now_ms()
            self._measured = Measurement(samples=before.samples + 1, windows=before.windows + 1)
            span = Span(DEVICE, before, self._measured, at_ms, at_ms)
            for slot in slots:
                self._stock.put(slot, self._digest, span)
        return self._stock.units

    def take(self) -> ReadyUnit:
        return self._stock.take()


async def serve_feed(listen: str) -> None:
    pipeline = Pipeline(DEVICE, draw=os.urandom, reseed=lambda _: None)
    feed = FeedService(may_have=lambda node: node == NODE.id, health=FeedHealth("live", "", ""), clock_ms=now_ms)
    statement = Statement(CHAIN, SERVER.id, pipeline.conditioning_report(), 3_600_000, pipeline.health_report)
    cutter = Cutter(
        sources=[Source("bench", EndlessSupply(), statement)],
        feed=feed,
        sign=partial(SERVER.sign_noun, "attestation"),
        publish=lambda _attestation, _leaves: None,
        first_number=0,
    )
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


# --- the server process: the other sides


def memory_under_way(step: int) -> list[memoryview]:
    """As much memory as a feed to one node has under way, in pieces of `step` bytes."""
    size = SHARE_MAX_UNITS * UNIT_BYTES // step * step
    whole = memoryview(bytearray(os.urandom(size)))
    return [whole[start : start + step] for start in range(0, size, step)]


Sender = Callable[[int], Awaitable[None]]  # sends so many bytes


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
        self._buffer = memoryview(bytearray(READ_BYTES))
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
        granted, taken = min(count, CREDIT), 0
        async with trio.open_nursery() as nursery:  # answers may stand behind units, so units are read while a grant waits
            nursery.start_soon(self._grant, granted)
            while taken < count:
                taken += await self._units()
                if taken >= granted - CREDIT + STEP and granted < count:
                    more = min(STEP, count - granted)
                    granted += more
                    nursery.start_soon(self._grant, more)

    async def _grant(self, units: int) -> None:
        await self._connection.call(encode(FeedCredit(units)), deadline_ms=10_000)

    async def _units(self) -> int:
        """Take what has come; returns how many units that were."""
        count, unchecked = 0, list[tuple[Attestation, ReceivedUnit]]()
        for _, body in await self._connection.receive_many():
            message = decode_feed(body)
            if isinstance(message, ReceivedUnit):
                count += 1
                if self.checked:
                    unchecked.append((self._batches[message.root], message))
            elif isinstance(message, FeedBatch) and self.checked:
                attestation = open_signed(message.attestation, Attestation, SERVER.public, "attestation")
                self._batches = {attestation.root: attestation, **dict(list(self._batches.items())[:8])}
        if unchecked:
            _, trouble = await trio.to_thread.run_sync(check_leaves, NODE.id, unchecked)
            if trouble is not None:
                raise trouble
        return count


async def feed_end(stack: AsyncExitStack, address: str, *, checked: bool) -> FeedEnd:
    hello = LocalHello(CHAIN, (Role.NODE,))
    if address.startswith("unix:"):
        connection = await connect_unix(address.removeprefix("unix:"), hello=hello)
    else:
        connection = await connect(address, key=NODE, hello=hello, expect=SERVER.id)
    end = FeedEnd(await stack.enter_async_context(connection), checked=checked)
    await end.open()
    return end


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
            left -= len(await stream.receive_some(min(left, READ_BYTES)))

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


async def measure(kinds: tuple[str, ...], listen: Callable[[str], str], *, rounds: int, units: int) -> dict[str, list[float]]:
    """MB/s of every round: of the feed, `plain` and `checked`, and of each of `kinds`."""
    servers = {kind: start(kind, listen(kind)) for kind in ("feed", *kinds)}
    try:
        async with AsyncExitStack() as stack:
            end = await feed_end(stack, servers["feed"][1], checked=False)
            bare = {kind: await bare_end(stack, kind, servers[kind][1]) for kind in kinds}
            sides = ["plain", *kinds, "checked"]
            rates: dict[str, list[float]] = {side: [] for side in sides}
            for take in (end.take, *bare.values()):
                await take(units)
            for number in range(rounds):
                for side in sides if number % 2 else reversed(sides):
                    end.checked = side == "checked"
                    rates[side].append(await rate(bare.get(side, end.take), units))
    finally:
        for process, _ in servers.values():
            process.kill()
            process.wait()
    return rates


def rows_of(name: str, rates: dict[str, list[float]], kind: str, against: str, at_least: float) -> list[Row]:
    hot = "trio's send_all of one buffer and receive_some, no protection"
    return [
        compare(name, rates["plain"], rates[kind], unit="MB/s", against=against, at_least=at_least),
        compare(f"{name}, checked", rates["checked"], rates[kind], unit="MB/s", against=against),
        compare(f"{name}, beside a hot buffer", rates["plain"], rates["hot"], unit="MB/s", against=hot),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "ADDRESS"), help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.serve:
        kind, listen = arguments.serve
        trio.run(serve_feed if kind == "feed" else partial(serve_bare, kind), listen)
        return
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)  # they are read when a process begins
    rounds, units = (MIN_ROUNDS, UNITS // 4) if arguments.quick else (ROUNDS, UNITS)
    over = partial(measure, rounds=rounds, units=units)
    with tempfile.TemporaryDirectory() as folder:
        tls = trio.run(over, ("tls", "hot"), lambda _kind: "127.9.0.1:0")
        unix = trio.run(over, ("bare", "hot"), lambda kind: f"unix:{Path(folder) / kind}")
    rows = rows_of("PQ-TLS", tls, "tls", "a bare PQ-TLS stream: the same TLS, 256 KiB a write", 0.5)
    rows += rows_of("Unix socket", unix, "bare", "a bare Unix stream out of and into as much memory as a feed has under way", 0.7)
    emit("feed", rows, rounds)


if __name__ == "__main__":
    main()
