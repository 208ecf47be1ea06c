"""What both sides of the bench `gossip` have in common: the graph, the clock, how messages are counted and timed. It needs trio and the
standard library alone, for one side runs in an environment of its own.

A side is one or more worker processes, each with some of the hosts, told what to do by lines of JSON on standard input (`serve`). Host 0
publishes. A message begins with the run it belongs to and the time it was published; the system's monotonic clock is one for all
processes. How much each host has of a run stands in a small file that all workers map (`Tally`): the publisher reads there how
far the slowest host is, and so keeps at most `window` messages under way.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio

__all__ = ["HOSTS", "PUBLISHER", "Side", "Tally", "neighbours", "serve"]

HOSTS = 8
PUBLISHER = 0
# Each host is linked to those one and three places after it on a ring, and so to four: every host is two hops away at most, and a
# message comes to a host over several ways, as it does in a large network.
CHORDS = (1, 3)
HEAD = struct.Struct(">IQ")  # number of the run, nanoseconds of the monotonic clock at publication
WINDOW_POLL_S = 0.0005
# Nothing has come for so long: what is missing is lost.
LOST_S = 5.0


def neighbours(host: int) -> list[int]:
    """Whom `host` dials."""
    return [(host + chord) % HOSTS for chord in CHORDS]


class Tally:
    """How many messages of the present run each host has, in memory that all workers share; and how late each of ours came."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), HOSTS * 8)
        self._counts = memoryview(self._map).cast("Q")
        self.run = 0
        self.late_ns: list[int] = []

    def begin(self, run: int, hosts: list[int]) -> None:
        """A new run; what still comes of the one before does not count."""
        self.run = run
        self.late_ns = []
        for host in hosts:
            self._counts[host] = 0

    def delivered(self, host: int, body: bytes | bytearray | memoryview) -> None:
        """`host` was given a message by its gossip for the first time."""
        run, at_ns = HEAD.unpack_from(body)
        if run == self.run and host != PUBLISHER:
            self.late_ns.append(time.monotonic_ns() - at_ns)
            self._counts[host] += 1

    @property
    def least(self) -> int:
        """How many the slowest host has. The publisher's own does not count."""
        return min(self._counts[host] for host in range(HOSTS) if host != PUBLISHER)

    def make(self, size: int) -> bytes:
        """A message of `size` bytes, published now; no two are alike."""
        return HEAD.pack(self.run, time.monotonic_ns()) + os.urandom(size - HEAD.size)


class Side(Protocol):
    """A gossip network as the bench sees it, in one worker."""

    hosts: list[int]

    async def link(self, addresses: dict[int, str]) -> None:
        """Connect our hosts to their neighbours; return when the mesh is whole at our end."""

    async def publish(self, body: bytes) -> None:
        """Let host 0 say something."""


async def serve(side: Side, addresses: dict[int, str], tally: Tally) -> None:
    """Tell the parent where our hosts are, and do what it says until it closes the pipe. One line of answer for each line."""
    _tell({"addresses": addresses})
    stdin = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    buffer = bytearray()
    while chunk := await stdin.receive_some(65536):
        buffer += chunk
        while b"\n" in buffer:
            line, _, rest = buffer.partition(b"\n")
            buffer = bytearray(rest)
            order = json.loads(line)
            _tell(await _obey(side, tally, order))


async def _obey(side: Side, tally: Tally, order: dict[str, Any]) -> dict[str, Any]:
    what = order.pop("do")
    if what == "link":
        await side.link({int(host): address for host, address in order["addresses"].items()})
        return {}
    if what == "begin":
        tally.begin(order["run"], side.hosts)
        return {}
    if what == "publish":
        return await _timed(side.publish, tally, **order)
    assert what == "late"
    return {"late_ns": tally.late_ns, "cpu_s": time.process_time()}


async def _timed(
    publish: Callable[[bytes], Awaitable[None]], tally: Tally, *, size: int, count: int, window: int, pause_s: float
) -> dict[str, Any]:
    """Publish `count` messages, each as soon as fewer than `window` are under way, and `pause_s` after the one before at the earliest; wait
    until all are everywhere. `seconds` is the time until the slowest host had what it got."""
    started = heard_at = time.monotonic()
    least = sent = 0
    while least < count:
        if sent < count and sent - least < window:
            await publish(tally.make(size))
            sent += 1
            if pause_s:
                await trio.sleep(pause_s)
        else:
            await trio.sleep(WINDOW_POLL_S)
        if tally.least > least:
            least, heard_at = tally.least, time.monotonic()
        elif time.monotonic() - heard_at > LOST_S:
            break
    return {"sent": sent, "everywhere": least, "seconds": heard_at - started}


def _tell(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
