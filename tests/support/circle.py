"""Real nodes that share one network file, each with a /16 and an operator of its own, for tests of what they make of each other."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from support.node import EPOCH_MS, QNode, until
from support.places import free_ports, host
from support.qrng_server import CHAIN

from qnode.api.peers import PeersPage, PeersStatus
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.network import AddressRecord, NodeClass, NodeRecord
from qustream.registry import NetworkFileWriter
from qustream.transport.blocking import connect
from qustream.transport.greeting import LocalHello
from qustream.wire.codec import Message, decode, encode
from qustream.wire.hello import Role
from qustream.wire.peers import AddressAnswer, AddressAsk

__all__ = ["Circle"]

NOBODY = [("127.0.0.1:9", bytes(32))]
KEEPER = SigningKey(b"k" * 32)


class Circle:
    """Daemons that share one network file; each has a /16 and an operator of its own. `with Circle(folder, 4) as circle`: all are stopped
    in the end, and those that still ran end in order. `status_listen`: for those whose pages must have an address that is known."""

    def __init__(self, folder: Path, count: int) -> None:
        self.writer = NetworkFileWriter.create(
            folder / "network.toml", CHAIN, KEEPER, genesis_ms=1_700_000_000_000, epoch_length_ms=EPOCH_MS, seed=bytes(32)
        )
        self.nodes = [QNode(folder / f"node{number}", key=SigningKey(bytes([number + 1]) * 32)) for number in range(count)]
        places = [[f"{host(30 + number)}:{port}" for port in free_ports(30 + number, 2)] for number in range(count)]
        self.listen, self.status_listen = ([place[which] for place in places] for which in (0, 1))
        for number, node in enumerate(self.nodes):
            record = NodeRecord(
                node.key.public, NodeClass.COMMUNITY, f"operator-{number}", bytes([number + 1]) * 16, (self.listen[number],), 1, True
            )
            self.writer.add_node(record)
            self.configure(number)
        self.writer.write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, _error: object, _trace: object) -> None:
        codes = [node.stop() for node in self.nodes]
        assert kind is not None or set(codes) <= {0, None}, [node.log_path.read_text() for node in self.nodes]

    def configure(self, number: int, **settings: object) -> None:
        values = {"network_file": str(self.writer.path), "network_key": self.writer.network_key_text, "listen": [self.listen[number]]}
        self.nodes[number].configure(NOBODY, **(values | settings))

    def network(self, node: QNode) -> PeersStatus:
        return PeersPage.from_json(node.page("/v1/peers")[1]).network

    def links(self, node: QNode) -> set[str]:
        return {link.node for link in self.network(node).links}

    def until_linked(self, *nodes: QNode) -> None:
        """Until these are linked, and stay so: while one still dials another, the link that stands may give way to the new one."""
        wanted = {node.id for node in nodes}

        def is_settled(node: QNode) -> bool:
            network = self.network(node)
            dialled = {dial.node for dial in network.dials if not dial.next_ms}
            return {link.node for link in network.links} >= wanted - {node.id} and not dialled & wanted

        until(lambda: all(is_settled(node) for node in nodes), patience_s=60)

    def ask(self, number: int, message: Message, key: SigningKey) -> bytes:
        """Ask the node as another one."""
        hello = LocalHello(CHAIN, (Role.NODE,))
        with connect(self.listen[number], key=key, hello=hello, expect=self.nodes[number].key.id, timeout_ms=60_000) as connection:
            return connection.call(encode(message), deadline_ms=60_000)

    def records(self, number: int, key: SigningKey) -> dict[bytes, tuple[str, ...]]:
        """The address records that the node has."""
        answer = decode(self.ask(number, AddressAsk(bytes(32), 0), key), AddressAnswer, max_bytes=1 << 19)
        keys = {node.key.id: node.key.public for node in self.nodes}
        found = {}
        for signed in answer.records:
            node = decode(signed.body, AddressRecord, max_bytes=9999).node
            found[node] = open_signed(signed, AddressRecord, keys[node], "address").addresses
        return found
