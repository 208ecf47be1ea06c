#!/usr/bin/env python3
"""Bulk transfer between nodes: an object of 64 MiB fetched over loopback, pieces checked and on the disk, against the same bytes through a
bare stream of the profile's TLS; and how long gossip waits beside it.

    scripts/bench/bulk.py [--rounds 7]

The holder is a process of its own, as another node is. Gossip: the holder answers each message of 512 bytes with one; the time there and
back, alone and while an object is being fetched from the same peer on the same connection.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import trio
from bare import BareTls
from report import MIN_ROUNDS, Row, compare, emit, plain

from qnode.core.bulk_serve import BulkTurns
from qnode.net.answers import Desk
from qnode.net.bulk import BULK_TAGS, Bulk
from qnode.net.session import NODE_CHANNELS, Session
from qnode.store.pieces import FileObject, PieceStore
from qustream.aio.connection import Connection, connect
from qustream.aio.listener import serve
from qustream.errors import fault
from qustream.identity.signing import SigningKey
from qustream.transport.greeting import LocalHello, Peer
from qustream.transport.limits import COALESCE_BYTES
from qustream.wire.codec import encode
from qustream.wire.gossip import GossipMessage, GossipPush, Topic
from qustream.wire.hello import Role

HOLDER, FETCHER = SigningKey(b"h" * 32), SigningKey(b"f" * 32)
HELLO = LocalHello("bench", (Role.NODE,))
OBJECT_BYTES = 64 << 20
MIB = 1 << 20
ECHOES = 200  # a round
GOSSIP_BYTES = 512
PAUSE_S = 0.002  # between two messages of gossip, as a busy network has them
ROUNDS = 7
# As in the service units: buffers are reused instead of mapped anew each time.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}


async def nothing_else(_peer: Peer, _body: bytes, _deadline_ms: int) -> bytes:
    raise fault("E-REQUEST-INVALID")


class End:
    """One node's bulk and its session. `heard`: gossip that comes; `came`: set when something comes in bulk."""

    def __init__(self, heard: Callable[[Session, GossipMessage], None]) -> None:
        self._heard = heard
        self.came = trio.Event()
        self.bulk = Bulk(charge=lambda *_: None, stands=lambda _: True, clock_ms=lambda: int(trio.current_time() * 1000))
        self._desk = Desk(nothing_else)
        self._desk.route(BULK_TAGS, self.bulk.answer)

    def session(self, connection: Connection, *, ours: bool) -> Session:
        session = Session(1, connection, ours=ours)
        session.begin(lambda _peer, messages: [self._heard(session, message) for message in messages] and None)
        return session

    async def run(self, session: Session) -> None:
        await session.run(self._desk.answer, self._take)

    async def _take(self, session: Session, bodies: Sequence[bytes | bytearray]) -> None:
        await self.bulk.take(session, bodies)
        if bodies:
            self.came.set()


# --- the holder, a process


async def hold(path: Path, data: bytes) -> None:
    end = End(lambda session, message: session.say(encode(message)) and None)
    end.bulk.turns = Unbounded()
    end.bulk.offer(FileObject.open(path))

    async def talk(connection: Connection) -> None:
        await end.run(end.session(connection, ours=False))

    async with trio.open_nursery() as nursery:
        run = partial(serve, "127.0.0.1:0", key=HOLDER, hello=HELLO, handler=talk, permit=lambda _: NODE_CHANNELS)
        [address] = await nursery.start(run)
        [bare] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(address, "{}:{}".format(*bare.socket.getsockname()), flush=True)
        await trio.serve_listeners(partial(send_bare, data), [bare])


class Unbounded(BulkTurns):
    """A bench fetches more in an hour than a peer may."""

    def manifest(self, *_: object, **__: object) -> int:
        return 0

    def begin(self, *_: object, **__: object) -> int:
        return 0

    def end(self, *_: object, **__: object) -> None:
        return


async def send_bare(data: bytes, stream: trio.SocketStream) -> None:
    """The whole object for every byte that asks for it."""
    tls = await BareTls.opened("server", HOLDER, stream)
    view = memoryview(data)
    while await tls.receive():
        for start in range(0, len(data), COALESCE_BYTES):
            await tls.send(view[start : start + COALESCE_BYTES])


# --- this process


