"""Real daemons that make a network by themselves: links, records, kill -9, striking off; and keys served beside."""

from __future__ import annotations

import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.network import Network
from support.node import EPOCH_MS, QNode, until
from support.places import free_port, host
from support.qrng_server import CHAIN

from qnode.api.peers import PeersPage
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.network import AddressRecord, NodeClass, NodeRecord
from qustream.registry import NetworkFileWriter
from qustream.transport.blocking import connect
from qustream.transport.greeting import LocalHello
from qustream.wire.codec import Message, decode, encode
from qustream.wire.hello import Role
from qustream.wire.peers import AddressAnswer, AddressAsk

pytestmark = pytest.mark.e2e
NOBODY = [("127.0.0.1:9", bytes(32))]
KEEPER = SigningKey(b"k" * 32)


class Circle:
    """Daemons that share one network file; each has a /16 and an operator of its own."""

    def __init__(self, folder: Path, count: int) -> None:
        self.writer = NetworkFileWriter.create(
            folder / "network.toml", CHAIN, KEEPER, genesis_ms=1_700_000_000_000, epoch_length_ms=EPOCH_MS, seed=bytes(32)
        )
        self.nodes = [QNode(folder / f"node{number}", key=SigningKey(bytes([number + 1]) * 32)) for number in range(count)]
        self.listen = [f"{host(30 + number)}:{free_port(30 + number)}" for number in range(count)]
        for number, node in enumerate(self.nodes):
            record = NodeRecord(
                node.key.public, NodeClass.COMMUNITY, f"operator-{number}", bytes([number + 1]) * 16, (self.listen[number],), 1, True
            )
            self.writer.add_node(record)
            self.configure(number)
        self.writer.write()

    def configure(self, number: int, **settings: object) -> None:
        values = {"network_file": str(self.writer.path), "network_key": self.writer.network_key_text, "listen": [self.listen[number]]}
        self.nodes[number].configure(NOBODY, **(values | settings))

    def links(self, node: QNode) -> set[str]:
        page = PeersPage.from_json(node.page("/v1/peers")[1])
        return {link.node for link in page.network.links}

    def until_linked(self, *nodes: QNode) -> None:
        wanted = {node.id for node in nodes}
        until(lambda: all(self.links(node) >= wanted - {node.id} for node in nodes), patience_s=60)

    def ask(self, number: int, message: Message, key: SigningKey) -> bytes:
        """Ask the node as another one."""
        hello = LocalHello(CHAIN, (Role.NODE,))
        with connect(self.listen[number], key=key, hello=hello, expect=self.nodes[number].key.id, timeout_ms=10_000) as connection:
            return connection.call(encode(message), deadline_ms=10_000)

    def records(self, number: int, key: SigningKey) -> dict[bytes, tuple[str, ...]]:
        """The address records that the node has."""
        answer = decode(self.ask(number, AddressAsk(bytes(32)), key), AddressAnswer, max_bytes=1 << 19)
        keys = {node.key.id: node.key.public for node in self.nodes}
        found = {}
        for signed in answer.records:
            node = decode(signed.body, AddressRecord, max_bytes=9999).node
            found[node] = open_signed(signed, AddressRecord, keys[node], "address").addresses
        return found


@pytest.fixture
def circle(tmp_path: Path) -> Iterator[Circle]:
    made = Circle(tmp_path, 4)
    try:
        yield made
    finally:
        codes = [node.stop() for node in made.nodes]
    assert set(codes) <= {0, None}, [node.log_path.read_text() for node in made.nodes]


def test_nodes_make_a_network_and_lose_and_find_each_other(circle: Circle) -> None:
    for node in circle.nodes:
        node.start()
    circle.until_linked(*circle.nodes)
    victim, others = circle.nodes[3], circle.nodes[:3]
    victim.kill()
    until(lambda: all(victim.id not in circle.links(node) for node in others), patience_s=60)
    victim.start()
    circle.until_linked(*circle.nodes)
    circle.writer.set_node_active(victim.key.id, False)
    circle.writer.write()
    until(lambda: all(victim.id not in circle.links(node) for node in others), patience_s=60)
    circle.until_linked(*others)
    until(lambda: not circle.links(victim), patience_s=60)
    for node in others:
        assert [line for line in node.log() if line["level"] not in ("info", "debug") and line["part"] != "qnode"] == []


def test_where_a_node_moves_to_reaches_all_and_is_remembered(circle: Circle) -> None:
    """It listens where the network file does not say, tells so, and is found there; those who were told know it after a restart too."""
    mover, others = circle.nodes[0], circle.nodes[1:]
    circle.listen[0] = f"{host(36)}:{free_port(36)}"
    circle.configure(0, addresses=[circle.listen[0]])
    for node in circle.nodes:
        node.start()
    circle.until_linked(*circle.nodes)
    asker = circle.nodes[1].key
    for number in (0, 2, 3):
        until(lambda number=number: circle.records(number, asker) == {mover.key.id: (circle.listen[0],)}, patience_s=60)  # type: ignore[misc]
    for node in circle.nodes:
        node.stop()
    others[2].start()
    assert circle.records(3, asker) == {mover.key.id: (circle.listen[0],)}


def test_a_network_that_serves_keys_is_linked_beside(network: Network, tmp_path: Path) -> None:
    """The six nodes of the test network, all on one machine: each is linked to each, and a letter goes through them meanwhile."""
    names = network.names("foundation") + network.names("community")
    pages = {name: tomllib.loads((network.directory / name / "qnode.toml").read_text())["status_listen"] for name in names}

    def links(name: str) -> int:
        with urllib.request.urlopen(f"http://{pages[name]}/v1/peers", timeout=10) as answer:
            return len(PeersPage.from_json(answer.read()).network.links)

    until(lambda: all(links(name) == 5 for name in names), patience_s=60)
    sender, reader = network.user("peers-sender"), network.user("peers-reader", requests=0)
    (tmp_path / "letter").write_bytes(b"a letter")
    assert sender("encrypt", tmp_path / "letter", "--to", reader.id, "-o", tmp_path / "letter.qs").code == 0
    assert reader("open", tmp_path / "letter.qs", "-o", tmp_path / "opened").code == 0
    assert (tmp_path / "opened").read_bytes() == b"a letter"
