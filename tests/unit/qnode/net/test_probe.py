"""The probe of a line over real connections: measured both ways, one at a time, and nothing beyond what was announced."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from support.bulk_pair import HELLO, BulkNode, listening

from qnode.core import bulk_limits as limits
from qnode.net.probe import PROBE_TAGS, Probes, probe_down, probe_up
from qnode.net.session import NODE_CHANNELS
from qustream.aio.connection import Connection, connect
from qustream.errors import QuStreamError
from qustream.transport.limits import Channel
from qustream.wire.bulk import PIECE_BYTES, ProbeAsk, ProbeData, ProbeTold, ProbeWay
from qustream.wire.codec import decode, encode

SIZE = 8 << 20


@pytest.fixture
def bob(tmp_path: Path) -> BulkNode:
    node = BulkNode(tmp_path / "bob")
    node.probes = Probes(  # type: ignore[attr-defined]
        node.bulk.turns,
        charge=lambda session, code: node.charged.append((session.peer, code)),
        clock_ms=lambda: int(trio.current_time() * 1000),
        operator=bytes.hex,
    )
    node.bulk.take_probe = node.probes.take  # type: ignore[attr-defined]
    node.desk.route(PROBE_TAGS, node.probes.answer)  # type: ignore[attr-defined]
    return node


@pytest.fixture
def alice(tmp_path: Path) -> BulkNode:
    return BulkNode(tmp_path / "alice")


@asynccontextmanager
async def asking(alice: BulkNode, bob: BulkNode) -> AsyncIterator[Connection]:
    async with (
        listening([bob]),
        await connect(bob.address, key=alice.key, hello=HELLO, expect=bob.id, permit=lambda _: NODE_CHANNELS) as connection,
    ):
        yield connection


async def ask(connection: Connection, way: ProbeWay, size: int) -> ProbeTold:
    answer = await connection.call(encode(ProbeAsk(way, size)), deadline_ms=20_000, max_answer_bytes=64)
    return decode(answer, ProbeTold, max_bytes=64)


async def send(connection: Connection, size: int) -> None:
    await connection.send(Channel.BULK, encode(ProbeData(bytes(size))))


async def test_a_line_is_measured_both_ways(alice: BulkNode, bob: BulkNode) -> None:
    async with asking(alice, bob) as connection:
        assert await probe_down(connection, SIZE) > 1
        assert await probe_up(connection, SIZE) > 1
        assert await probe_down(connection, SIZE) > 1
    assert not bob.charged


async def test_a_slow_line_is_measured_by_what_it_carries(alice: BulkNode, bob: BulkNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROBE_MS", 400)
    async with listening([bob]), trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, slowed(bob.address), [listener])
        async with await connect(
            f"127.0.0.1:{port}", key=alice.key, hello=HELLO, expect=bob.id, permit=lambda _: NODE_CHANNELS
        ) as connection:
            down, up = await probe_down(connection, 4 << 20), await probe_up(connection, 4 << 20)
        nursery.cancel_scope.cancel()
    assert 0 < down < 60
    assert 0 < up < 60


def slowed(address: str) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """A relay to `address` that carries 40 Mbit/s at most each way."""
    host, _, port = address.rpartition(":")

    async def pass_on(source: trio.SocketStream, target: trio.SocketStream) -> None:
        source.setsockopt(1, 8, 65_536)  # SOL_SOCKET, SO_RCVBUF: a line holds little
        while data := await source.receive_some(16_384):
            await target.send_all(data)
            await trio.sleep(len(data) * 8 / 40e6)

    async def relay(one: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream(host, int(port)) as other, trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, one, other)
            await pass_on(other, one)
            nursery.cancel_scope.cancel()

    return relay


async def test_one_at_a_time_and_a_few_an_hour(alice: BulkNode, bob: BulkNode) -> None:
    async with asking(alice, bob) as connection:
        assert await ask(connection, ProbeWay.UP, SIZE) == ProbeTold(0, 0, 0)
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT") as caught:
            await ask(connection, ProbeWay.DOWN, SIZE)
        assert caught.value.retry_after_ms
        await send(connection, 1000)
        assert (await ask(connection, ProbeWay.HEARD, 1000)).size == 1000
        for _ in range(limits.PROBES_PEER - 1):
            await ask(connection, ProbeWay.UP, SIZE)
            bob.bulk.turns.end_probe(alice.id)
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
            await ask(connection, ProbeWay.UP, SIZE)


async def test_nothing_is_heard_of_a_probe_that_is_none(alice: BulkNode, bob: BulkNode) -> None:
    async with asking(alice, bob) as connection:
        with pytest.raises(QuStreamError, match="E-REQUEST-INVALID"):
            await ask(connection, ProbeWay.HEARD, 1000)


async def test_who_announces_and_does_not_send_is_answered_after_a_while(
    alice: BulkNode, bob: BulkNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROBE_MS", 50)
    monkeypatch.setattr(limits, "PROBE_OVER_MS", 2_000)
    async with asking(alice, bob) as connection:
        await ask(connection, ProbeWay.UP, SIZE)
        await send(connection, 10)
        assert (await ask(connection, ProbeWay.HEARD, 1000)).size == 10
        await send(connection, 990)  # too late, and no lie
        assert (await ask(connection, ProbeWay.DOWN, 100)).size == 100
    assert not bob.charged


@pytest.mark.parametrize("announced", [0, 2 * PIECE_BYTES - 1])
async def test_more_than_was_announced_is_charged_and_ends_the_connection(alice: BulkNode, bob: BulkNode, announced: int) -> None:
    async with asking(alice, bob) as connection:
        if announced:
            await ask(connection, ProbeWay.UP, announced)
        for _ in range(2):
            await send(connection, PIECE_BYTES)
        with trio.fail_after(60):
            assert (await connection.wait_closed()).code == "E-FRAME-ORDER"
    assert bob.charged == [(alice.id, "E-FRAME-ORDER")]
