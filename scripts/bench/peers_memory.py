"""Bench `peers_memory`: what a linked peer costs a node in memory.

A process with one node's gossip service, hub and sessions (`gossip_ours.py`) is linked over PQ-TLS to peers of another process, which run
the same. Its resident memory is read with 8 links, with 64 and with 200, each time after gossip has passed over all of them: small
messages both ways, and a large one that the node was told of and pulled. A link's cost is the difference for each link above the eight.
What the node keeps for those who pull is full from the start. A real node takes 64 links at most; here the bound is lifted, for more of
them tell a link's cost from what the process needs anyhow. Each round is a new process. There is no other side; the target is absolute.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

import trio
from gossip_ours import Host
from report import MIN_ROUNDS, emit, plain

from qnode.core import gossip_limits, gossip_link
from qnode.service.gossip import Verdict
from qustream.aio.listener import ListenerLimits
from qustream.identity.signing import SigningKey
from qustream.wire.gossip import Topic

LINKS = (8, 64, 200)
NODE = SigningKey(b"n" * 32)
gossip_limits.LINKS_MAX = 1024  # lifted: see above
gossip_link.SCORE_UNKEPT = 0  # two hundred nodes in one process are late at times, and shall stay linked all the same
ADMIT_ALL = ListenerLimits(
    connections_per_address=1024, handshakes_per_address=1024, burst_per_address=1024, rate_per_address_per_s=1024, burst=1024
)
SMALL_BYTES, LARGE_BYTES = 1024, 8192
PAUSE_S = 0.02  # between messages: two hundred nodes share a process, and shall not be late
MESSAGES = 32  # small ones that the node says to all its links
# As in the service units: freed 256 KiB buffers are kept for the next message.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}


def resident_kb() -> float:
    """Resident memory of this process in KB of 1,000 bytes."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1000


# --- the node's process


class Counting:
    """A judge that finds everything good, and knows how much it was."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _body: bytes, _peer: bytes) -> Verdict:
        self.count += 1
        return Verdict.GOOD


async def run_node() -> None:
    """Print where it listens; for each line on standard input, which says how many links there are by now, talk with all of them, and
    print its memory."""
    judge = Counting()
    host = Host(NODE, judge)
    stdin = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    async with trio.open_nursery() as nursery:
        address = await host.listen(nursery, "127.9.2.1:0", ADMIT_ALL)
        await nursery.start(host.gossip.run)
        for _ in range(gossip_limits.KEEP_BYTES // LARGE_BYTES + 1):
            host.gossip.publish(Topic.TRANSACTION, os.urandom(LARGE_BYTES))
        await trio.sleep(gossip_limits.LAZY_MS / 1000 + 1)  # after that nobody is told of them any more
        print(address, flush=True)
        while line := await stdin.receive_some(64):
            await talk(host, judge, int(line))
            print(resident_kb(), flush=True)
        nursery.cancel_scope.cancel()


async def talk(host: Host, judge: Counting, links: int) -> None:
    """Say something to all; wait until they have taken it, and everybody has said a small message and a large one to us."""
    for _ in range(MESSAGES):
        host.gossip.publish(Topic.TRANSACTION, os.urandom(SMALL_BYTES))
        await trio.sleep(PAUSE_S)
    sessions = host.hub.links
    while judge.count < 2 * links or min(session.messages_out for session in sessions) < MESSAGES:  # noqa: ASYNC110 - nobody says so
        await trio.sleep(0.05)


# --- the peers' process


async def run_peers(address: str, counts: Sequence[int], node: subprocess.Popen[str]) -> list[float]:
    """Open as many links as each of `counts` says; what the node's memory was then."""
    found: list[float] = []
    linked = 0
    async with trio.open_nursery() as nursery:
        for count in counts:
            new = [Host(SigningKey(os.urandom(32)), lambda _body, _peer: Verdict.GOOD) for _ in range(count - linked)]
            for peer in new:
                await nursery.start(peer.gossip.run)
                await nursery.start(peer.dial, address, NODE.id)
            for peer in new:
                peer.gossip.publish(Topic.TRANSACTION, os.urandom(SMALL_BYTES))
                peer.gossip.publish(Topic.TRANSACTION, os.urandom(LARGE_BYTES))
                await trio.sleep(PAUSE_S)
            linked = count
            found.append(float(await trio.to_thread.run_sync(partial(ask, node, count))))
        nursery.cancel_scope.cancel()
    return found


def ask(node: subprocess.Popen[str], count: int) -> str:
    assert node.stdin is not None
    assert node.stdout is not None
    node.stdin.write(f"{count}\n")
    node.stdin.flush()
    return node.stdout.readline()


def one_round() -> list[float]:
    """KB a link, with each of `LINKS` but the first."""
    command = [sys.executable, __file__, "--node"]
    node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | MALLOC)
    try:
        assert node.stdout is not None
        first, *others = trio.run(run_peers, node.stdout.readline().strip(), LINKS, node)
    finally:
        node.kill()
        node.wait()
    return [(found - first) / (count - LINKS[0]) for found, count in zip(others, LINKS[1:], strict=True)]


def main() -> None:
    if sys.argv[1:] == ["--node"]:
        trio.run(run_node)
        return
    figures = zip(*(one_round() for _ in range(MIN_ROUNDS)), strict=True)
    rows = [plain(f"a link, with {count}", kb, unit="KB", at_most=150) for count, kb in zip(LINKS[1:], figures, strict=True)]
    emit("peers_memory", rows, MIN_ROUNDS)


if __name__ == "__main__":
    main()
