"""The check of the line, with real nodes that answer probes: quick, through slow relays, busy, or none."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from support.peers_town import Town, TownNode, town

from qnode.cli import doctor_bandwidth
from qnode.cli.doctor_bandwidth import Bandwidth
from qnode.core import bulk_limits as limits
from qnode.net.bulk import Bulk
from qnode.net.probe import PROBE_TAGS, Probes
from qustream.errors import QuStreamError


async def start_probed(t: Town, *nodes: TownNode) -> list[Bulk]:
    """Start them, and let them answer probes."""
    await t.start(*nodes)
    bulks = []
    for node in nodes:
        service = node.service
        bulk = Bulk(charge=lambda *_: None, stands=lambda _: True, clock_ms=service.steady_ms)
        probes = Probes(bulk.turns, charge=lambda *_: None, clock_ms=service.steady_ms, operator=bytes.hex)
        bulk.take_probe = probes.take
        service._desk.route(PROBE_TAGS, probes.answer)
        service.take_bulk = bulk.take
        bulks.append(bulk)
    return bulks


async def measured(t: Town, node: TownNode) -> str:
    return await trio.to_thread.run_sync(Bandwidth(node.key, t.registry, chain="town").measure)


def relay(address: str, bps: float) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """To `address`, at `bps` at most each way."""
    host, _, port = address.rpartition(":")

    async def pass_on(source: trio.SocketStream, target: trio.SocketStream) -> None:
        while data := await source.receive_some(16_384):
            await target.send_all(data)
            await trio.sleep(len(data) * 8 / bps)

    async def carry(one: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream(host, int(port)) as other, trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, one, other)
            await pass_on(other, one)
            nursery.cancel_scope.cancel()

    return carry


async def test_three_nodes_of_different_operators_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_bandwidth, "BANDWIDTH_MIN_MBPS", 0.01)  # of a loaded machine
    async with town(tmp_path, operators=["me", "ann", "ann", "ben", "cat", "dan"]) as t:
        node, *others = t.nodes
        bulks = await start_probed(t, *others)
        said = await measured(t, node)
        assert re.fullmatch(r"[\d.]+ Mbit/s down, [\d.]+ Mbit/s up, the median of 3 \((?:[\d.]+ down, [\d.]+ up(?:; )?){3}\)", said)
        asked = [other.operator for other, bulk in zip(others, bulks, strict=True) if other.id and bulk.turns._all.probes]
        assert len(asked) == len(set(asked)) == 3


async def test_a_line_that_is_too_slow_fails_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROBE_MS", 300)
    async with town(tmp_path, 4) as t:
        node, *others = t.nodes
        await start_probed(t, *others)
        for other in others:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            t.nursery.start_soon(trio.serve_listeners, relay(other.listen, 60e6), [listener])
            t.writer.set_node_addresses(other.id, (f"127.0.0.1:{listener.socket.getsockname()[1]}",))
        t.write()
        with pytest.raises(QuStreamError, match="E-BANDWIDTH") as caught:
            await measured(t, node)
        assert "a node needs 100 both ways" in caught.value.detail


async def test_one_that_is_slow_does_not_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([(500.0, 400.0), (3.0, 2.0), (600.0, 300.0)])

    async def given(*_: object) -> tuple[float, float]:
        return next(rates)

    monkeypatch.setattr(Bandwidth, "_measured", given)
    async with town(tmp_path, 4) as t:
        assert (await measured(t, t.nodes[0])).startswith("500 Mbit/s down, 300 Mbit/s up, the median of 3 (")


@pytest.mark.parametrize(("down", "up"), [(99.9, 500.0), (500.0, 99.9)])
async def test_both_ways_must_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, down: float, up: float) -> None:
    async def given(*_: object) -> tuple[float, float]:
        return down, up

    monkeypatch.setattr(Bandwidth, "_measured", given)
    async with town(tmp_path, 2) as t:
        with pytest.raises(QuStreamError, match="E-BANDWIDTH"):
            await measured(t, t.nodes[0])


async def test_nobody_to_ask_is_a_note(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as t:
        node, busy, _away = t.nodes
        [bulk] = await start_probed(t, busy)
        bulk.turns.begin_probe(bytes(32), busy.service.steady_ms(), "somebody")
        why = "no other node could be asked (E-PEER-LIMIT 1, E-PEER-UNREACHABLE 1); each can be asked four times an hour"
        assert await measured(t, node) == f"not measured: {why}"
    (tmp_path / "alone").mkdir()
    async with town(tmp_path / "alone", 1) as t:
        assert await measured(t, t.nodes[0]) == "not measured: the network has no other active node"


async def test_it_does_not_take_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_bandwidth, "PATIENCE_S", 0.1)

    async def endless(*_: object) -> tuple[float, float]:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(Bandwidth, "_measured", endless)
    async with town(tmp_path, 2) as t:
        assert await measured(t, t.nodes[0]) == "not measured: no other node could be asked (E-DEADLINE 1)"
