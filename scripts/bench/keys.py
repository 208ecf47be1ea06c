"""Bench `keys`: key requests served by one node over PQ-TLS, against the bounds nothing that does this work can pass.

The node is a process of its own, as in life: listener, PQ-TLS, every check, block, receipt, seal, spent index and answer on disk (slot
file and LMDB, both synced) before the answer leaves; what it holds lives five seconds, so the sweep's erasures are part of the load.
The clients are in this process, several requests in flight. Requests are signed before the clock starts: that work is a device's.
Units come from a pool that gives 64 attested units over and over; making them is the feed's work.

The other side, the slower of two measured in the same round: (a) the same number of bytes there and back over the same connections,
answered with a constant; (b) one ML-DSA-65 signature and one fsync of it, one after the other, which is what a receipt that is on disk
costs at least when nothing is shared. `KEYS_ROUNDS`, `KEYS_IN_FLIGHT` change the measure.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import trio
from report import compare, emit, plain

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.keys_world import CHAIN, GrantKit, Shelf, World  # noqa: E402

from qnode.service.keys import KeyService  # noqa: E402
from qnode.service.pool import PooledUnit  # noqa: E402
from qnode.store import Store  # noqa: E402
from qustream.aio.connection import Connection, connect  # noqa: E402
from qustream.aio.listener import serve  # noqa: E402
from qustream.aio.rpc import serve_requests  # noqa: E402
from qustream.transport.greeting import LocalHello  # noqa: E402
from qustream.wire.hello import Role  # noqa: E402

ROUNDS = int(os.environ.get("KEYS_ROUNDS", "5"))
IN_FLIGHT = int(os.environ.get("KEYS_IN_FLIGHT", "12"))
CONNECTIONS = 4
REQUESTS = 400  # a round; 1-2 s
ALONE = 40  # of them sent one at a time
UNITS = 64
LIFETIME_MS = 5000
ANSWER_BYTES = 270_400  # of a key answer, as measured below and printed if it differs
# Read by malloc when a process begins; the service's units set them too: buffers of 270 KB then come from the heap, not from mmap.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}
BARE = b"bare"  # begins a body that the bare side answers
DEADLINE_MS = 30_000


class EndlessShelf(Shelf):
    """The same attested units over and over."""

    def take(self, now_ms: int) -> PooledUnit | None:
        self.units.rotate(-1)
        return self.units[0]


class Silent:
    def count_answered(self, kind: str) -> None:
        """Nobody reads it here."""


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


# -- the node's process --------------------------------------------------------------------------------------------------


def run_node(world: World, data: Path, pipe: Pipe) -> None:
    shelf = EndlessShelf()
    shelf.units = world.shelf(UNITS).units
    with Store.open(data, bytes(32)) as store:
        service = KeyService(store=store, pool=shelf, registry=world.registry, key=world.node, clock_ms=clock_ms, counts=Silent())
        trio.run(node, world, service, pipe)


async def node(world: World, service: KeyService, pipe: Pipe) -> None:
    constant = bytes(ANSWER_BYTES)

    async def talk(connection: Connection) -> None:
        async def answer(body: bytes, deadline_ms: int) -> bytes:
            if body.startswith(BARE):
                return constant
            return await service.answer(connection.peer, body, deadline_ms)

        await serve_requests(connection, answer)

    async def sweep() -> None:
        while True:
            await trio.to_thread.run_sync(world.registry.refresh, clock_ms())
            await service.sweep()
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweep)
        hello = LocalHello(CHAIN, (Role.NODE,))
        addresses = await nursery.start(
            lambda task_status: serve("127.0.0.1:0", key=world.node, hello=hello, handler=talk, task_status=task_status)
        )
        pipe.send(addresses[0])
        await trio.to_thread.run_sync(pipe.recv, abandon_on_cancel=True)  # until the parent says so, or is gone
        cpu = time.process_time()
        pipe.send(cpu)
        nursery.cancel_scope.cancel()


# -- the clients ---------------------------------------------------------------------------------------------------------


def sign_requests(world: World, kit: GrantKit, connections: list[Connection], first: int) -> list[tuple[Connection, bytes]]:
    """One round of requests, each bound to the connection it will use."""
    world.now_ms = clock_ms()
    made = []
    for n in range(REQUESTS):
        connection = connections[n % len(connections)]
        index = 2 * (first + n)  # the phone's stripe
        seed = hashlib.shake_256(index.to_bytes(4, "big")).digest(126)
        body = world.key(index, seed, kit=kit, exporter=connection.peer.exporter, lifetime_ms=LIFETIME_MS)
        made.append((connection, body))
    return made


async def ask_all(requests: list[tuple[Connection, bytes]], in_flight: int) -> tuple[float, list[float]]:
    """Send all, `in_flight` at a time; returns requests a second and the latency of each in ms."""
    waiting = iter(requests)
    latencies: list[float] = []

    async def client() -> None:
        for connection, body in waiting:
            start = time.perf_counter()
            answer = await connection.call(body, deadline_ms=DEADLINE_MS)
            latencies.append(1000 * (time.perf_counter() - start))
            assert abs(len(answer) - ANSWER_BYTES) < 1000, len(answer)

    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(client)
    return len(requests) / (time.perf_counter() - start), latencies


def sign_and_sync(world: World, folder: Path) -> float:
    """ML-DSA-65 signatures of a receipt's size, each written and synced before the next, a second."""
    key, message = world.node.mldsa, os.urandom(300)
    handle = os.open(folder / "receipts", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    start = time.perf_counter()
    for _ in range(REQUESTS):
        os.write(handle, key.sign(message))
        os.fsync(handle)
    rate = REQUESTS / (time.perf_counter() - start)
    os.close(handle)
    return rate


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def measure(world: World, kit: GrantKit, address: str, folder: Path) -> None:
    hello = LocalHello(CHAIN, (Role.DEVICE,))
    ours, bare, signed, p50, p99, single = [], [], [], [], [], []
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(await connect(address, key=world.alice.phone.key, hello=hello, expect=world.node.id))
            for _ in range(CONNECTIONS)
        ]
        for number in range(ROUNDS + 1):
            requests = sign_requests(world, kit, connections, number * REQUESTS)
            constants = [(connection, BARE + body) for connection, body in requests]
            _, alone = await ask_all(requests[:ALONE], 1)
            rate, latencies = await ask_all(requests[ALONE:], IN_FLIGHT)
            bare_rate, _ = await ask_all(constants, IN_FLIGHT)
            sign_rate = sign_and_sync(world, folder)
            if number == 0:
                continue  # caches, files and threads come into being
            ours.append(rate)
            bare.append(bare_rate)
            signed.append(sign_rate)
            p50.append(quantile(latencies, 0.5))
            p99.append(quantile(latencies, 0.99))
            single.append(quantile(alone, 0.5))
    report(ours, bare, signed, p50=p50, p99=p99, single=single)


