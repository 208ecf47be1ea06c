"""Bench `transport`: 256 KiB messages, small calls and handshakes over PQ-TLS between two processes.

Messages go from a server process to this one on the bulk channel, under trio and through the blocking connection; the other side is the
same bytes through bare sockets of the same kind, unprotected. A call is a request of 100 bytes and its answer of 100 on an open
connection, one after another; the other side is 100 bytes there and back on a bare socket. A handshake is one whole connection: TCP,
TLS 1.3 with X25519MLKEM768, ML-DSA-65 both ways, both Hellos, goodbye; client and server share this machine.

    scripts/bench/transport.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import trio
from report import MIN_ROUNDS, Row, compare, emit, plain

from qustream.aio.connection import Connection
from qustream.aio.connection import connect as connect_trio
from qustream.aio.listener import ListenerLimits, serve
from qustream.aio.rpc import serve_requests
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.blocking import BlockingConnection, connect
from qustream.transport.engine import Channel, LocalHello
from qustream.transport.limits import ALL_CHANNELS
from qustream.wire.hello import Role

SERVER, CLIENT = SigningKey(b"s" * 32), SigningKey(b"c" * 32)
HELLO = LocalHello("bench", (Role.NODE,))
MESSAGE_BYTES = 256 * 1024
ROUNDS = 7
MESSAGES = 1000  # a round: a quarter of a second of the quicker side
CALLS = 1000
HANDSHAKES = 100
DEADLINE_MS = 60_000
CALL = bytes(100)
# As in the service units: 256 KiB buffers are reused instead of mapped anew each time.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}


# --- the server process


async def answer(body: bytes, _deadline_ms: int) -> bytes:
    return body


async def push(connection: Connection) -> None:
    """Send as many messages as the peer's last one said."""
    try:
        while True:
            _, count = await connection.receive()
            message = bytes(MESSAGE_BYTES)
            for _ in range(int.from_bytes(count, "big")):
                await connection.send(Channel.BULK, message)
    except QuStreamError:
        return


async def handle(connection: Connection) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(push, connection)
        await serve_requests(connection, answer)
        nursery.cancel_scope.cancel()


