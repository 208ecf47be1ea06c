"""The node daemon: every task of a running node, and the picture it gives of itself (`proto/spec/node.md`).

Tasks: watch the network file, one feed link a QRNG server, listen and answer, sweep what has expired, serve the status pages, tell
systemd. An error of the environment (disk, network file, QRNG server) becomes a condition in the status; an exception nobody
foresaw is our own bug, ends the process, and the service manager starts it again.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version

import trio

from qnode.api.pages import pages
from qnode.api.status import Condition, HeldStatus, LinkSnapshot, PeerCounts, PoolStatus, StatusSnapshot, status_line
from qnode.config import Config
from qnode.service.counts import RequestCounts
from qnode.service.feed import FeedLink, LinkStatus
from qnode.service.keys import KeyService
from qnode.service.pool import Pool
from qnode.store import Store
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
from qustream.model.network import NodeClass, NodeRecord
from qustream.registry import NetworkFileRegistry
from qustream.transport.engine import Permit
from qustream.transport.greeting import LocalHello, Peer
from qustream.transport.limits import Channel
from qustream.wire.hello import Role

__all__ = ["Daemon", "now_ms", "run"]

REGISTRY_POLL_S = 1.0  # a revocation in the network file is in force a second later
SWEEP_S = 5.0  # how long after its end a block's seal key may still lie on the disk
STATUS_S = 5.0  # systemd's status line and watchdog, at least this often
DRAIN_S = 5.0  # answers in flight at SIGTERM get this long
LINK_LOG_S = 10.0  # one line a QRNG server in this time; the status always shows the newest state
STALE_MS = 60_000  # proto/spec/delivery.md: a node that does not hear of revocations must not serve

DEVICE_CHANNELS = frozenset({Channel.CONTROL, Channel.REQUEST})
NODE_CHANNELS = frozenset(Channel)


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


class Daemon:
    """One node. Everything it needs is handed in open; `serve()` runs it."""

    def __init__(self, config: Config, key: SigningKey, registry: NetworkFileRegistry, store: Store) -> None:
        self._config = config
        self._key = key
        self._registry = registry
        self._store = store
        self._log = logger("qnode")
        self._started_ms = now_ms()
        self._counts = RequestCounts()
        self._stats = ListenerStats()
        self._pool = Pool(config.pool_units)
        self._link_logged: dict[bytes, float] = {}
        self._draining = False
        self._in_flight = 0
        self._idle = trio.Event()
        self._keys = KeyService(store=store, pool=self._pool, registry=registry, key=key, clock_ms=now_ms, counts=self._counts)
        self._links = [self._link(entry.address, entry.server) for entry in config.qrngd]

    def _link(self, address: str, server: bytes) -> FeedLink:
        return FeedLink(
            address,
            server,
            pool=self._pool,
            key=self._key,
            hello=self._hello,
            registry=self._registry,
            clock_ms=now_ms,
            on_change=self._link_changed,
        )

    # -- tasks ----------------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT, then finish what is in flight. Errors at the start: `E-ADDRESS-IN-USE`."""
        with ExitStack() as sockets:
            listening = [sockets.enter_context(open_listener(address)) for address in self._config.listen]
            async with trio.open_nursery() as nursery:
                if self._config.status_listen:
                    await self._serve_pages(nursery)
                nursery.start_soon(self._watch_registry)
                nursery.start_soon(self._sweep)
                for link in self._links:
                    nursery.start_soon(link.run)
                await nursery.start(self._listen, listening)
                nursery.start_soon(self._report)
                self._log.info("listening", addresses=list(self._config.listen), node=to_text(IdKind.NODE, self._key.id))
                notify(READY="1", STATUS=status_line(self.snapshot()))
                await self._until_told_to_stop()
                await self._drain()
                nursery.cancel_scope.cancel()
        notify(STOPPING="1")

    async def _listen(self, sockets: list[socket.socket], *, task_status: trio.TaskStatus[list[str]]) -> None:
        await serve(
            sockets,
            key=self._key,
            hello=self._hello,
            handler=self._talk,
            limits=self._limits(),
            permit=self._permit(),
            stats=self._stats,
            task_status=task_status,
        )

    async def _serve_pages(self, nursery: trio.Nursery) -> None:
        sock = trio.socket.from_stdlib_socket(open_listener(self._config.status_listen))
        await nursery.start(serve_http, [trio.SocketListener(sock)], pages(self.snapshot))

    async def _watch_registry(self) -> None:
        """Read the network file again when it changes; a bad one keeps the old view and becomes a condition."""
        said = ""
        while True:
            if await trio.to_thread.run_sync(self._registry.refresh, now_ms()):
                self._log.info("network file", height=self._registry.height)
            trouble = self._registry.trouble
            if trouble is not None and str(trouble) != said:
                self._log.warning("network file", code=trouble.code, detail=trouble.detail)
            said = str(trouble or "")
            await trio.sleep(REGISTRY_POLL_S)

    async def _sweep(self) -> None:
        while True:
            self._pool.drop_expired(now_ms())
            try:
                await self._keys.sweep()
            except QuStreamError as error:
                self._log.error("sweep", code=error.code, detail=error.detail)
            await trio.sleep(SWEEP_S)

    async def _report(self) -> None:
        """Keep systemd's status line fresh and its watchdog fed; a loop that hangs is restarted."""
        asked = watchdog_interval_ms()
        pause_s = min(STATUS_S, asked / 1000) if asked else STATUS_S
        was_ready = False
        while True:
            snapshot = self.snapshot()
            if snapshot.ready != was_ready:
                reasons = [f"{c.code}: {c.detail}" for c in snapshot.conditions]
                self._log.info("ready" if snapshot.ready else "not ready", reasons=reasons)
                was_ready = snapshot.ready
            notify(STATUS=status_line(snapshot), WATCHDOG="1")
            await trio.sleep(pause_s)

    async def _until_told_to_stop(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                self._log.info("stopping")
                return

    async def _drain(self) -> None:
        self._draining = True
        if self._in_flight:
            self._idle = trio.Event()
            with trio.move_on_after(DRAIN_S):
                await self._idle.wait()

    # -- connections ----------------------------------------------------------------------------------------------------

    def _limits(self) -> ListenerLimits:
        config = self._config
        return ListenerLimits(
            connections=config.connections, connections_per_address=min(config.connections, config.connections_per_address)
        )

    def _hello(self) -> LocalHello:
        return LocalHello(self._config.chain, (Role.NODE,), self._config.listen, self._registry.height)

    def _permit(self) -> Permit:
        """Anybody may ask; the other channels are for licensed nodes."""

        def permit(peer: Peer) -> frozenset[Channel]:
            try:
                return NODE_CHANNELS if self._registry.node(peer.id).active else DEVICE_CHANNELS
            except QuStreamError:
                return DEVICE_CHANNELS

        return permit

    async def _talk(self, connection: Connection) -> None:
        async def answer(body: bytes, deadline_ms: int) -> bytes:
            self._in_flight += 1
            try:
                return await self._keys.answer(connection.peer, body, deadline_ms)
            except QuStreamError as error:
                self._counts.count_refused(error.code)
                raise
            finally:
                self._in_flight -= 1
                if self._draining and not self._in_flight:
                    self._idle.set()

        await serve_requests(connection, answer)

    # -- the picture ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> StatusSnapshot:
        """How the node is, now."""
        now = now_ms()
        record = self._own_record()
        conditions = tuple(self._conditions(record, now))
        return StatusSnapshot(
            version=version("qustream"),
            node=to_text(IdKind.NODE, self._key.id),
            node_class=NodeClass(record.node_class).name.lower() if record else "unlicensed",
            chain=self._config.chain,
            height=self._registry.height,
            epoch=self._registry.epoch(now).number,
            now_ms=now,
            started_ms=self._started_ms,
            ready=not any(c.code in STOPS_SERVICE for c in conditions) and len(self._pool) > 0,
            conditions=conditions,
            pool=PoolStatus(len(self._pool), self._pool.capacity, self._pool.taken, self._pool.expired),
            held=HeldStatus(self._store.held_blocks, self._store.room_blocks),
            links=tuple(_link_snapshot(link.status) for link in self._links),
            peers=self._peers(),
            answered=dict(self._counts.answered),
            refused=dict(self._counts.refused),
        )

    def _own_record(self) -> NodeRecord | None:
        try:
            record = self._registry.node(self._key.id)
        except QuStreamError:
            return None
        return record if record.active else None

    def _conditions(self, record: NodeRecord | None, now: int) -> list[Condition]:
        found = []
        if self._registry.age_ms(now) > STALE_MS:
            found.append(Condition("E-CHAIN-STALE", "the network file has not been readable for more than a minute"))
        if (trouble := self._registry.trouble) is not None:
            found.append(Condition(trouble.code, trouble.detail))
        if record is None:
            found.append(Condition("E-PEER-UNLICENSED", "the network does not list this node as licensed"))
        found += [Condition(s.code, f"{s.address}: {s.reason}") for link in self._links if (s := link.status).code]
        if not len(self._pool):
            found.append(Condition("E-ENTROPY-SHORT", "no attested randomness in memory"))
        if (trouble := self._store.trouble) is not None:
            found.append(Condition(trouble.code, trouble.detail))
        return found

    def _peers(self) -> PeerCounts:
        stats = self._stats
        return PeerCounts(stats.open, stats.accepted, sum(stats.refused.values()), sum(stats.handshakes_failed.values()))

    def _link_changed(self, status: LinkStatus) -> None:
        """Say it aloud, but not more often than `LINK_LOG_S`: a server must not be able to fill the log by changing its mind."""
        now = trio.current_time()
        quiet = now - self._link_logged.get(status.server, -LINK_LOG_S) < LINK_LOG_S
        if not quiet:
            self._link_logged[status.server] = now
        log = self._log.debug if quiet else self._log.warning if status.code else self._log.info
        log("qrngd", address=status.address, state=status.state, code=status.code, reason=status.reason)


# With one of these a key request would be refused; the others are for the operator to look at.
STOPS_SERVICE = frozenset({"E-CHAIN-STALE", "E-PEER-UNLICENSED", "E-ENTROPY-SHORT", "E-NODE-READONLY", "E-DISK-FULL"})


def _link_snapshot(status: LinkStatus) -> LinkSnapshot:
    return LinkSnapshot(to_text(IdKind.QRNG, status.server), status.address, status.state, status.code, status.reason, status.units)


def run(config: Config, key: SigningKey, *, on_open: Callable[[], None] | None = None) -> None:
    """Open everything and run the node until it is told to stop.

    Errors: `E-REGISTRY-…` when there is no good network file, `E-DATA-LOCKED`, `E-DATA-CORRUPT`, `E-DISK-FULL`, `E-ADDRESS-IN-USE`.
    """
    registry = NetworkFileRegistry(config.network_file, config.network_key_id, chain=config.chain)
    registry.load(now_ms())
    with Store.open(config.data_dir, derive(key.seed, "node-storage"), room_blocks=config.held_blocks) as store:
        if on_open:
            on_open()
        trio.run(Daemon(config, key, registry, store).serve, strict_exception_groups=True)
