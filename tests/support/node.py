"""A real qnode in a process of its own, with a signed network file and any number of QRNG servers, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.network import BIN, Finished
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
PATIENCE_S = 20.0  # a loaded machine; usually half a second
EPOCH_MS = 3 * 86_400_000


def until(condition: Callable[[], object], *, patience_s: float = PATIENCE_S) -> None:
    """Wait until `condition` holds."""
    ends = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.01)


class QNode:
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
        folder.mkdir(exist_ok=True)
        self.key = key or SigningKey(os.urandom(32))
        self.authority = SigningKey(os.urandom(32))
        self.folder, self.config, self.log_path, self.data_dir = folder, folder / "qnode.toml", folder / "log", folder / "data"
        self.addresses: list[str] = []
        self.pages = ""
        self.program = BIN / "qnode"
        self.command_line: list[str] = []  # put in front of the program
        self.process: subprocess.Popen[bytes] | None = None
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
        (folder / "credentials").mkdir()
        (folder / "credentials" / CREDENTIAL).write_bytes(PASSPHRASE)
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
            "listen": ["127.8.0.1:0"],
            "status_listen": "127.8.0.1:0",
            "held_blocks": 64,
        } | settings
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        lines += [f'[[qrngd]]\naddress = "{address}"\nid = "{to_text(IdKind.QRNG, server)}"' for address, server in links]
        self.config.write_text("\n".join([*lines, ""]))

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "CREDENTIALS_DIRECTORY": str(self.folder / "credentials")}

    @contextmanager
    def running(self, **environment: str) -> Iterator[QNode]:
        """Start it, wait until it listens, stop it; it must stop by itself and well."""
        self.start(**environment)
        try:
            yield self
        finally:
            code = self.stop()
        assert code in (0, None), self.log_path.read_text()

    def start(self, **environment: str) -> None:
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.command_line, self.program, "run", "--config", self.config],
                stdin=subprocess.DEVNULL, stderr=log, env=self.environment | environment,
            )  # fmt: skip
        ends = time.monotonic() + PATIENCE_S
        while not (found := [line for line in self.log() if line["event"] == "listening"]):
            assert self.process.poll() is None, self.log_path.read_text()
            assert time.monotonic() < ends, "qnode does not come up"
            time.sleep(0.01)
        self.addresses, self.pages = found[0]["addresses"], (found[0]["status"] or [""])[0]

    def stop(self) -> int | None:
        """SIGTERM; the exit code, None if it was stopped already."""
        process, self.process = self.process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(15)
        finally:
            process.kill()

    def log(self) -> list[dict[str, Any]]:
        """The whole lines of the log so far."""
        lines = self.log_path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def page(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://{self.pages}{path}", timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read()

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
            env=self.environment | environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout, done.stderr)
