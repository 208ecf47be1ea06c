"""A real qrngd and its public leaf log: nothing leaves that is not in it, and whatever interrupts the server, nothing comes twice."""

from __future__ import annotations

import hashlib
import json
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from support.emulated_line import MAKER, qcicada_line
from support.qrng_server import CHAIN, NodeEnd, Server, Unit, node_key

from qustream.entropy import leaf_hash
from qustream.errors import QuStreamError
from qustream.identity.device_evidence import check_evidence
from qustream.identity.signing import SigningKey
from qustream.leaflog.audit import AuditedLog, audit
from qustream.leaflog.segment import segment_name
from qustream.leaflog.source import DirectorySource, LogPages, LogSource
from qustream.model.entropy import MATERIAL_BYTES
from qustream.model.ids import IdKind, to_text

pytestmark = pytest.mark.e2e
ALICE, BOB = node_key(1), node_key(2)
LIVES = 6
CREDIT = 100  # of each node: more than it gets before the server is killed


@dataclass
class Delivered:
    """Every unit that reached a node, over all lives of the server."""

    units: list[tuple[SigningKey, Unit]] = field(default_factory=list)

    def wanted(self, server: Server) -> dict[tuple[bytes, int], set[bytes]]:
        """Leaf hashes by server and batch, as the audit looks for them."""
        found: dict[tuple[bytes, int], set[bytes]] = {}
        for key, unit in self.units:
            leaf = leaf_hash(key.id, unit.proof.sequence, unit.unit[:MATERIAL_BYTES])
            found.setdefault((server.key.id, unit.attestation.batch), set()).add(leaf)
        return found


def audited(server: Server, source: LogSource, delivered: Delivered) -> AuditedLog:
    (log,) = audit([source], chain=CHAIN, server_of={server.key.id: server.record()}.get, wanted=delivered.wanted(server))
    return log


