"""Hundreds of nodes on one server: each gets its share, whoever reads slowly or asks too much costs the others nothing."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
from support.qrng_server import CHAIN, NodeEnd, Server, node_key

from qustream.aio.connection import Connection, establish
from qustream.identity.signing import SigningKey
from qustream.transport.address import parse_address
from qustream.transport.engine import Engine
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role

pytestmark = pytest.mark.e2e
NODES = 240
UNITS = 3
NODES_AN_ADDRESS = 40  # as many as may shake hands from one address at once


@asynccontextmanager
async def dialled(server: Server, key: SigningKey, number: int) -> AsyncIterator[NodeEnd]:
    """A node's connection, from an address of its own part of loopback: as nodes of many operators would come."""
    where = parse_address(server.address)
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind((f"127.10.{number // NODES_AN_ADDRESS}.1", 0))
    sock.connect((where.host, where.port))
    sock.setblocking(False)
    engine = Engine("client", key=key, hello=LocalHello(CHAIN, (Role.NODE,)), expect=server.key.id)
    connection: Connection = await establish(sock, engine)
    async with connection:
        yield NodeEnd(server, key, connection)


async def test_everybody_gets_what_was_asked_for(tmp_path: Path) -> None:
    keys = [node_key(number + 1) for number in range(NODES)]
    done: set[int] = set()
    leaves: set[bytes] = set()
    # Handshakes at a time: the test's own machine does both ends, and the server waits ten seconds for each, and as long for its opening.
    limit = trio.CapacityLimiter(8)

    async def honest(number: int) -> None:
        async with AsyncExitStack() as stack:
            async with limit:
                node = await stack.enter_async_context(dialled(server, keys[number], number))
                await node.open(UNITS)
            units = await node.units(UNITS, timeout_s=300)
            leaves.update(unit.unit[:32] for unit in units)
            done.add(number)
            await trio.sleep_forever()  # all are in at once

    async def silent(number: int) -> None:
        """Asks for all it may and reads nothing more than the answer."""
        async with dialled(server, keys[number], number) as node:
            await node.open(256)
            await trio.sleep_forever()

    with Server(tmp_path, allow=keys, stock_units=32).running() as server:
        with trio.fail_after(360):
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(silent, number)
                for number in range(4, NODES):
                    nursery.start_soon(honest, number)
                while len(done) < NODES - 4:
                    await trio.sleep(0.05)
                status = await trio.to_thread.run_sync(server.status)
                assert len(status.feed.nodes) >= NODES - 4
                assert status.feed.refused == status.feed.handshakes_failed == 0
                nursery.cancel_scope.cancel()
        assert len(leaves) == UNITS * (NODES - 4)
