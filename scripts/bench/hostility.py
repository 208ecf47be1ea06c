"""Bench `hostility`: what honest peers get from a node while somebody attacks it, beside what they get when nobody does.

One node (`hostility_node.py`) has a core of its own where there are two. An honest peer says 200 transactions of 512 bytes a second to it,
another hears them from it, and a third asks 50 requests a second: work for a tenth of the core. Measured is what came of each, how late
it came, and how busy the node was with the attack. In each round both sides are measured for a second and a half, once while
`hostility_attack.py` does as much harm as one process can, and once while nobody does, by turns first. The attackers have 77 licences;
who is shown out goes on with the next.

    scripts/bench/hostility.py [--rounds N] [--only ATTACK]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from hostility_attack import ATTACKS
from report import MIN_ROUNDS, Row, compare, emit

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support.peers_town import CHAIN

from qustream.aio.connection import Connection, connect
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import ALL_CHANNELS, Channel
from qustream.wire.codec import decode, encode
from qustream.wire.gossip import GOSSIP_MAX_BYTES, GossipGraft, GossipMessage, GossipPush, Topic
from qustream.wire.hello import Role
from qustream.wire.peers import LinkOpen, LinkReason

HERE = Path(__file__).resolve().parent
# As in the service units: 256 KiB buffers are reused instead of mapped anew each time.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}
CORES = sorted(os.sched_getaffinity(0))
SPEAKER, HEARER, ASKER = (SigningKey(number.to_bytes(32, "big")) for number in (2, 3, 99))
HEAD = struct.Struct(">8sQ")  # a number, nanoseconds of the monotonic clock at the saying
MESSAGES_PER_S, REQUESTS_PER_S, MEASURED_S = 200, 50, 1.5
# An attack under way before it counts, and how long what is late is waited for: an answer later than that is none.
SETTLE_S, LATE_S = 0.7, 1.0


@dataclass
class Figures:
    """One entry a round."""

    messages_per_s: list[float] = field(default_factory=list)
    requests_per_s: list[float] = field(default_factory=list)
    messages_p99_ms: list[float] = field(default_factory=list)
    requests_p99_ms: list[float] = field(default_factory=list)
    busy_percent: list[float] = field(default_factory=list)  # the node, of a core


class Load:
    """The honest ones. `measure` lets them work for a while."""

    def __init__(self, address: str, node: bytes, pid: int) -> None:
        self._address, self._node, self._pid = address, node, pid
        self._late_ms: list[float] = []
        self._answer_ms: list[float] = []

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        async with await self._link(SPEAKER) as self._speaker, await self._link(HEARER) as hearer, await self._link(ASKER) as self._asker:
            for connection in (self._speaker, hearer):
                await connection.call(encode(LinkOpen(LinkReason.CHOSEN, 0)), deadline_ms=5000)
            await hearer.send(Channel.GOSSIP, encode(GossipGraft()))
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ignore, self._speaker)
                while True:
                    _, body = await hearer.receive()
                    message: Any = decode(body, GossipMessage, max_bytes=GOSSIP_MAX_BYTES)
                    if isinstance(message, GossipPush):
                        self._late_ms.append((time.monotonic_ns() - HEAD.unpack_from(message.body)[1]) / 1e6)

    async def _link(self, key: SigningKey) -> Connection:
        hello = LocalHello(CHAIN, (Role.NODE,))
        return await connect(self._address, key=key, hello=hello, expect=self._node, permit=lambda _: ALL_CHANNELS)

    @staticmethod
    async def _ignore(connection: Connection) -> None:
        while True:
            await connection.receive()

    async def measure(self, into: Figures) -> None:
        self._late_ms, self._answer_ms = [], []
        began, cpu_s = time.monotonic(), cpu_of(self._pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say)
            nursery.start_soon(self._ask)
        into.busy_percent.append(100 * (cpu_of(self._pid) - cpu_s) / (time.monotonic() - began))
        into.messages_per_s.append(len([late for late in self._late_ms if late < 1000 * LATE_S]) / MEASURED_S)
        into.requests_per_s.append(len(self._answer_ms) / MEASURED_S)
        into.messages_p99_ms.append(p99(self._late_ms))
        into.requests_p99_ms.append(p99(self._answer_ms))

    async def _say(self) -> None:
        began = trio.current_time()
        for number in range(int(MESSAGES_PER_S * MEASURED_S)):
            await trio.sleep_until(began + number / MESSAGES_PER_S)
            body = HEAD.pack(os.urandom(8), time.monotonic_ns()) + bytes(512 - HEAD.size)
            await self._speaker.send(Channel.GOSSIP, encode(GossipPush(Topic.TRANSACTION, body)))
        await trio.sleep_until(began + MEASURED_S + LATE_S)

    async def _ask(self) -> None:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(int(REQUESTS_PER_S * MEASURED_S)):
                await trio.sleep_until(began + number / REQUESTS_PER_S)
                nursery.start_soon(self._ask_once)

    async def _ask_once(self) -> None:
        began = time.monotonic()
        try:
            await self._asker.call(b"a key, please", deadline_ms=int(1000 * LATE_S))
        except QuStreamError:
            return  # late, or refused: not served
        self._answer_ms.append((time.monotonic() - began) * 1000)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else 1000 * LATE_S


def cpu_of(pid: int) -> float:
    """Seconds that a process has had."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def give_core(pid: int, *, first: bool) -> None:
    """The node gets the first core, all others share the rest."""
    os.sched_setaffinity(pid, CORES[:1] if first else CORES[1:] or CORES)


