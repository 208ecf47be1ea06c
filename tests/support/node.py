"""A real qnode in a process of its own, with a signed network file and any number of QRNG servers, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support.daemon import DaemonProcess, until
from support.network import Finished
from support.places import host
from support.qrng_server import CHAIN, Server

from qnode.api.status import StatusSnapshot
from qnode.cli.options import CREDENTIAL, KEYSTORE_KIND
from qnode.store.history import allow_first_start
from qustream.identity import keystore
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass, NodeRecord
from qustream.registry import NetworkFileWriter

__all__ = ["PASSPHRASE", "QNode", "until"]

PASSPHRASE = b"a node's passphrase for tests only"
EPOCH_MS = 3 * 86_400_000
COMMAND_S = 120.0  # `doctor` alone may look for a minute at peers and at the line


class QNode(DaemonProcess):
    """`with QNode(folder, servers=[server]).running() as node:`; may run several times on the same data.

    `servers`: running QRNG servers to register and to link to; `others`: (address, id) of links to nobody that is registered. The network
    file is written by `writer`."""

    def __init__(
        self,
        folder: Path,
        servers: Sequence[Server] = (),
        *,
        key: SigningKey | None = None,
        others: Sequence[tuple[str, bytes]] = (),
        **settings: Any,
    ) -> None:
        super().__init__("qnode", folder, credential=CREDENTIAL, passphrase=PASSPHRASE)
        self.key = key or SigningKey(os.urandom(32))
        self.authority = SigningKey(os.urandom(32))
        self.writer = NetworkFileWriter.create(
            folder / "network.toml", CHAIN, self.authority,
            genesis_ms=int(time.time() * 1000) - 1000, epoch_length_ms=EPOCH_MS, seed=bytes(32),
        )  # fmt: skip
        for server in servers:
            self.writer.add_qrng_server(server.record())
        self.writer.add_node(NodeRecord(self.key.public, NodeClass.FOUNDATION, "tests", bytes(16), ("127.8.0.1:7400",), 1, True))
        self.writer.write()
        self.data_dir.mkdir(exist_ok=True)
        allow_first_start(self.data_dir)
        # The cheapest parameters a keystore may have: these tests are not about it.
        keystore.write(folder / "node.keystore", KEYSTORE_KIND, self.key.seed, PASSPHRASE, memory_kib=8, operations=1)
        links = [(server.address, server.key.id) for server in servers] + list(others)
        self.configure(links, **settings)

    @property
    def id(self) -> str:
        return to_text(IdKind.NODE, self.key.id)

    def configure(self, links: Sequence[tuple[str, bytes]], **settings: Any) -> None:
        """Write the configuration anew."""
        values = {
            "chain": CHAIN,
            "network_file": "network.toml",
            "network_key": self.writer.network_key_text,
            "data_dir": "data",
            "keystore": "node.keystore",
            "listen": [f"{host(8)}:0"],
            "status_listen": f"{host(8)}:0",
            "held_blocks": 64,
        } | settings
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        lines += [f'[[qrngd]]\naddress = "{address}"\nid = "{to_text(IdKind.QRNG, server)}"' for address, server in links]
        self.config.write_text("\n".join([*lines, ""]))

    def status(self) -> StatusSnapshot:
        return StatusSnapshot.from_json(self.page("/v1/status")[1])

    def until(self, condition: Callable[[StatusSnapshot], object]) -> StatusSnapshot:
        """Wait until the status is as wanted; returns it."""
        until(lambda: condition(self.status()))
        return self.status()

    def until_ready(self) -> StatusSnapshot:
        return self.until(lambda status: status.ready)

    def command(self, *arguments: str | Path, **environment: str) -> Finished:
        """Run `qnode ARGUMENTS --config …`."""
        done = subprocess.run(
            [self.program, *arguments, "--config", self.config], stdin=subprocess.DEVNULL,
            env=self.environment | environment, capture_output=True, text=True, timeout=COMMAND_S, check=False,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout, done.stderr)
