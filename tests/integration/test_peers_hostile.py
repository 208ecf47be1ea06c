"""Whoever can reach a node's port, without a licence: garbage, half-open and dripping connections, ten thousand of them; and licensed nodes
whose clocks are wrong. The node keeps its links, lets others in, and says nothing about it."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.hostile import HELLO, Actor, Siege
from support.node import until
from support.peers_town import town
from support.peers_town import until as until_in_town
from support.places import WORKER

from qnode.service.gossip import Verdict
from qustream.aio.admission import ListenerLimits
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.engine import Engine
from qustream.wire.gossip import Topic
from qustream.wire.peers import AddressAsk

# Half-open connections have 64 KiB of handshake at most, others their buffers; 1,024 places.
PEAK_MB = 100
STRANGER = SigningKey(b"stranger" * 4)
HOUR_MS = 3_600_000
LIMITS = ListenerLimits()


def source(wave: int, number: int) -> str:
    """An address of its own for each: 127.120.0.1 and so on."""
    return f"127.{120 + wave}.{WORKER}.{number % 250 + 1}"


def open_tcp(siege: Siege, address: str) -> socket.socket:
    return socket.create_connection(siege.where(), timeout=60, source_address=(address, 0))


def client_hello() -> bytes:
    engine = Engine("client", key=STRANGER, hello=HELLO)
    engine.start()
    return engine.data_to_send()


def gets_in(actor: Actor) -> None:
    """An honest newcomer is served; refused before its handshake, it comes again, as nodes do."""
    ends = time.monotonic() + 60
    while True:
        try:
            with actor.connect() as peer:
                assert peer.ask(AddressAsk(bytes(32), 0))
                return
        except (QuStreamError, OSError):
            assert time.monotonic() < ends, "nobody gets in"
            time.sleep(0.1)


@contextmanager
def held_open(siege: Siege, count: int, wave: int, words: bytes) -> Iterator[list[socket.socket]]:
    """So many connections that say this and nothing else."""
    with ExitStack() as stack:
        held = []
        for number in range(count):
            with suppress(ConnectionError):  # refused
                sock = stack.enter_context(open_tcp(siege, source(wave, number)))
                sock.sendall(words)
                held.append(sock)
        yield held


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    bytes(4096),
    random.Random(1).randbytes(70_000),
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    b"\x17\x03\x03\x00\x01\x00",
    b"\x16\x03\x03\x40\x00" + bytes(16_384),
]


@pytest.mark.e2e
def test_garbage_instead_of_a_handshake(siege: Siege) -> None:
    with siege.unharmed(peak_mb=PEAK_MB):
        before = siege.node.status().peers
        for number in range(210):
            with open_tcp(siege, source(0, number)) as sock, suppress(ConnectionError):  # a reset is a close
                sock.sendall(GARBAGE[number % len(GARBAGE)])
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(4096):
                    pass
        after = siege.node.status().peers
        assert (after.handshakes_failed + after.refused) - (before.handshakes_failed + before.refused) >= 210
        gets_in(siege.actor())


@pytest.mark.e2e
def test_half_open_and_dripping_connections(siege: Siege) -> None:
    hello = client_hello()
    with siege.unharmed(peak_mb=PEAK_MB), held_open(siege, 200, 1, b""), held_open(siege, 200, 2, hello[: len(hello) // 2]):
        with held_open(siege, 100, 3, hello[:1]) as dripping:
            for byte in hello[1:6]:
                for sock in dripping:
                    with suppress(ConnectionError):
                        sock.sendall(bytes([byte]))
            gets_in(siege.actor())
        with held_open(siege, 100, 4, hello):  # the server's flight is made for each, and nobody answers it
            gets_in(siege.actor())


@pytest.mark.e2e
def test_ten_thousand_connections(siege: Siege) -> None:
    """In waves, each connection from an address of its own; half of them end with a reset."""
    linger = struct.pack("ii", 1, 0)
    with siege.unharmed(peak_mb=PEAK_MB):
        began_s, before = time.monotonic(), siege.node.status().peers
        for wave in range(40):
            with held_open(siege, 250, 5 + wave, b"\x16") as held:
                # As many as the kernel lets wait; the next ones would only wait for it.
                until(lambda wave=wave: siege.node.status().peers.accepted >= before.accepted + 250 * (wave + 1))  # type: ignore[misc]
                for sock in held[::2]:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        after, took_s = siege.node.status().peers, time.monotonic() - began_s
        # Above the rate nothing is computed for them; a machine that is slower than that refuses none.
        let_in = after.accepted - before.accepted - (after.refused - before.refused)
        assert let_in <= LIMITS.burst + LIMITS.rate_per_s * took_s
        gets_in(siege.actor())


@pytest.mark.e2e
def test_many_strangers_that_stay_and_do_nothing(siege: Siege) -> None:
    """They have shaken hands, so each has cost the node a signature; who needs a place still gets one."""
    with siege.unharmed(peak_mb=PEAK_MB), ExitStack() as stack:
        stranger = Actor(siege, 0)
        stranger.key = STRANGER
        for number in range(80):
            stack.enter_context(stranger.connect(source=source(60, number)))
        assert siege.node.status().peers.open >= 80
        gets_in(siege.actor())


async def test_clocks_that_are_wrong_part_nobody(tmp_path: Path) -> None:
    """One node is an hour ahead, one an hour behind. Their records may be of no use to others, or the others' to them; they are linked all
    the same, hear what is said, and nobody is charged for it."""
    async with town(tmp_path, 4) as t:
        heard: set[tuple[int, bytes]] = set()
        for number, node in enumerate(t.nodes):
            node.told = (f"127.0.0.{number + 1}:7400",)
            node.judges[Topic.ANNOUNCEMENT] = lambda body, _, number=number: heard.add((number, body)) or Verdict.GOOD  # type: ignore[misc,func-returns-value]
        t.nodes[2].skew_ms, t.nodes[3].skew_ms = HOUR_MS, -HOUR_MS
        await t.start()
        await t.linked()
        for number, node in enumerate(t.nodes):
            node.service.gossip.publish(Topic.ANNOUNCEMENT, bytes([number]) * 2000)
        await until_in_town(lambda: len(heard) == 12, "everybody hears the three others")
        right, ahead, behind = t.nodes[0], t.nodes[2], t.nodes[3]
        await until_in_town(lambda: right.service.records.addresses(behind.id) == behind.told, "what is old is still true")
        assert right.service.records.addresses(ahead.id) == (ahead.listen,)
        assert behind.service.records.addresses(right.id) == (right.listen,)
        await t.linked()
        for node in t.nodes:
            assert (node.service.network.bad, node.service.network.expelled, node.service.network.greylisted) == (0, 0, 0)
