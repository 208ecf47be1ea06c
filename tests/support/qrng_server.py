"""A real qrngd in a process of its own, and a node's end of its feed, for tests."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from support.daemon import PATIENCE_S, DaemonProcess
from support.places import host

from qrngd.cli.options import CREDENTIAL, KEYSTORE_KIND
from qrngd.datadir import IDENTITY_FILE, DataDirectory
from qrngd.status import StatusSnapshot
from qustream.aio.connection import Connection, connect, connect_unix
from qustream.entropy import check_attestation, check_leaf
from qustream.identity import keystore
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.entropy import MATERIAL_BYTES, Attestation, LeafProof
from qustream.model.ids import IdKind, to_text
from qustream.model.network import QrngServerRecord
from qustream.transport.greeting import LocalHello
from qustream.wire.codec import decode, encode
from qustream.wire.feed import FEED_MAX_BYTES, FeedBatch, FeedCredit, FeedHealth, FeedMessage, FeedOpen, FeedUnit
from qustream.wire.hello import Role

__all__ = ["CHAIN", "NodeEnd", "Server", "Unit", "node_key"]

CHAIN = "feed-test"
PASSPHRASE = b"a passphrase for tests only"
DEADLINE_MS = round(PATIENCE_S * 1000)


def node_key(number: int) -> SigningKey:
    return SigningKey(number.to_bytes(32, "big"))


class Server(DaemonProcess):
    """`with Server(folder, device=..., allow=[...]).running() as server:`; may run several times on the same data."""

    def __init__(
        self, folder: Path, *, device: str = 'kind = "emulator"', allow: list[SigningKey] | None = None, chain: str = CHAIN, **settings: Any
    ) -> None:  # fmt: skip
        self.chain = chain
        super().__init__("qrngd", folder, credential=CREDENTIAL, passphrase=PASSPHRASE)
        self.key = SigningKey(os.urandom(32))
        DataDirectory.create(self.data_dir)
        # The cheapest parameters a keystore may have: these tests are not about it.
        keystore.write(self.data_dir / IDENTITY_FILE, KEYSTORE_KIND, self.key.seed, PASSPHRASE, memory_kib=8, operations=1)
        values = {"listen": [f"{host(9)}:0"], "status_listen": f"{host(9)}:0", "stock_units": 2} | settings
        lines = [f'chain = "{chain}"', 'data_dir = "data"', *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
        lines += [f'[[allow]]\nid = "{to_text(IdKind.NODE, key.id)}"' for key in allow or []]
        self.config.write_text("\n".join([*lines, "[[device]]", device, ""]))

    def status(self) -> StatusSnapshot:
        return StatusSnapshot.from_json(self.page("/v1/status")[1])

    async def wait_for(self, state: str) -> StatusSnapshot:
        """Until the device is in `state`."""
        with trio.fail_after(PATIENCE_S):
            while (snapshot := await trio.to_thread.run_sync(self.status)).devices[0].state != state:
                await trio.sleep(0.02)
        return snapshot

    def record(self) -> QrngServerRecord:
        return QrngServerRecord(self.key.public, "test", emulated=True, active=True)


@dataclass(frozen=True)
class Unit:
    """A unit as it arrived, checked."""

    attestation: Attestation
    proof: LeafProof
    unit: bytes


@dataclass
class NodeEnd:
    """A node with an open connection to a server. `health`: every state that was pushed."""

    server: Server
    key: SigningKey
    connection: Connection
    health: list[FeedHealth] = field(default_factory=list)
    batches: dict[bytes, Attestation] = field(default_factory=dict)

    @staticmethod
    async def dial(server: Server, key: SigningKey) -> Connection:
        hello = LocalHello(server.chain, (Role.NODE,))
        if server.address.startswith("unix:"):
            return await connect_unix(server.address.removeprefix("unix:"), hello=hello, timeout_ms=DEADLINE_MS)
        return await connect(server.address, key=key, hello=hello, expect=server.key.id, timeout_ms=DEADLINE_MS)

    async def open(self, credit: int) -> FeedHealth:
        return await self.ask(FeedOpen(self.key.id, credit))

    async def grant(self, units: int) -> FeedHealth:
        return await self.ask(FeedCredit(units))

    async def ask(self, message: FeedOpen | FeedCredit) -> FeedHealth:
        answer = await self.connection.call(encode(message), deadline_ms=DEADLINE_MS)
        health: FeedHealth = decode(answer, FeedHealth, max_bytes=FEED_MAX_BYTES)
        return health

    async def units(self, count: int, timeout_s: float = PATIENCE_S) -> list[Unit]:
        """The next `count` units, each checked as a node checks it."""
        found: list[Unit] = []
        with trio.fail_after(timeout_s):
            while len(found) < count:
                found += await self.next_message()
        return found

    async def next_message(self) -> list[Unit]:
        """Take one pushed message; the unit, if it was one."""
        _, body = await self.connection.receive()
        message = decode(body, FeedMessage, max_bytes=FEED_MAX_BYTES)
        if isinstance(message, FeedHealth):
            self.health.append(message)
        elif isinstance(message, FeedBatch):
            attestation = open_signed(message.attestation, Attestation, self.server.key.public, "attestation")
            check_attestation(attestation, chain=self.server.chain, server=self.server.record(), at_ms=time.time_ns() // 1_000_000)
            assert attestation.root not in self.batches
            self.batches[attestation.root] = attestation
        else:
            assert isinstance(message, FeedUnit)
            attestation = self.batches[message.root]
            check_leaf(attestation, self.key.id, message.unit[:MATERIAL_BYTES], message.proof)
            return [Unit(attestation, message.proof, message.unit)]
        return []

    async def is_quiet(self, seconds: float = 0.3) -> bool:
        """Whether nothing but health arrives for so long."""
        with trio.move_on_after(seconds):
            while True:
                if await self.next_message():
                    return False
        return True

    async def until_quiet(self) -> None:
        """Until nothing but health has arrived for a while, twice; units that were on their way are dropped."""
        quiet = 0
        with trio.fail_after(PATIENCE_S):
            while quiet < 2:
                quiet = quiet + 1 if await self.is_quiet() else 0

    async def until_told(self, state: str) -> FeedHealth:
        """Until the server pushes `state`; units on the way are dropped."""
        with trio.fail_after(PATIENCE_S):
            while not self.health or self.health[-1].state != state:
                await self.next_message()
        return self.health[-1]