class Fetcher:
    def __init__(self, folder: Path, name: bytes) -> None:
        self._store = PieceStore(folder, room_bytes=2 * OBJECT_BYTES)
        self._name, self._echo = name, trio.Event()
        self.end = End(lambda *_: self._echo.set())
        self.session: Session
        self.bare: BareTls

    async def fetch(self) -> float:
        """Seconds."""
        started = time.perf_counter()
        await self.end.bulk.fetch(self._name, self._store, [self.session])
        took = time.perf_counter() - started
        self._store.drop(self._name)
        return took

    async def fetch_bare(self) -> float:
        started = time.perf_counter()
        await self.bare.send(b"x")
        left = OBJECT_BYTES
        while left:
            left -= sum(map(len, await self.bare.receive_chunks()))
        return time.perf_counter() - started

    async def echoes(self, count: int = ECHOES) -> list[float]:
        """Milliseconds of gossip there and back."""
        times = []
        for _ in range(count):
            self._echo = trio.Event()
            started = time.perf_counter()
            self.session.say(encode(GossipPush(Topic.TRANSACTION, os.urandom(GOSSIP_BYTES))))
            await self._echo.wait()
            times.append(1000 * (time.perf_counter() - started))
            await trio.sleep(PAUSE_S)
        return times

    async def echoes_beside(self) -> list[float]:
        """The same while objects are fetched."""

        async def fetch_on() -> None:
            while True:
                await self.fetch()

        self.end.came = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch_on)
            await self.end.came.wait()
            times = await self.echoes()
            nursery.cancel_scope.cancel()
        self._store.drop(self._name)
        return times


@asynccontextmanager
async def connected(fetcher: Fetcher, address: str, bare: str) -> AsyncIterator[None]:
    host, _, port = bare.rpartition(":")
    async with AsyncExitStack() as stack:
        stream = await stack.enter_async_context(await trio.open_tcp_stream(host, int(port)))
        fetcher.bare = await BareTls.opened("client", FETCHER, stream)
        connection = await connect(address, key=FETCHER, hello=HELLO, expect=HOLDER.id, permit=lambda _: NODE_CHANNELS)
        await stack.enter_async_context(connection)
        fetcher.session = fetcher.end.session(connection, ours=True)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(fetcher.end.run, fetcher.session)
        yield
        nursery.cancel_scope.cancel()


async def rows(folder: Path, name: bytes, address: str, bare: str, rounds: int) -> list[Row]:
    fetcher = Fetcher(folder, name)
    figures: dict[str, list[float]] = {key: [] for key in ("fetch", "bare", "alone", "beside", "alone99", "beside99")}
    async with connected(fetcher, address, bare):
        for number in range(-1, rounds):
            fetch, bare_s = await fetcher.fetch(), await fetcher.fetch_bare()
            alone, beside = sorted(await fetcher.echoes()), sorted(await fetcher.echoes_beside())
            if number < 0:
                continue  # the first round warms up
            figures["fetch"].append(OBJECT_BYTES / MIB / fetch)
            figures["bare"].append(OBJECT_BYTES / MIB / bare_s)
            for key, times in (("alone", alone), ("beside", beside)):
                figures[key].append(statistics.median(times))
                figures[f"{key}99"].append(times[len(times) * 99 // 100])
    against = "the same bytes through a bare stream of the profile's TLS, not checked, not kept"
    return [
        compare("fetch of 64 MiB", figures["fetch"], figures["bare"], unit="MiB/s", against=against),
        compare("gossip beside a fetch, p50", figures["beside"], figures["alone"], unit="ms", against="gossip alone, p50"),
        compare("gossip beside a fetch, p99", figures["beside99"], figures["alone99"], unit="ms", against="gossip alone, p99"),
        plain("gossip alone, p50", figures["alone"], unit="ms"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--hold", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hold:
        trio.run(hold, Path(arguments.hold), Path(arguments.hold).read_bytes())
        return
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)  # they are read when a process begins
    rounds = MIN_ROUNDS if arguments.quick else max(MIN_ROUNDS, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        path.write_bytes(os.urandom(OBJECT_BYTES))
        name = FileObject.open(path).id
        holder = subprocess.Popen([sys.executable, __file__, "--hold", path], stdout=subprocess.PIPE, text=True)
        try:
            assert holder.stdout is not None
            address, bare = holder.stdout.readline().split()
            emit("bulk", trio.run(rows, Path(folder) / "pieces", name, address, bare, rounds), rounds)
        finally:
            holder.kill()
            holder.wait()


if __name__ == "__main__":
    main()
