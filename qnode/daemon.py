"""The node daemon: every task of a running node (`proto/spec/node.md`).

Tasks: follow the network file or the chain, one feed link a QRNG server, listen and answer, sweep what has expired, serve the status
pages, tell systemd. An error of the environment (disk, network file, QRNG server) becomes a condition in the status; an exception nobody
foresaw is our own bug, ends the process, and the service manager starts it again.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import trio

from qnode.api.pages import pages
from qnode.api.peers import BulkCounts, PeersStatus
from qnode.api.status import StatusSnapshot, status_line
from qnode.config import Config
from qnode.net.answers import Desk
from qnode.service.asked import Asked, vouched
from qnode.service.bulk import BulkService
from qnode.service.counts import RequestCounts
from qnode.service.feed import FeedLink
from qnode.service.forgetful import ForgetfulKeeper, open_keeper
from qnode.service.keys import KeyService
from qnode.service.peers import PeerKeeper, PeerService
from qnode.service.peers_status import peers_status
from qnode.service.picture import NodeRegistry, Parts, Picture
from qnode.service.pool import Pool
from qnode.service.watch import NetworkWatch, kept_file, known_height, remember_height
from qnode.store import Store
from qnode.store.history import first_start_done, require_history
from qnode.store.peers import PeerStore
from qustream.aio.connection import Connection
from qustream.aio.http import serve_http
from qustream.aio.listener import ListenerLimits, ListenerStats, open_listener, serve
from qustream.aio.logs import logger
from qustream.aio.rpc import serve_requests
from qustream.aio.systemd import notify, watchdog_interval_ms
from qustream.errors import QuStreamError
from qustream.identity.sealing import derive
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.registry import NetworkFileRegistry
from qustream.transport.address import show_address
from qustream.transport.greeting import LocalHello, Peer
from qustream.wire.hello import Role

if TYPE_CHECKING:  # a node on a network file neither loads nor holds what a chain needs
    from qnode.service.chain_node import ChainNode
    from qnode.service.joining import Joining
    from qustream.identity.voting import VoteSecrets
    from qustream.model.genesis import Genesis

__all__ = ["Daemon", "now_ms", "open_registry", "open_store", "run"]

SWEEP_S = 1.0  # proto/spec/delivery.md §8: how long after its end a block's seal key may still lie on the disk
TICK_S = 1.0  # how often readiness is looked at
SYSTEMD_S = 5.0  # how often systemd's status line is renewed at least
DRAIN_S = 5.0  # answers in flight at SIGTERM get this long
DRAIN_LOOK_S = 0.02  # how often it is looked whether they are out
LINK_LOG_S = 10.0  # one line a QRNG server in this time; the status always shows the newest state
PEERS_FOLDER = "peers"  # in the data directory
NEWS_S = 0.2  # between two looks, however much changes
# What anybody who may ask can bring about by asking; never worth a log line.
BY_DEMAND = frozenset({"E-ENTROPY-SHORT", "E-NODE-FULL"})


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


class Daemon:
    """One node. Everything it needs is handed in open; `serve()` runs it. `network`: the network file, or the chain."""

    def __init__(
        self, config: Config, key: SigningKey, network: NetworkFileRegistry | ChainNode | Joining, store: Store,
        keeper: PeerKeeper | None = None,
    ) -> None:  # fmt: skip
        self._chain = None if isinstance(network, NetworkFileRegistry) else network
        network_file = network if isinstance(network, NetworkFileRegistry) else None
        registry: NodeRegistry = network if isinstance(network, NetworkFileRegistry) else network.registry
        self._config, self._key, self._registry, self._store = config, key, registry, store
        self._log = logger("qnode")
        self._counts = RequestCounts()
        self._pool = Pool(config.pool_units)
        self._keys = KeyService(store=store, pool=self._pool, registry=registry, key=key, clock_ms=now_ms, counts=self._counts)
        self._news = trio.Event()  # a link's state changed: the next tick comes at once
        self._links = [self._link(entry.address, entry.server) for entry in config.qrngd]
        self._said_ready: bool | None = None
        self.is_told_to_stop = False
        self._links_said: dict[bytes, tuple[float, str, str]] = {}
        self._desk = Desk(self._answer)
        self._peers = self._peer_service(keeper or ForgetfulKeeper()) if config.peers else None
        files = self._follow_file(network_file) if network_file is not None else None
        self._watch = files[0] if files is not None else None
        self._bulk = BulkService(self._peers, self._desk, files, config.data_dir) if self._peers is not None else None
        if self._chain is not None and self._peers is not None:
            asked = Asked(self._peers).with_outside(self._key, self._hello, config.named_nodes, self._chain.genesis, registry)
            self._chain.join(self._peers, self._desk, asked)
            self._chain.on_servers = self._network_changed
        self._stats = ListenerStats()
        self._connections: set[Connection] = set()
        parts = Parts(registry, store, self._pool, self._links, self._counts, self._stats, self._peers_status, self._chain)
        self._picture = Picture(key.id, config.chain, parts, clock_ms=now_ms)

    def _follow_file(self, registry: NetworkFileRegistry) -> tuple[NetworkWatch, NetworkFileRegistry]:
        path, data_dir = self._config.network_file, self._config.data_dir
        assert path is not None, "the registry is a file's"
        return NetworkWatch(registry, path, data_dir, clock_ms=now_ms, on_change=self._network_changed), registry

    def _peer_service(self, keeper: PeerKeeper) -> PeerService:
        return PeerService(
            self._key, self._registry, self._desk, keeper, hello=self._hello, clock_ms=now_ms, addresses=self._config.addresses,
            judges=self._chain.judges if self._chain is not None else None,
            vouched=vouched(self._config.named_nodes, self._chain.genesis) if self._chain is not None else None,
        )  # fmt: skip

    def _peers_status(self) -> PeersStatus:
        if self._peers is None:
            return PeersStatus(enabled=False)
        return peers_status(self._peers.network, self._peers.known, self._bulk.counts() if self._bulk is not None else BulkCounts())

    def _link(self, address: str, server: bytes) -> FeedLink:
        return FeedLink(
            address, server, pool=self._pool, key=self._key, hello=self._hello, registry=self._registry, clock_ms=now_ms,
            on_change=self._tell,
        )  # fmt: skip

    def _tell(self) -> None:
        self._news.set()

    def snapshot(self) -> StatusSnapshot:
        """How the node is, now."""
        return self._picture.snapshot()

    # -- tasks ----------------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT, or until the state is here that a node begins with; then finish what is in flight. Errors, at the
        start alone: `E-ADDRESS-IN-USE`, `E-CONFIG`."""
        with ExitStack() as sockets:
            listening = [sockets.enter_context(open_listener(address)) for address in self._config.listen]
            status = [sockets.enter_context(open_listener(a)) for a in (self._config.status_listen,) if a]
            self._picture.addresses = tuple(_bound(sock) for sock in listening)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async with trio.open_nursery() as nursery:
                    watching = (self._watch.run,) if self._watch is not None else ()
                    for task in (*watching, self._sweep, *(link.run for link in self._links)):
                        nursery.start_soon(task)
                    if self._peers is not None:
                        await nursery.start(self._peers.run)
                    if self._chain is not None:
                        await nursery.start(self._chain.run)
                    if self._bulk is not None:
                        nursery.start_soon(self._bulk.run)
                    for sock in status:
                        nursery.start_soon(self._show, sock)
                    await nursery.start(self._listen, listening)
                    self._log.info(
                        "listening", node=to_text(IdKind.NODE, self._key.id), addresses=list(self._picture.addresses),
                        pages="".join(_bound(sock) for sock in status),
                    )  # fmt: skip
                    notify(READY="1", STATUS=status_line(self.snapshot()))
                    nursery.start_soon(self._report)
                    await self._until_over(signals)
                    await self._drain()
                    nursery.cancel_scope.cancel()

    def _joining(self) -> Joining | None:
        from qnode.service.joining import Joining

        return self._chain if isinstance(self._chain, Joining) else None

    async def _until_over(self, signals: AsyncIterator[int]) -> None:
        joining = self._joining() if self._chain is not None else None
        async with trio.open_nursery() as nursery:
            if joining is not None:

                async def until_here() -> None:
                    await joining.done.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(until_here)
            await anext(signals)
            self.is_told_to_stop = True
            nursery.cancel_scope.cancel()

    async def _show(self, sock: socket.socket) -> None:
        """The pages for operators, and about the chain."""
        folders = self._chain.folders() if self._chain is not None else None
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        await serve_http([listener], pages(self.snapshot), folders=folders)

    async def _listen(self, sockets: list[socket.socket], *, task_status: trio.TaskStatus[list[str]]) -> None:
        limits = ListenerLimits(
            connections=self._config.connections,
            connections_per_address=min(self._config.connections, self._config.connections_per_address),
        )
        await serve(
            sockets, key=self._key, hello=self._hello, handler=self._talk, limits=limits, stats=self._stats, task_status=task_status,
            permit=self._peers.permit if self._peers is not None else None,
        )  # fmt: skip

    async def _sweep(self) -> None:
        said = ""
        while True:
            self._pool.drop_expired(now_ms())
            try:
                await self._keys.sweep()
                said = ""
            except QuStreamError as error:
                trouble = str(self._store.trouble or error)
                if trouble != said:
                    self._log.error("the store cannot be written", code=error.code, detail=trouble)
                said = trouble
            await trio.sleep(SWEEP_S)

    async def _report(self) -> None:
        """Log what changed, keep systemd's status line fresh and its watchdog fed; an event loop that hangs is restarted."""
        pause_s = min(SYSTEMD_S, (watchdog_interval_ms() or SYSTEMD_S * 1000) / 1000)
        said, told_s = "", float("-inf")
        while True:
            snapshot, now_s = self._picture.tick(), trio.current_time()
            self._log_links(now_s)
            self._log_readiness(snapshot)
            line = status_line(snapshot)
            if line != said or now_s - told_s >= pause_s:
                notify(STATUS=line, WATCHDOG="1")
                said, told_s = line, now_s
            await trio.sleep(NEWS_S)
            with trio.move_on_after(min(TICK_S, pause_s) - NEWS_S):
                await self._news.wait()
            self._news = trio.Event()

    def _log_readiness(self, snapshot: StatusSnapshot) -> None:
        """Peers that ask for much can empty the pool or fill the store: the status and the metrics say so, the log does not."""
        stopped = [f"{c.code}: {c.detail}" for c in snapshot.conditions if c.stops and c.code not in BY_DEMAND]
        if snapshot.ready and not self._said_ready:
            self._said_ready = True
            self._log.info("ready")
        elif stopped and self._said_ready is not False:
            self._said_ready = False
            self._log.warning("not ready", reasons=stopped)

    def _log_links(self, now_s: float) -> None:
        """A server must not be able to fill the log by changing its mind."""
        for link in self._links:
            status = link.status
            told_s, state, code = self._links_said.get(status.server, (float("-inf"), "connecting", ""))
            if (state, code) == (status.state, status.code) or now_s - told_s < LINK_LOG_S:
                continue
            self._links_said[status.server] = (now_s, status.state, status.code)
            log = self._log.warning if status.code else self._log.info
            log("qrngd", address=status.address, state=status.state, code=status.code, reason=status.reason)

    async def _drain(self) -> None:
        """Take nothing new, let go out what is being answered."""
        self._picture.is_stopping = self._desk.is_closed = True
        if self._chain is not None:
            self._chain.stop()
        if self.is_told_to_stop:
            self._log.info("stopping")
            notify(STOPPING="1", STATUS="stopping")
        with trio.move_on_after(DRAIN_S):
            while any(connection.open_requests for connection in self._all_connections()):  # noqa: ASYNC110 - no event speaks for all
                await trio.sleep(DRAIN_LOOK_S)

    def _all_connections(self) -> set[Connection]:
        sessions = self._peers.hub if self._peers is not None else ()
        return self._connections | {session.connection for session in sessions}

    def _network_changed(self) -> None:
        """A newer network file: units of QRNG servers it has struck off would be refused by whoever checks them."""
        struck_off = {entry.server for entry in self._config.qrngd if not self._is_active(entry.server)}
        self._pool.drop(lambda unit: unit.server in struck_off, now_ms())
        for link in self._links:
            link.retry()
        if self._peers is not None:
            self._peers.network_changed()
        self._tell()

    def _is_active(self, server: bytes) -> bool:
        try:
            return self._registry.qrng_server(server).active
        except QuStreamError:
            return False

    # -- connections ----------------------------------------------------------------------------------------------------

    def _hello(self) -> LocalHello:
        """Tells others to come back where the network says this node is, which need not be where it listens."""
        record = self._picture.record()
        addresses = self._config.addresses or (record.addresses if record else ())
        return LocalHello(self._config.chain, (Role.NODE,), addresses, self._registry.height)

    async def _talk(self, connection: Connection) -> None:
        async def answer(body: bytes, deadline_ms: int) -> bytes:
            return await self._desk.answer_stranger(connection.peer, body, deadline_ms, remote=connection.remote)

        self._connections.add(connection)
        try:
            if self._peers is not None and connection.peer.id in self._peers.known:
                await self._peers.talk(connection)
            else:
                await serve_requests(connection, answer)
        finally:
            self._connections.discard(connection)

    async def _answer(self, peer: Peer, body: bytes, deadline_ms: int) -> bytes:
        started_s = trio.current_time()
        try:
            answer = await self._keys.answer(peer, body, deadline_ms)
        except QuStreamError as error:
            self._counts.count_refused(error.code)
            raise
        self._counts.count_duration((trio.current_time() - started_s) * 1000)
        return answer


