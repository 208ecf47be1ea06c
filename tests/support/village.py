"""A network inside one process: real key services on real stores behind real TLS on loopback, each of which can be told to misbehave.

Whatever a node answers can be twisted on its way out (`Node.twist`), and so can what its QRNG server attests (`Node.attested`); a node
can be stopped and started. Users are real user directories. The village lives in a thread of its own, so that blocking clients can be
tested.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import trio
from support.places import free_ports, host

from qnode.service.keys import KeyService
from qnode.service.pool import PooledUnit
from qnode.store import Store
from qustream.aio.connection import Connection
from qustream.aio.listener import open_listener, serve
from qustream.aio.rpc import serve_requests
from qustream.client.client import Client
from qustream.client.settings import write_config
from qustream.entropy import build_batch, leaf_data, leaf_hash
from qustream.errors import fault
from qustream.identity.signing import SigningKey
from qustream.identity.user import UserHome
from qustream.identity.words import new_words
from qustream.model.base import Signed
from qustream.model.entropy import MATERIAL_BYTES, SCATTER_BYTES, Attestation, Conditioning, DeviceDescriptor, HealthReport
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass, NodeRecord, QrngServerRecord
from qustream.registry import NetworkFileRegistry, NetworkFileWriter
from qustream.rules.ruid import stripe_index
from qustream.transport.engine import LocalHello
from qustream.transport.greeting import Peer
from qustream.wire.codec import decode
from qustream.wire.hello import Role
from qustream.wire.keys import REQUEST_MAX_BYTES, DeviceRequest, RequestBody

__all__ = ["PASSPHRASE", "Cut", "Node", "User", "Village", "village"]

CHAIN = "village"
DAY_MS = 86_400_000
EPOCH_MS = 3 * DAY_MS
PASSPHRASE = b"a passphrase"
Honest = Callable[[], Awaitable[bytes]]
# (node, body of the request, what the honest node would answer) -> what it does answer
Twist = Callable[["Node", Any, Honest], Awaitable[bytes]]


class Cut(Exception):
    """Raised by a twist: the connection breaks without a word, the request perhaps served."""


class Uncounted:
    def count_answered(self, kind: str) -> None:
        pass


@dataclass
class Node:
    """One node. `asked`: the bodies of the requests that reached it."""

    village: Village
    key: SigningKey
    node_class: NodeClass
    operator: str
    address: str = ""
    twist: Twist | None = None
    attested: Callable[[Attestation], Attestation] = lambda attestation: attestation
    material: Callable[[], bytes] = lambda: os.urandom(MATERIAL_BYTES)
    signer: SigningKey | None = None
    asked: list[Any] = field(default_factory=list)
    _sequence: int = 0
    _scope: trio.CancelScope | None = None
    _connections: set[Connection] = field(default_factory=set)

    @property
    def id(self) -> bytes:
        return self.key.id

    def take(self, now_ms: int) -> PooledUnit | None:
        """A unit of its own, attested alone."""
        self._sequence += 1
        material, scatter = self.material(), os.urandom(SCATTER_BYTES)
        root, proofs = build_batch([(self.id, self._sequence, hashlib.sha256(material).digest())])
        qrng = self.signer or self.village.qrng
        attestation = Attestation(
            chain=CHAIN,
            server=qrng.id,
            batch=next(self.village.batches),
            device=DeviceDescriptor("emulator", "urandom", "1", 8, 8000, 0, True, True, ""),
            health=HealthReport(1024, 2, 0, 5, 13, 512, (40, 60)),
            conditioning=Conditioning("cbc-mac", 32, 16, 1000),
            start_ms=now_ms - 1000,
            end_ms=now_ms,
            expires_ms=now_ms + 60_000,
            root=root,
            leaves=1,
        )
        signed = qrng.sign_noun("attestation", self.attested(attestation))
        self.village.published.append((attestation.batch, signed, leaf_data(self.id, self._sequence, material)))
        return PooledUnit(material, scatter, signed, proofs[0], leaf_hash(self.id, self._sequence, material), now_ms + 60_000)

    async def serve(self, folder: Path, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        registry = NetworkFileRegistry(self.village.path, self.village.authority.public)
        clock_ms = self.village.clock_ms
        with Store.open(folder, hashlib.sha256(self.id).digest(), room_blocks=64) as store, trio.CancelScope() as self._scope:
            service = KeyService(store=store, pool=self, registry=registry, key=self.key, clock_ms=clock_ms, counts=Uncounted())

            async def handle(connection: Connection) -> None:
                async def answer(body: bytes, deadline_ms: int) -> bytes:
                    registry.refresh(clock_ms())
                    try:
                        return await self._answer(service, connection.peer, body, deadline_ms)
                    except Cut:
                        connection._link.close()
                        raise fault("E-PEER-CLOSED") from None

                self._connections.add(connection)
                try:
                    await serve_requests(connection, answer)
                finally:
                    self._connections.discard(connection)

            hello = LocalHello(CHAIN, (Role.NODE,))
            sockets = [open_listener(self.address)]
            await serve(sockets, key=self.key, hello=hello, handler=handle, task_status=task_status)

    async def _answer(self, service: KeyService, peer: Peer, body: bytes, deadline_ms: int) -> bytes:
        request = decode(body, DeviceRequest, max_bytes=REQUEST_MAX_BYTES)
        message = decode(request.body, RequestBody, max_bytes=REQUEST_MAX_BYTES)
        self.asked.append(message)

        async def honest() -> bytes:
            return await service.answer(peer, body, deadline_ms)

        return await (honest() if self.twist is None else self.twist(self, message, honest))

    def stop(self) -> None:
        """As if its machine had gone: connections break, new ones are refused."""
        self.village.inside(self._stop)

    async def _stop(self) -> None:
        assert self._scope is not None
        for connection in self._connections:
            connection._link.close()
        self._scope.cancel()
        with trio.fail_after(60):
            while self._scope is not None:
                await trio.sleep(0.01)

    def start(self) -> None:
        self.village.inside(self.village.start_node, self)

    def asked_for(self, kind: type[Any]) -> list[Any]:
        """The bodies of this kind that reached the node."""
        return [body for body in self.asked if isinstance(body, kind)]


@dataclass
class User:
    """A user directory and its clients."""

    village: Village
    home: Path
    words: str
    device: UserHome

    @property
    def text(self) -> str:
        return to_text(IdKind.USER, self.device.user)

    def next_ranks(self) -> dict[NodeClass, list[Node]]:
        """The nodes that the user's next request will be assigned to."""
        registry = self.registry()
        grant = min(registry.grants_of(self.device.user), key=lambda grant: (grant.epoch, grant.grant))
        self.device.adopt_grant(grant)
        record = self.device.grants.of(grant.grant)
        assigned = registry.assignment(grant, stripe_index(record.stripes, record.stripe, record.used))
        return {node_class: [self.village.node(node.key.id) for node in nodes] for node_class, nodes in assigned.items()}

    def registry(self) -> NetworkFileRegistry:
        registry = NetworkFileRegistry(self.village.path, self.village.authority.public)
        registry.load(self.village.clock_ms())
        return registry

    def client(self, *, timeout_ms: int = 60_000, registry: Any = None) -> Client:
        client = Client(self.device, registry or self.registry(), timeout_ms=timeout_ms, clock_ms=self.village.clock_ms)
        self.village.clients.append(client)
        return client