async def push_bare(stream: trio.SocketStream) -> None:
    """Eight bytes ask for so many messages; a hundred are sent back."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    message = bytes(MESSAGE_BYTES)
    while asked := await stream.receive_some(4096):
        if len(asked) != 8:
            await stream.send_all(asked)
            continue
        for _ in range(int.from_bytes(asked, "big")):
            await stream.send_all(message)


async def serve_all() -> None:
    limits = ListenerLimits(
        burst_per_address=1_000_000,
        rate_per_address_per_s=1_000_000,
        burst=1_000_000,
        rate_per_s=1_000_000,
    )
    async with trio.open_nursery() as nursery:
        run = partial(serve, key=SERVER, hello=HELLO, handler=handle, limits=limits, permit=lambda _peer: ALL_CHANNELS)
        [address] = await nursery.start(run, "127.0.0.1:0")
        [bare] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(address, "{}:{}".format(*bare.socket.getsockname()), flush=True)
        await trio.serve_listeners(push_bare, [bare])


# --- this process


def rate(amount: float, run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return amount / (time.perf_counter() - started)


def take_blocking(connection: BlockingConnection, count: int) -> None:
    connection.send(Channel.BULK, count.to_bytes(8, "big"), deadline_ms=DEADLINE_MS)
    for _ in range(count):
        connection.receive(deadline_ms=DEADLINE_MS)


def take_bare(sock: socket.socket, buffer: bytearray, count: int) -> None:
    sock.sendall(count.to_bytes(8, "big"))
    left = count * MESSAGE_BYTES
    while left:
        left -= sock.recv_into(buffer, min(left, len(buffer)))


def ask_bare(sock: socket.socket, buffer: bytearray, count: int) -> None:
    for _ in range(count):
        sock.sendall(CALL)
        left = len(CALL)
        while left:
            left -= sock.recv_into(buffer, left)


def ask_blocking(connection: BlockingConnection, count: int) -> None:
    for _ in range(count):
        connection.call(CALL, deadline_ms=DEADLINE_MS)


def shake_hands(address: str, count: int) -> None:
    for _ in range(count):
        connect(address, key=CLIENT, hello=HELLO, expect=SERVER.id).close()


def blocking_rows(address: str, bare: str, rounds: int, share: int) -> list[Row]:
    host, port = bare.rsplit(":", 1)
    megabytes, buffer = MESSAGES // share * MESSAGE_BYTES / 1e6, bytearray(MESSAGE_BYTES)
    rates: dict[str, list[float]] = {name: [] for name in ("bulk", "bare bulk", "calls", "bare calls", "handshakes")}
    with connect(address, key=CLIENT, hello=HELLO, expect=SERVER.id) as ours, socket.create_connection((host, int(port))) as theirs:
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(-1, rounds):
            sides = {
                "bulk": rate(megabytes, partial(take_blocking, ours, MESSAGES // share)),
                "bare bulk": rate(megabytes, partial(take_bare, theirs, buffer, MESSAGES // share)),
                "calls": rate(CALLS // share, partial(ask_blocking, ours, CALLS // share)),
                "bare calls": rate(CALLS // share, partial(ask_bare, theirs, buffer, CALLS // share)),
                "handshakes": rate(HANDSHAKES // share, partial(shake_hands, address, HANDSHAKES // share)),
            }
            for name, figure in sides.items() if number >= 0 else ():  # the first round warms up
                rates[name].append(figure)
    return [
        compare("256 KiB, blocking", rates["bulk"], rates["bare bulk"], unit="MB/s", against="recv_into of the same bytes"),
        compare("calls, blocking", rates["calls"], rates["bare calls"], unit="1/s", against="sendall and recv_into"),
        plain("handshakes, blocking, one at a time", rates["handshakes"], unit="1/s"),
    ]


async def trio_rows(address: str, bare: str, rounds: int, share: int) -> list[Row]:
    host, port = bare.rsplit(":", 1)
    count = MESSAGES // share
    rates: dict[str, list[float]] = {"bulk": [], "bare": []}
    async with await connect_trio(address, key=CLIENT, hello=HELLO, expect=SERVER.id) as ours:
        theirs = await trio.open_tcp_stream(host, int(port))
        for number in range(-1, rounds):
            started = time.perf_counter()
            await ours.send(Channel.BULK, count.to_bytes(8, "big"))
            for _ in range(count):
                await ours.receive()
            middle = time.perf_counter()
            await theirs.send_all(count.to_bytes(8, "big"))
            left = count * MESSAGE_BYTES
            while left:
                left -= len(await theirs.receive_some(min(left, MESSAGE_BYTES)))
            if number >= 0:
                rates["bulk"].append(count * MESSAGE_BYTES / 1e6 / (middle - started))
                rates["bare"].append(count * MESSAGE_BYTES / 1e6 / (time.perf_counter() - middle))
        await theirs.aclose()
    against = "receive_some of the same bytes"
    return [compare("256 KiB, trio", rates["bulk"], rates["bare"], unit="MB/s", against=against, at_least=0.5)]


async def memory_row(address: str, count: int) -> list[Row]:
    """What one more open connection costs this end, in KB."""
    connections = []
    for number in range(count + 10):
        if number == 10:
            before = resource_kb()
        connections.append(await connect_trio(address, key=CLIENT, hello=HELLO))
    cost = (resource_kb() - before) / count
    for connection in connections:
        connection._link.close()
    return [plain("an open connection, memory of one end", [cost], unit="KB")]


def resource_kb() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() // 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.serve:
        trio.run(serve_all)
        return
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)  # they are read when a process begins
    rounds, share = (MIN_ROUNDS, 4) if arguments.quick else (ROUNDS, 1)
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address, bare = server.stdout.readline().split()
        rows = trio.run(memory_row, address, 100)
        rows = trio.run(trio_rows, address, bare, rounds, share) + blocking_rows(address, bare, rounds, share) + rows
    finally:
        server.kill()
        server.wait()
    emit("transport", rows, rounds)


if __name__ == "__main__":
    main()
