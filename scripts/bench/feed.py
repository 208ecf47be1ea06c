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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import trio
from bare import NODE, SERVER, Taker, bare_end, serve_bare
from report import MIN_ROUNDS, Row, compare, emit

from qnode.service.feed import check_leaves
from qrngd.cutter import Cutter, Source
from qrngd.feed.batch import Statement
from qrngd.feed.credit import IN_FLIGHT_UNITS
from qrngd.feed.service import FeedService
from qrngd.pipeline import Measurement, Pipeline
from qrngd.slots import SlotMemory
from qrngd.stock import ReadyUnit, Span, Stock
from qustream.aio.connection import Connection, connect, connect_unix
from qustream.aio.listener import serve, serve_unix
from qustream.identity.signing import open_signed
from qustream.model.base import Signed
from qustream.model.entropy import MATERIAL_BYTES, UNIT_BYTES, Attestation, DeviceDescriptor
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import DEADLINE_MAX_MS
from qustream.wire.codec import decode, encode
from qustream.wire.feed import FeedBatch, FeedCredit, FeedHealth, FeedOpen, ReceivedUnit, decode_feed
from qustream.wire.hello import Role

CHAIN = "bench"
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
        probe=lambda: None,
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


# --- this process


class FeedEnd:
    """The node's end. `checked`: with the attestation's signature and every unit's leaf, as a node does before it counts a unit.

    Credit never runs out, as long as a node has room, so a round is a stretch of a stream that flows on: what is made ahead for the next
    one is as much as was made ahead before this one.
    """

    def __init__(self, connection: Connection, grants: trio.Nursery, *, checked: bool) -> None:
        self.checked = checked
        self._connection, self._grants = connection, grants
        self._batches: dict[bytes, Attestation] = {}
        self._lacking = CREDIT  # credit that may be granted
        self._ahead = 0  # units that came with the last of a round

    async def open(self) -> None:
        await self._connection.call(encode(FeedOpen(NODE.id, 0)), deadline_ms=10_000)

    async def take(self, count: int) -> None:
        while self._ahead < count:
            if self._lacking >= STEP:
                self._grants.start_soon(self._grant, self._lacking)  # its answer may stand behind units, those of the next round too
                self._lacking = 0
            came = await self._units()
            self._ahead += came
            self._lacking += came
        self._ahead -= count

    async def _grant(self, units: int) -> None:
        await self._connection.call(encode(FeedCredit(units)), deadline_ms=DEADLINE_MAX_MS)

    async def _units(self) -> int:
        """Take what has come; returns how many units that were."""
        count, unchecked = 0, list[tuple[Attestation, ReceivedUnit]]()
        for _, body in await self._connection.receive_many():
            message = decode_feed(body)
            if isinstance(message, ReceivedUnit):
                count += 1
                if self.checked:
                    unchecked.append((self._batches[message.root], message))
            elif isinstance(message, FeedBatch):
                attestation = self._opened(message.attestation)
                self._batches = {attestation.root: attestation, **dict(list(self._batches.items())[:8])}
        if unchecked:
            _, trouble = await trio.to_thread.run_sync(check_leaves, NODE.id, unchecked)
            if trouble is not None:
                raise trouble
        return count

    def _opened(self, signed: Signed) -> Attestation:
        if self.checked:
            return open_signed(signed, Attestation, SERVER.public, "attestation")
        return decode(signed.body, Attestation, max_bytes=len(signed.body))


async def feed_end(stack: AsyncExitStack, address: str, *, checked: bool) -> FeedEnd:
    hello = LocalHello(CHAIN, (Role.NODE,))
    if address.startswith("unix:"):
        connection = await connect_unix(address.removeprefix("unix:"), hello=hello)
    else:
        connection = await connect(address, key=NODE, hello=hello, expect=SERVER.id)
    grants = await stack.enter_async_context(trio.open_nursery())
    end = FeedEnd(await stack.enter_async_context(connection), grants, checked=checked)
    stack.callback(grants.cancel_scope.cancel)  # before the connection goes
    await end.open()
    return end


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


def cpu_s(server: subprocess.Popen[str]) -> float:
    """CPU seconds that this process and `server` have used: the clock that clock_getcpuclockid(3) names."""
    return time.process_time() + time.clock_gettime(~server.pid << 3 | 2)


Figures = dict[str, list[float]]


async def measure(kinds: tuple[str, ...], listen: Callable[[str], str], *, rounds: int, units: int) -> tuple[Figures, Figures]:
    """Every round of the feed, `plain` and `checked`, and of each of `kinds`: MB/s, and the CPU time of both ends in µs a unit."""
    servers = {kind: start(kind, listen(kind)) for kind in ("feed", *kinds)}
    try:
        async with AsyncExitStack() as stack:
            end = await feed_end(stack, servers["feed"][1], checked=False)
            bare = {kind: await bare_end(stack, kind, servers[kind][1]) for kind in kinds}
            sides = ["plain", *kinds, "checked"]
            rates: Figures = {side: [] for side in sides}
            cpu: Figures = {side: [] for side in sides}
            for take in (end.take, *bare.values()):
                await take(units)
            for number in range(rounds):
                for side in sides if number % 2 else reversed(sides):
                    end.checked = side == "checked"
                    server = servers[side if side in bare else "feed"][0]
                    before_s = cpu_s(server)
                    rates[side].append(await rate(bare.get(side, end.take), units))
                    cpu[side].append((cpu_s(server) - before_s) * 1e6 / units)
    finally:
        for process, _ in servers.values():
            process.kill()
            process.wait()
    return rates, cpu


def rows_of(name: str, figures: tuple[Figures, Figures], kind: str, against: str, at_least: float) -> list[Row]:
    rates, cpu = figures
    hot = "trio's send_all of one buffer and receive_some, no protection"
    return [
        compare(name, rates["plain"], rates[kind], unit="MB/s", against=against, at_least=at_least),
        compare(f"{name}, checked", rates["checked"], rates[kind], unit="MB/s", against=against),
        compare(f"{name}, CPU of both ends", cpu["plain"], cpu[kind], unit="µs a unit", against=against),
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
