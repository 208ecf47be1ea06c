"""Real nodes on the hosts of a `Lan`: one network file, a daemon a host, each with an operator of its own.

with Nodes(folder, lan, ["ann", "ben"]) as nodes: nodes.start(); nodes.until_linked()
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from support.daemon import DaemonProcess, until
from support.lan.hosts import Host, Lan

from qnode.api.peers import PeersStatus
from qnode.api.status import StatusSnapshot
from qnode.cli.options import CREDENTIAL, KEYSTORE_KIND
from qnode.store.history import allow_first_start
from qustream.identity import keystore
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass, NodeRecord, QrngServerRecord
from qustream.registry import NetworkFileWriter
from qustream.transport.address import show_address

__all__ = ["CHAIN", "NO_WAY_IN", "PATIENCE_S", "PORT", "LanNode", "Nodes", "key_of"]

CHAIN = "lan-test"
PORT = 7400
PASSPHRASE = b"a passphrase for tests only"
EPOCH_MS = 3 * 86_400_000
# Links are dialled again after some seconds, twice as many each time; on a loaded machine a dial may fail for that alone. Mostly it is a
# tenth of this.
PATIENCE_S = 240.0
STARTS_AT_ONCE = 2
# A packet filter that lets nobody open a connection to this host.
NO_WAY_IN = "table inet filter {\n chain in {\n type filter hook input priority 0\n iif != lo tcp flags & (syn | ack) == syn drop\n }\n}\n"
# Nobody's machine has one: these nodes get no randomness, so they serve no keys, and are peers all the same.
QRNGD = "127.0.0.1:9"


def key_of(name: str) -> SigningKey:
    """The same name has the same key in every process."""
    return SigningKey(name.encode().ljust(32, b"."))


class LanNode(DaemonProcess):
    """A node's daemon on a host of its own."""

    start_s = 120.0  # many start at a time

    def __init__(self, name: str, folder: Path, host: Host, network_key: str, settings: Mapping[str, Any]) -> None:
        super().__init__("qnode", folder, credential=CREDENTIAL, passphrase=PASSPHRASE)
        self.name, self.host, self.key = name, host, key_of(name)
        self._network_key = network_key
        self.data_dir.mkdir(exist_ok=True)
        allow_first_start(self.data_dir)
        # The cheapest parameters a keystore may have: these tests are not about it.
        keystore.write(folder / "node.keystore", KEYSTORE_KIND, self.key.seed, PASSPHRASE, memory_kib=8, operations=1)
        self.configure(**settings)

    @property
    def id(self) -> str:
        return to_text(IdKind.NODE, self.key.id)

    @property
    def public_addresses(self) -> tuple[str, ...]:
        """Where others reach it, as its host is now."""
        return tuple(show_address(each, PORT) for each in self.host.addresses if "/" not in each)

    def configure(self, **settings: Any) -> None:
        """Write the configuration anew."""
        values = {
            "chain": CHAIN, "network_file": "network.toml", "network_key": self._network_key, "data_dir": "data",
            "keystore": "node.keystore", "listen": [f"0.0.0.0:{PORT}", f"[::]:{PORT}"], "status_listen": "127.0.0.1:8400",
            "held_blocks": 16, "log_level": "debug",
        } | settings  # fmt: skip
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        qrngd = to_text(IdKind.QRNG, key_of("qrngd").id)
        self.config.write_text("\n".join([*lines, f'[[qrngd]]\naddress = "{QRNGD}"\nid = "{qrngd}"', ""]))

    def start(self, *, pass_fds: Sequence[int] = (), **environment: str) -> None:
        self.host.run(super().start, pass_fds=pass_fds, **environment)

    def page(self, path: str) -> tuple[int, bytes]:
        return self.host.run(super().page, path)

    def status(self) -> StatusSnapshot:
        return StatusSnapshot.from_json(self.page("/v1/status")[1])

    def network(self) -> PeersStatus:
        return self.status().network

    def since_s(self, ids: Collection[str]) -> dict[str, int]:
        """To which of these it has a link, and since when: about, for a node counts by two clocks."""
        return {link.node: (link.since_ms + 500) // 1000 for link in self.network().links if link.node in ids}

    def codes(self) -> set[str]:
        """The conditions it has."""
        return {each.code for each in self.status().conditions}

    def rss_kib(self) -> int:
        """The memory it takes now."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])


class Nodes:
    """Nodes that know each other, and the keeper of their network file. Leaving the context stops whatever runs."""

    def __init__(self, folder: Path, lan: Lan, names: Iterable[str], **settings: Any) -> None:
        self.lan, self._folder = lan, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.writer = NetworkFileWriter.create(
            folder / "network.toml", CHAIN, key_of("keeper"),
            genesis_ms=int(time.time() * 1000) - 1000, epoch_length_ms=EPOCH_MS, seed=bytes(32),
        )  # fmt: skip
        self.writer.add_qrng_server(QrngServerRecord(key_of("qrngd").public, "none", emulated=True, active=True))
        self.nodes: dict[str, LanNode] = {}
        for name in names:
            self.nodes[name] = node = LanNode(name, folder / name, lan[name], self.writer.network_key_text, settings)
            self.license(name, node.public_addresses)

    def __getitem__(self, name: str) -> LanNode:
        return self.nodes[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(lambda node: node.stop(), self.nodes.values()))

    def license(self, name: str, addresses: Sequence[str], *, operator: str = "") -> None:
        """License whoever has the key of this name; not published yet."""
        self.writer.add_node(
            NodeRecord(key_of(name).public, NodeClass.COMMUNITY, operator or name, os.urandom(16), tuple(addresses), 1, True)
        )

    def publish(self, to: Iterable[str] = ()) -> int:
        """Write the network file and give it to these nodes' operators, all by default; its version."""
        self.writer.write()
        for name in to or self.nodes:
            fresh = self._folder / name / "fresh.toml"
            fresh.write_bytes(self.writer.path.read_bytes())
            fresh.rename(self._folder / name / "network.toml")
        return self.writer.version

    def start(self, names: Collection[str] = ()) -> None:
        """Start these, all by default, a few at a time: more would only take longer each."""
        with ThreadPoolExecutor(STARTS_AT_ONCE) as threads:
            list(threads.map(lambda name: self.nodes[name].start(), names or self.nodes))

    def linked(self, name: str) -> set[str]:
        """The names it has links with."""
        names = {node.id: node.name for node in self.nodes.values()}
        return {names.get(link.node, link.node) for link in self.nodes[name].network().links}

    def apart(self, names: Collection[str]) -> list[tuple[str, str]]:
        """Pairs of these without a link."""
        linked = {name: self.linked(name) for name in names}
        return [(a, b) for a in names for b in names if a < b and not (b in linked[a] and a in linked[b])]

    def until_linked(self, names: Collection[str] = ()) -> None:
        """Until each of these is linked to each other."""
        self.until(lambda: not self.apart(names or list(self.nodes)), lambda: self.apart(names or list(self.nodes)))

    def until(self, condition: Callable[[], object], picture: Callable[[], object] = lambda: "") -> None:
        """Wait for it; `picture`: what to say if it does not come about."""
        try:
            until(condition, patience_s=PATIENCE_S)
        except AssertionError:
            raise AssertionError(f"it did not come about: {picture()}") from None
