"""A real qrngd on loopback and nodes that take its feed: credit, proofs, fairness, refusals, restarts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.qrng_server import CHAIN, NodeEnd, Server, node_key

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.model.entropy import R_BYTES
from qustream.model.network import NodeClass, NodeRecord
from qustream.registry import NetworkFileWriter
from qustream.wire.feed import FeedOpen

pytestmark = pytest.mark.e2e
ALICE, BOB, CAROL, MALLORY = (node_key(number) for number in (1, 2, 3, 4))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    with Server(tmp_path_factory.mktemp("qrngd"), allow=[ALICE, BOB, CAROL]).running() as running:
        yield running


async def test_a_node_gets_exactly_the_units_it_asked_for(server: Server) -> None:
    await server.wait_for("live")
    async with await NodeEnd.dial(server, ALICE) as connection:
        node = NodeEnd(server, ALICE, connection)
        assert (await node.open(3)).state == "live"
        first = await node.units(3)
        assert await node.is_quiet()
        await node.grant(2)
        units = first + await node.units(2)
        assert await node.is_quiet()
        line = next(n for n in server.status().feed.nodes if n.units)
        assert (line.units, line.credit, line.in_flight, line.transport) == (5, 0, 0, "tls")
    sequences = [unit.proof.sequence for unit in units]
    assert sequences == sorted(set(sequences))
    assert len({unit.unit for unit in units}) == 5
    attestation = units[0].attestation
    assert attestation.device.emulated
    assert attestation.expires_ms - attestation.end_ms == 3_600_000
    assert attestation.health.windows_failed == 0
    # What is attested is enough: 16 bytes out for 32 raw bytes, of every unit of the batch.
    assert attestation.health.samples >= 2 * R_BYTES * attestation.leaves


async def test_nodes_take_turns_and_get_different_units(server: Server) -> None:
    got: dict[bytes, int] = {}
    units: set[bytes] = set()

    async def take(key: SigningKey) -> None:
        async with await NodeEnd.dial(server, key) as connection:
            node = NodeEnd(server, key, connection)
            await node.open(40)
            received = await node.units(40)
            got[key.id] = len(received)
            units.update(unit.unit for unit in received)

    async with trio.open_nursery() as nursery:
        for key in (ALICE, BOB, CAROL):
            nursery.start_soon(take, key)
    assert set(got.values()) == {40}
    assert len(units) == 120


async def refusal(server: Server, key: SigningKey, message: FeedOpen) -> str:
    """The code with which the server ends the connection; it may do so before it was asked anything."""
    try:
        async with await NodeEnd.dial(server, key) as connection:
            await NodeEnd(server, key, connection).ask(message)
    except QuStreamError as error:
        return error.code
    return "not refused"


async def test_who_is_not_allowed_is_refused_by_name(server: Server) -> None:
    before = server.status().feed.refused
    assert await refusal(server, MALLORY, FeedOpen(MALLORY.id, 1)) == "E-FEED-REFUSED"
    assert await refusal(server, MALLORY, FeedOpen(ALICE.id, 1)) == "E-FEED-REFUSED"
    assert await refusal(server, BOB, FeedOpen(ALICE.id, 1)) == "E-PEER-IDENTITY"
    assert server.status().feed.refused == before + 2


async def test_too_much_credit_ends_the_feed(server: Server) -> None:
    assert await refusal(server, BOB, FeedOpen(BOB.id, 257)) == "E-FEED-CREDIT"
    async with await NodeEnd.dial(server, BOB) as connection:
        node = NodeEnd(server, BOB, connection)
        await node.open(0)
        await node.grant(1)
        await node.units(1)
        with pytest.raises(QuStreamError, match="E-FEED-CREDIT"):
            await node.grant(257)


async def test_a_feed_is_opened_once(server: Server) -> None:
    async with await NodeEnd.dial(server, BOB) as connection:
        node = NodeEnd(server, BOB, connection)
        await node.open(0)
        with pytest.raises(QuStreamError, match="E-FRAME-ORDER"):
            await node.open(0)


async def test_a_newer_connection_of_a_node_takes_over(server: Server) -> None:
    async with await NodeEnd.dial(server, CAROL) as old, await NodeEnd.dial(server, CAROL) as new:
        first, second = NodeEnd(server, CAROL, old), NodeEnd(server, CAROL, new)
        await first.open(0)
        await second.open(2)
        with pytest.raises(QuStreamError, match="E-PEER-CLOSED"):
            await first.grant(1)
        assert len(await second.units(2)) == 2


async def test_who_does_not_read_stops_nobody_else(server: Server) -> None:
    async with await NodeEnd.dial(server, ALICE) as slow, await NodeEnd.dial(server, BOB) as quick:
        await NodeEnd(server, ALICE, slow).open(256)  # and never reads
        node = NodeEnd(server, BOB, quick)
        await node.open(100)
        assert len(await node.units(100)) == 100
        lines = {n.units == 100: n for n in server.status().feed.nodes}
        assert lines[False].units < 100
        assert lines[False].in_flight <= 128


async def test_strangers_cannot_write_into_the_log(server: Server) -> None:
    before = len(server.log())
    host, _, port = server.address.rpartition(":")
    for junk in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4000)):
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(junk)
    assert await refusal(server, MALLORY, FeedOpen(MALLORY.id, 1)) == "E-FEED-REFUSED"
    assert await refusal(server, BOB, FeedOpen(BOB.id, 999)) == "E-FEED-CREDIT"
    assert len(server.log()) == before


async def test_numbers_never_repeat_across_kill_9(tmp_path: Path) -> None:
    server = Server(tmp_path, allow=[ALICE])
    seen: list[tuple[int, int]] = []
    for _ in range(3):
        server.start()
        async with await NodeEnd.dial(server, ALICE) as connection:
            node = NodeEnd(server, ALICE, connection)
            await node.open(4)
            seen += [(unit.proof.sequence, unit.attestation.batch) for unit in await node.units(4)]
            await node.grant(100)
            server.kill()  # in the middle of more
    sequences = [sequence for sequence, _ in seen]
    assert sequences == sorted(set(sequences))
    runs = [{batch for _, batch in seen[first : first + 4]} for first in (0, 4, 8)]
    assert max(runs[0]) < min(runs[1])
    assert max(runs[1]) < min(runs[2])


async def test_the_local_socket_knows_its_users(tmp_path: Path) -> None:
    with Server(tmp_path, allow=[ALICE], listen=[], unix=str(tmp_path / "feed.sock")).running() as server:
        async with await NodeEnd.dial(server, ALICE) as connection:
            node = NodeEnd(server, ALICE, connection)
            await node.open(5)
            assert len(await node.units(5)) == 5
            assert server.status().feed.nodes[0].transport == "unix"
        assert await refusal(server, BOB, FeedOpen(BOB.id, 1)) == "E-FEED-REFUSED"
    assert not (tmp_path / "feed.sock").exists()


async def test_the_local_socket_refuses_other_users(tmp_path: Path) -> None:
    stranger = os.geteuid() + 12345
    with Server(tmp_path, allow=[ALICE], listen=[], unix=str(tmp_path / "feed.sock"), unix_uids=[stranger]).running() as server:
        assert await refusal(server, ALICE, FeedOpen(ALICE.id, 1)) == "E-FEED-REFUSED"


async def test_the_network_file_says_who_may(tmp_path: Path) -> None:
    authority = SigningKey(os.urandom(32))
    writer = NetworkFileWriter.create(
        tmp_path / "network.toml", CHAIN, authority, genesis_ms=1_700_000_000_000, epoch_length_ms=86_400_000, seed=bytes(32)
    )
    for number, key in enumerate((ALICE, BOB)):
        licence = number.to_bytes(16, "big")
        writer.add_node(NodeRecord(key.public, NodeClass.COMMUNITY, f"operator {number}", licence, (), 1, True))
    writer.write()
    settings = {"network_file": "network.toml", "network_key": writer.network_key_text}
    with Server(tmp_path, **settings).running() as server:
        assert server.status().feed.allowed == 2
        assert await refusal(server, CAROL, FeedOpen(CAROL.id, 1)) == "E-FEED-REFUSED"
        async with await NodeEnd.dial(server, ALICE) as alice, await NodeEnd.dial(server, BOB) as bob:
            first, second = NodeEnd(server, ALICE, alice), NodeEnd(server, BOB, bob)
            await first.open(1)
            await second.open(1)
            writer.set_node_active(ALICE.id, False)
            writer.write()
            with trio.fail_after(60):
                reason = await alice.wait_closed()
            assert reason.code == "E-FEED-REFUSED"
            await second.grant(1)
            assert len(await second.units(2)) == 2
        (tmp_path / "network.toml").write_bytes(b"torn")
        with trio.fail_after(60):
            while not server.status().registry_trouble:
                await trio.sleep(0.05)
        assert await refusal(server, ALICE, FeedOpen(ALICE.id, 1)) == "E-FEED-REFUSED"  # the last good file still holds