def _bound(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return show_address(host, port)


def open_registry(config: Config) -> NetworkFileRegistry:
    """The network as the configured file, or a newer one of peers, describes it; never older than this node has seen it.

    Errors: `E-REGISTRY-…`, `E-FILE` when there is no good network file; `E-DATA-CORRUPT`."""
    assert config.network_file is not None, "the network is a file's"
    known = known_height(config.data_dir, config.chain)
    registry = NetworkFileRegistry(
        config.network_file, config.network_key_id, chain=config.chain, height_min=known, kept=kept_file(config.data_dir)
    )  # fmt: skip
    registry.load(now_ms())
    return registry


def open_store(config: Config, key: SigningKey, *, restored_in_epoch: int | None = None) -> Store:
    """The node's store, locked. Errors: `E-DATA-LOCKED`, `E-DATA-CORRUPT`, `E-DISK-FULL`, `E-FILE`, `E-KEYSTORE-OPEN`."""
    if restored_in_epoch is None:
        require_history(config.data_dir)
    storage_key = derive(key.seed, "node-storage")
    store = Store.open(config.data_dir, storage_key, room_blocks=config.held_blocks, restored_in_epoch=restored_in_epoch)
    first_start_done(config.data_dir)
    return store


def run(config: Config, key: SigningKey, votes: VoteSecrets | None = None) -> None:
    """Open everything and run the node until it is told to stop. `votes`: what it votes with, if it does. Errors: of `open_store`,
    `open_registry` and `ChainNode.open`, `E-ADDRESS-IN-USE`."""
    with open_store(config, key) as store, ExitStack() as opened:
        network: NetworkFileRegistry | ChainNode
        keeper = open_keeper(config.data_dir / PEERS_FOLDER, opened) if config.peers else None
        if config.genesis_file is not None:
            from qnode.service.chain_node import read_genesis

            genesis = read_genesis(config.genesis_file, config.chain)
            if not _has_joined(config, key, genesis, store, keeper):
                return
            network = _open_chain(config, genesis, key, votes, opened)
        else:
            network = open_registry(config)
            if network.height > known_height(config.data_dir, config.chain):
                remember_height(config.data_dir, config.chain, network.height)
        trio.run(Daemon(config, key, network, store, keeper).serve, strict_exception_groups=True)


def _has_joined(config: Config, key: SigningKey, genesis: Genesis, store: Store, keeper: PeerStore | None) -> bool:
    """Get the chain's state from others, if that is how this node begins; False if it was told to stop before it was here."""
    from qnode.service.joining import Joining

    pinned = config.checkpoint_digest
    joining = Joining.open(config.data_dir, genesis, pinned, clock_ms=now_ms) if pinned is not None else None
    if joining is None:
        return True
    with closing(joining):
        daemon = Daemon(config, key, joining, store, keeper)
        trio.run(daemon.serve, strict_exception_groups=True)
    return not daemon.is_told_to_stop


def _open_chain(config: Config, genesis: Genesis, key: SigningKey, votes: VoteSecrets | None, opened: ExitStack) -> ChainNode:
    from qnode.service.chain_node import ChainNode
    from qnode.service.voter import Voter
    from qnode.store.sign_state import SignStateFile
    from qustream.identity.voting import VoteKey

    voter = None
    if votes is not None and config.validator is not None:
        vote_key = VoteKey(votes.seed)
        voter = Voter(vote_key, votes.chains(), SignStateFile(config.validator.sign_state_path, vote_key.id))
    chain = ChainNode.open(config.data_dir, genesis, key, voter, clock_ms=now_ms)
    opened.callback(chain.close)
    return chain