def report(ours: list[float], bare: list[float], signed: list[float], *, p50: list[float], p99: list[float], single: list[float]) -> None:
    slower, which = (signed, "(b)") if statistics.median(signed) < statistics.median(bare) else (bare, "(a)")
    rows = [
        compare(
            f"key requests, {IN_FLIGHT} in flight", ours, slower, unit="requests/s", against=f"the slower bound, {which}", at_least=0.5
        ),
        compare("p99 latency", p99, p50, unit="ms", against="p50 of the same requests", at_most=3),
        plain("latency, one in flight", single, unit="ms"),
        plain("(a) the same bytes, constant answer, over PQ-TLS", bare, unit="requests/s"),
        plain("(b) one ML-DSA-65 signature and fsync", signed, unit="per s"),
    ]
    emit("keys", rows, ROUNDS)


def main() -> None:
    (ROOT / ".cache").mkdir(exist_ok=True)  # a real disk, not a file system in memory
    folder = Path(tempfile.mkdtemp(prefix="bench-keys-", dir=ROOT / ".cache"))
    try:
        world = World(folder, clock_ms())
        kit = world.grant(world.alice, count=2 * REQUESTS * (ROUNDS + 1), pinned=True)
        world.publish()
        ours, theirs = multiprocessing.get_context("fork").Pipe()
        process = multiprocessing.get_context("fork").Process(target=run_node, args=(world, folder / "data", theirs), daemon=True)
        process.start()
        theirs.close()
        trio.run(measure, world, kit, ours.recv(), folder)
        ours.send("stop")
        print(f"node CPU {ours.recv():.1f} s", file=sys.stderr)
        process.join()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)
    main()