@contextmanager
def node() -> Iterator[tuple[str, bytes, int]]:
    """Where it is, its id and its process."""
    process = subprocess.Popen(
        [sys.executable, HERE / "hostility_node.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | MALLOC,
    )  # fmt: skip
    give_core(process.pid, first=True)
    try:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        yield found["address"], bytes.fromhex(found["id"]), process.pid
    finally:
        process.kill()
        process.wait()


@contextmanager
def attacked(name: str, address: str, node_id: bytes, turn: int) -> Iterator[None]:
    """By a process that yields to the honest ones, with whom it shares a core: what is measured is the node."""
    command = [sys.executable, HERE / "hostility_attack.py", name, address, node_id.hex(), str(turn)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the attack could not begin"
        os.setpriority(os.PRIO_PROCESS, process.pid, 5)
        yield
    finally:
        process.kill()
        process.wait()


async def one_attack(name: str, rounds: int) -> list[Row]:
    with_it, without = Figures(), Figures()
    with node() as (address, node_id, pid):
        async with trio.open_nursery() as nursery:
            load = Load(address, node_id, pid)
            await nursery.start(load.run)
            await load.measure(Figures())  # warms up
            for number in range(rounds):
                for is_attacked in (True, False) if number % 2 else (False, True):
                    if is_attacked:
                        with attacked(name, address, node_id, number):
                            await trio.sleep(SETTLE_S)
                            await load.measure(with_it)
                    else:
                        await trio.sleep(SETTLE_S)
                        await load.measure(without)
            nursery.cancel_scope.cancel()
    nobody = "nobody attacks"
    return [
        compare(f"{name}: messages", with_it.messages_per_s, without.messages_per_s, unit="1/s", against=nobody, at_least=0.9),
        compare(f"{name}: requests", with_it.requests_per_s, without.requests_per_s, unit="1/s", against=nobody, at_least=0.9),
        compare(f"{name}: messages, p99", with_it.messages_p99_ms, without.messages_p99_ms, unit="ms", against=nobody),
        compare(f"{name}: requests, p99", with_it.requests_p99_ms, without.requests_p99_ms, unit="ms", against=nobody),
        compare(f"{name}: node busy", with_it.busy_percent, without.busy_percent, unit="%", against=nobody),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="What honest peers get from a node that is attacked.")
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS)
    parser.add_argument("--only", choices=sorted(ATTACKS))
    options = parser.parse_args()
    rounds = max(MIN_ROUNDS, options.rounds)
    rows: list[Row] = []
    for name in [options.only] if options.only else ATTACKS:
        rows += trio.run(one_attack, name, rounds)
    emit("hostility", rows, rounds)


if __name__ == "__main__":
    give_core(0, first=False)
    main()