@contextmanager
def started(server: Server) -> Iterator[Server]:
    """Running until it is killed; stopped at the latest here."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def one_life(server: Server, delivered: Delivered, *, units: int) -> None:
    """Two nodes take what they get; when `units` have come in this life the server is killed with more on the way."""
    until = len(delivered.units) + units

    async def take_all(key: SigningKey) -> None:
        async with await NodeEnd.dial(server, key) as connection:
            node = NodeEnd(server, key, connection)
            await node.open(CREDIT)
            while True:
                delivered.units += [(key, unit) for unit in await node.next_message()]
                if len(delivered.units) >= until and server.process is not None:
                    server.kill()

    async def take(key: SigningKey) -> None:
        with pytest.raises(QuStreamError) as caught:
            await take_all(key)
        assert caught.value.code in ("E-PEER-CLOSED", "E-PEER-UNREACHABLE")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for key in (ALICE, BOB):
                nursery.start_soon(take, key)


async def test_restarts_never_deliver_material_twice_shown_over_attestations(tmp_path: Path) -> None:
    server, delivered, chance = Server(tmp_path / "qrngd", allow=[ALICE, BOB]), Delivered(), random.Random(4)
    for _ in range(LIVES):
        with started(server):
            await server.wait_for("live")
            await one_life(server, delivered, units=chance.randrange(1, 80))
        assert server.process is None
    with started(server):
        pages = LogPages(f"http://{server.pages}")
        log = await trio.to_thread.run_sync(audited, server, pages, delivered)
        index = json.loads(server.page("/v1/log")[1])
        assert (index["chain"], index["server"]) == (CHAIN, to_text(IdKind.QRNG, server.key.id))
    assert len(delivered.units) > LIVES
    # The audit has shown that no material and no number stands twice in what was published; here: what was delivered was published.
    assert log.found == set().union(*delivered.wanted(server).values())
    assert len(log.found) == len(delivered.units) <= log.leaves
    assert len({hashlib.sha256(unit.unit).digest() for _, unit in delivered.units}) == len(delivered.units)
    assert len({(key.id, unit.proof.sequence) for key, unit in delivered.units}) == len(delivered.units)
    for key in (ALICE, BOB):
        sequences = [unit.proof.sequence for owner, unit in delivered.units if owner is key]
        assert sequences == sorted(sequences), "over all lives"
    assert log.first_batch >= 1 << 40, "of the first run"
    assert log.last_batch >= LIVES << 40, "of the last"


async def test_a_torn_log_is_mended_and_a_damaged_one_stops_the_server(tmp_path: Path) -> None:
    server, delivered = Server(tmp_path / "qrngd", allow=[ALICE, BOB]), Delivered()
    with started(server):
        await server.wait_for("live")
        await one_life(server, delivered, units=10)
    folder = server.data_dir / "leaves"
    newest = folder / segment_name(0)
    whole = newest.read_bytes()
    newest.write_bytes(whole + b"\x00\x00\x10\x00torn")
    with started(server):
        await server.wait_for("live")
        await one_life(server, delivered, units=10)
    log = audited(server, DirectorySource(folder), delivered)
    assert len(log.found) == len(delivered.units)
    damaged = bytearray(newest.read_bytes())
    damaged[200] ^= 0xFF
    newest.write_bytes(damaged)
    with pytest.raises(AssertionError, match="E-DATA-CORRUPT"):
        server.start()
    assert server.stop() == 78


async def test_a_run_number_from_a_backup_delivers_nothing(tmp_path: Path) -> None:
    """The run file is put back as somebody who restores a backup would: the log knows better."""
    server, delivered = Server(tmp_path / "qrngd", allow=[ALICE, BOB]), Delivered()
    for _ in range(2):
        with started(server):
            await server.wait_for("live")
            await one_life(server, delivered, units=4)
    (server.data_dir / "run").write_text("0\n")
    with started(server):
        await server.wait_for("live")
        async with await NodeEnd.dial(server, ALICE) as connection:
            node = NodeEnd(server, ALICE, connection)
            await node.open(4)
            with trio.fail_after(60):
                while "E-DATA-CORRUPT" not in (await trio.to_thread.run_sync(server.status)).leaf_log_trouble:
                    await trio.sleep(0.02)
            assert await node.is_quiet()
    log = audited(server, DirectorySource(server.data_dir / "leaves"), delivered)
    assert len(log.found) == len(delivered.units)


async def test_the_chain_from_the_maker_to_a_published_leaf(tmp_path: Path) -> None:
    """A device with a key of its own on a serial line: what a node gets and what an auditor reads name its maker, and only its maker."""
    link, maker = tmp_path / "qcicada", MAKER.authority.public
    device = f'kind = "qcicada"\npath = "{link}"\nmin_entropy_millibits = 7000\ndevice_authority = "{maker.hex()}"'
    delivered = Delivered()
    with qcicada_line(link), Server(tmp_path / "qrngd", allow=[ALICE], device=device).running() as server:
        async with await NodeEnd.dial(server, ALICE) as connection:
            node = NodeEnd(server, ALICE, connection)
            await node.open(2)
            delivered.units = [(ALICE, unit) for unit in await node.units(2)]
        log = await trio.to_thread.run_sync(audited, server, LogPages(f"http://{server.pages}"), delivered)
    assert len(log.found) == 2
    for _, unit in delivered.units:
        check_evidence(unit.attestation.device, [maker])
        with pytest.raises(QuStreamError) as caught:
            check_evidence(unit.attestation.device, [bytes(64)])
        assert caught.value.code == "E-ATTESTATION-EVIDENCE"


async def test_a_server_whose_disk_takes_no_more_stops_and_goes_on_by_itself(tmp_path: Path) -> None:
    server = Server(tmp_path / "qrngd", allow=[ALICE])
    with server.running():
        await server.wait_for("live")
        assert server.process is not None
        pid, before = server.process.pid, resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        async with await NodeEnd.dial(server, ALICE) as connection:
            node = NodeEnd(server, ALICE, connection)
            await node.open(1)
            await node.units(1)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
            await node.grant(1)
            told = await node.until_told("absent")
            assert told.code == "E-FEED-STOPPED"
            status = await trio.to_thread.run_sync(server.status)
            assert (status.ready, status.code, status.feed.units_delivered) == (False, "E-FILE", 1)
        # The node has gone, and would ask for nothing: all the same it is noticed that the disk takes more again.
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        with trio.fail_after(60):
            while not (await trio.to_thread.run_sync(server.status)).ready:
                await trio.sleep(0.05)
        async with await NodeEnd.dial(server, ALICE) as connection:
            node = NodeEnd(server, ALICE, connection)
            assert (await node.open(1)).state == "live"
            await node.units(1)
    (log,) = audit([DirectorySource(server.data_dir / "leaves")], chain=CHAIN, server_of={server.key.id: server.record()}.get)
    assert log.leaves == 2