class Village:
    """The network: `foundation` and `community` nodes, one QRNG server that is an emulator, users on demand."""

    def __init__(self, folder: Path, foundation: int = 5, community: int = 5) -> None:
        self.folder = folder
        self.path = folder / "network.toml"
        self.offset_ms = 0
        self.authority, self.qrng = _key("authority"), _key("qrng")
        self.clients: list[Client] = []
        self.batches = count(1)
        self.published: list[tuple[int, Signed, bytes]] = []  # batch, attestation and leaf data of every unit: what a leaf log takes
        self.writer = NetworkFileWriter.create(
            self.path, CHAIN, self.authority, genesis_ms=self.clock_ms() - DAY_MS, epoch_length_ms=EPOCH_MS, seed=bytes(32)
        )
        self.writer.add_qrng_server(QrngServerRecord(self.qrng.public, "qrng", emulated=True, active=True))
        classes = [NodeClass.FOUNDATION] * foundation + [NodeClass.COMMUNITY] * community
        self.nodes = [Node(self, _key(f"node {n}"), node_class, f"operator {n}") for n, node_class in enumerate(classes)]
        for number, (node, port) in enumerate(zip(self.nodes, free_ports(8, len(self.nodes)), strict=True)):
            node.address = f"{host(8)}:{port}"
            record = NodeRecord(
                node.key.public, node.node_class, node.operator, number.to_bytes(16, "big"), (node.address,), weight=1, active=True
            )
            self.writer.add_node(record)
        self.writer.write()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None

    def clock_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    @property
    def network_key(self) -> str:
        return to_text(IdKind.NETWORK, self.authority.id)

    def of(self, node_class: NodeClass) -> list[Node]:
        return [node for node in self.nodes if node.node_class is node_class]

    def node(self, node_id: bytes) -> Node:
        return next(node for node in self.nodes if node.id == node_id)

    def user(self, name: str, *, requests: int = 64, enrolled: bool = True, lifetime_max_ms: int = 30 * DAY_MS) -> User:
        """A new user; `requests` 0: without a grant."""
        home, words = self.folder / "users" / f"{name}-{os.urandom(4).hex()}", new_words()
        device = UserHome.create(home, words, name, PASSPHRASE, now_ms=self.clock_ms())
        write_config(home, self.path, self.network_key)
        user = User(self, home, words, device)
        if enrolled:
            self.writer.enrol(device.enrolment(), home.name)
            if requests:
                self.grant(user, requests, lifetime_max_ms)
            self.writer.write()
        return user

    def grant(self, user: User, requests: int, lifetime_max_ms: int = 30 * DAY_MS) -> None:
        """Enter a grant; the caller writes the file."""
        offer = user.device.new_grant_offer(requests, self.clock_ms())
        self.writer.grant(offer, user.device.user, lifetime_max_ms=lifetime_max_ms, epoch=0)

    def heal(self) -> None:
        """Make every node honest and running again, and forget what was asked."""
        self.offset_ms = 0
        for node in self.nodes:
            node.twist = node.signer = None
            node.attested = Node.attested
            node.material = Node.material
            node.asked.clear()
            if node._scope is None:
                node.start()
        for client in self.clients:
            client.close()
        self.clients.clear()

    # -- the thread -----------------------------------------------------------------------------------------------------

    def inside(self, function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        assert self._token is not None
        trio.from_thread.run(function, *arguments, trio_token=self._token)

    async def start_node(self, node: Node) -> None:
        assert self._nursery is not None
        await self._nursery.start(self._serve_node, node)

    async def _serve_node(self, node: Node, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        folder = self.folder / f"store-{self.nodes.index(node)}"
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            await node.serve(folder, task_status)
        finally:
            node._scope = None

    async def live(self, ready: Callable[[], None]) -> None:
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._stopped = trio.Event()
            for node in self.nodes:
                await self.start_node(node)
            ready()
            await self._stopped.wait()
            self._nursery.cancel_scope.cancel()

    async def end(self) -> None:
        self._stopped.set()


def _key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(f"village {name}".encode()).digest())


@contextmanager
def village(folder: Path, foundation: int = 5, community: int = 5) -> Iterator[Village]:
    """A village that lives as long as the `with`."""
    made = Village(folder, foundation, community)
    ready, trouble = threading.Event(), []

    def run() -> None:
        try:
            trio.run(made.live, ready.set)
        except BaseException as error:
            trouble.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="village")
    thread.start()
    ready.wait()
    if trouble:
        raise trouble[0]
    try:
        yield made
    finally:
        for client in made.clients:
            client.close()
        if thread.is_alive():
            made.inside(made.end)
        thread.join()
        if trouble:
            raise trouble[0]
