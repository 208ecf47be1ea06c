"""Real daemons, each with a network file of its own: a newer one given to one reaches all, and nothing else does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.bulk_pair import BulkNode
from support.circle import Circle
from support.daemon import until
from support.node import QNode
from support.qrng_server import CHAIN

from qnode.api.peers import PeersPage
from qnode.net.session import Session
from qnode.store.pieces import FileObject
from qustream.aio.connection import connect
from qustream.transport.greeting import LocalHello
from qustream.wire.bulk import NetworkFileAsk, NetworkFileOffer
from qustream.wire.codec import decode, encode
from qustream.wire.hello import Role
from qustream.wire.peers import HeightTold, LinkOpen, LinkReason

pytestmark = pytest.mark.e2e
PATIENCE_S = 60.0
TROUBLES = {"E-REGISTRY-SIGNATURE", "E-REGISTRY-VERSION", "E-REGISTRY-CHAIN", "E-REGISTRY-FORMAT", "E-FILE", "E-CHAIN-STALE"}


class Scattered(Circle):
    """Every node has its own copy of the file, as operators have."""

    def own_file(self, number: int) -> Path:
        return self.nodes[number].folder / "own.toml"

    def scatter(self) -> None:
        for number in range(len(self.nodes)):
            shutil.copy(self.writer.path, self.own_file(number))
            self.configure(number, network_file=str(self.own_file(number)), log_level="debug")

    def give(self, number: int, data: bytes) -> None:
        """As an operator does: beside it, then in its place."""
        fresh = self.own_file(number).with_suffix(".new")
        fresh.write_bytes(data)
        fresh.rename(self.own_file(number))

    def newer(self) -> bytes:
        self.writer.write()
        return self.writer.path.read_bytes()


@pytest.fixture
def circle(tmp_path: Path) -> Iterator[Scattered]:
    with Scattered(tmp_path, 4) as made:
        made.scatter()
        yield made


def height(node: QNode) -> int:
    return node.status().height


def troubles(node: QNode) -> set[str]:
    """What is wrong with its network file."""
    return {condition.code for condition in node.status().conditions} & TROUBLES


def until_all_at(nodes: list[QNode], wanted: int) -> None:
    until(lambda: all(height(node) == wanted for node in nodes), patience_s=PATIENCE_S)


def test_a_file_given_to_one_reaches_all_and_outlives_a_restart(circle: Scattered) -> None:
    for node in circle.nodes:
        node.start()
    circle.until_linked(*circle.nodes)
    first = [circle.own_file(number).read_bytes() for number in range(4)]
    newer = circle.newer()
    circle.give(0, newer)
    until_all_at(circle.nodes, 2)
    assert [circle.own_file(number).read_bytes() for number in (1, 2, 3)] == first[1:]
    assert all((node.data_dir / "network.toml").read_bytes() == newer for node in circle.nodes[1:])
    assert not (circle.nodes[0].data_dir / "network.toml").exists()
    for node in circle.nodes[1:]:
        page = PeersPage.from_json(node.page("/v1/peers")[1])
        assert page.network.bulk.fetched >= 1
        assert not troubles(node)
        assert [line for line in node.log() if line["level"] in ("warning", "error") and line["part"] == "network-file"] == []
    victim = circle.nodes[2]
    victim.kill()
    victim.start()
    assert height(victim) == 2
    victim.stop()
    circle.give(3, circle.newer())  # while one is away
    until_all_at([circle.nodes[0], circle.nodes[1], circle.nodes[3]], 3)
    victim.start()
    until_all_at(circle.nodes, 3)


def test_files_that_are_no_good_go_nowhere(circle: Scattered) -> None:
    """Forged or older ones at one node's place, and a node that swears to have version 99."""
    old = circle.writer.path.read_bytes()
    newer = circle.newer()
    circle.scatter()
    honest, liar = circle.nodes[:3], circle.nodes[3]
    for node in honest:
        node.start()
    circle.until_linked(*honest)
    for bad in (newer.replace(b"community", b"foundation", 1), old, newer[:-10]):
        circle.give(0, bad)
        until(lambda: troubles(honest[0]), patience_s=PATIENCE_S)
        assert [height(node) for node in honest] == [2, 2, 2]
        circle.give(0, newer)
        until(lambda: not troubles(honest[0]), patience_s=PATIENCE_S)
    lie = liar.folder / "lie.toml"
    lie.write_bytes(circle.newer().replace(b"community", b"foundation", 1))
    mallory = BulkNode(liar.folder / "mallory", key=liar.key)
    trio.run(swear, circle, mallory, FileObject.open(lie))
    assert mallory.bulk.count.served >= 1  # it was fetched, and looked at
    assert [height(node) for node in honest] == [2, 2, 2]
    assert not any((node.data_dir / "network.toml").exists() for node in honest)
    for node in honest:
        assert list((node.data_dir / "bulk").iterdir()) == []
    assert [line for line in honest[1].log() if line["level"] != "debug" and line["part"] == "network-file"] == []


async def swear(circle: Scattered, mallory: BulkNode, thing: FileObject) -> None:
    """Link to node 1 as a known node, tell of version 99, offer a forged file until it was fetched, and wait for what comes of it."""
    mallory.bulk.offer(thing)
    asked = trio.Event()

    async def answer(session: Session, body: bytes, deadline_ms: int) -> bytes:
        if body[1] == 85:
            decode(body, NetworkFileAsk, max_bytes=64)
            return encode(NetworkFileOffer(99, thing.id, thing.manifest.size))
        if body[1] == 82:
            asked.set()
        return await mallory.desk.answer(session, body, deadline_ms)

    mallory.answer = answer
    victim = circle.nodes[1]
    hello = LocalHello(CHAIN, (Role.NODE,))
    async with trio.open_nursery() as nursery:
        connection = await connect(circle.listen[1], key=mallory.key, hello=hello, expect=victim.key.id)

        async def stay() -> None:
            async with connection:
                await mallory.run_session(connection, ours=True)

        nursery.start_soon(stay)
        with trio.fail_after(60):
            while not mallory.sessions:
                await trio.sleep(0.01)
            session = mallory.sessions[victim.key.id]
            await session.call(encode(LinkOpen(LinkReason.CHOSEN, 0)), 10_000, max_answer_bytes=4096)
            await session.call(encode(HeightTold(99)), 10_000, max_answer_bytes=64)
            await asked.wait()
            while not [line for line in victim.log() if line["event"] == "no network file from a peer"]:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
