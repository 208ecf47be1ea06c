"""The QRNG daemon: every task of a running server, and the picture it gives of itself (`proto/spec/entropy-feed.md`).

    worker ═ host ─▶ stock ─ cutter ─▶ batch, signed, in the leaf log ─▶ feed ─ session ─▶ node
    (a process)       a device each                                            one task each; a session a node

Besides these: the network file is watched, status pages are served, systemd is told, the operator is heard. A fault of a device, the disk
or the network file becomes a condition in the status; an exception nobody foresaw is our own bug, ends the process, and the service
manager starts it again, which runs the full start-up test.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version

import trio

from qrngd.allowlist import Allowed, AllowList
from qrngd.chain_allow import ChainAllowList, open_chain
from qrngd.config import Config
from qrngd.control import ControlRequest, serve_control
from qrngd.cutter import Cutter, Source
from qrngd.datadir import DataDirectory
from qrngd.device_config import DeviceConfig
from qrngd.feed.batch import Statement
from qrngd.feed.credit import IN_FLIGHT_UNITS, NODES_MAX
from qrngd.feed.service import FeedService
from qrngd.health.state import DeviceState, StateChanged
from qrngd.latches import Latches
from qrngd.leaflog import LeafLog, log_pages
from qrngd.memory import forbid_core_dumps, lock_memory
from qrngd.pages import pages
from qrngd.picture import device_status
from qrngd.sockets import allow_descriptors, inherited_sockets
from qrngd.status import FeedStatus, NodeStatus, StatusSnapshot, status_line
from qrngd.worker.host import DeviceHost
from qustream.aio.connection import Connection
from qustream.aio.heartbeat import heartbeat
from qustream.aio.http import serve_http
from qustream.aio.listener import ListenerLimits, ListenerStats, open_listener, serve, serve_unix
from qustream.aio.logs import logger
from qustream.aio.systemd import notify
from qustream.errors import fault
from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.entropy import Attestation
from qustream.model.ids import IdKind, to_text
from qustream.registry import NetworkFileRegistry
from qustream.transport.address import show_address
from qustream.transport.greeting import LocalHello, Peer
from qustream.transport.limits import UNKNOWN_PEER_CHANNELS, Channel
from qustream.wire.feed import FeedHealth
from qustream.wire.hello import Role

__all__ = ["Daemon", "now_ms", "run"]

REGISTRY_POLL_S = 1.0  # a node that loses its licence loses its feed a second later
# A node has one connection, and one more while it replaces that; strangers cost a handshake each and no more than these places.
CONNECTIONS_MAX = 2 * NODES_MAX
FEED_CHANNELS = frozenset({Channel.CONTROL, Channel.REQUEST, Channel.BULK})
REASON_MAX_CHARS = 256  # of FeedHealth
LEAF_LOG_FOLDER = "leaves"
_S = DeviceState
_BEST_FIRST = (_S.LIVE, _S.SUSPECT, _S.TESTING, _S.STARTING, _S.ABSENT, _S.FAILED)


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


class Daemon:
    """One QRNG server. Everything it needs is handed in open; `serve()` runs it."""

    def __init__(self, config: Config, key: SigningKey, allow: Allowed, first_number: int, log: LeafLog) -> None:
        self._config, self._key, self._allow, self._leaf_log = config, key, allow, log
        self._log = logger("qrngd")
        self._version = version("qustream")  # once: it is read from a file, which an upgrade may take away
        self._started_ms = now_ms()
        self._uids = frozenset(config.unix_uids or (os.geteuid(),))
        self._stats = ListenerStats()
        self._memory_locked = config.memory_lock and lock_memory()
        self._feed = FeedService(
            may_have=lambda node: node in allow,
            health=FeedHealth(DeviceState.STARTING, "", "the daemon has started"),
            clock_ms=now_ms,
            units_per_minute=config.node_units_per_minute,
        )
        latches = Latches(config.data_dir)
        self._hosts = [self._host(device, latches) for device in config.device]
        self._sources = [Source(host.name, host, self._statement(host)) for host in self._hosts]
        self._cutter = Cutter(
            sources=self._sources,
            feed=self._feed,
            sign=self._sign,
            publish=log.append,
            probe=log.probe,
            first_number=first_number,
            on_trouble=lambda: self._feed.announce(self._health()),
        )
        self._feed.announce(self._health())

    def _host(self, device: DeviceConfig, latches: Latches) -> DeviceHost:
        return DeviceHost(
            device,
            stock_units=self._config.stock_units,
            in_flight_units=IN_FLIGHT_UNITS,
            latches=latches,
            stirred=self._feed.changed,
            on_change=self._device_changed,
            clock_ms=now_ms,
            memory_lock=self._config.memory_lock,
        )

    def _statement(self, host: DeviceHost) -> Statement:
        return Statement(
            chain=self._config.chain,
            server=self._key.id,
            conditioning=host.conditioning_report(),
            lifetime_ms=self._config.attestation_lifetime_s * 1000,
            health_report=host.health_report,
        )

    def _sign(self, attestation: Attestation) -> Signed:
        return self._key.sign_noun("attestation", attestation)

    # --- tasks

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT. Raises E-ADDRESS-IN-USE, E-CONFIG at the start."""
        with ExitStack() as opened:
            inherited = inherited_sockets()
            listening = inherited.get("feed") or [open_listener(address) for address in self._config.listen]
            for sock in listening:
                opened.enter_context(sock)
            # From before anybody is told that we are here: who stops us then is heard.
            signals = opened.enter_context(trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))
            async with trio.open_nursery() as nursery:
                shown_at = await self._show(nursery, inherited.get("pages", []))
                addresses = await self._listen(nursery, listening)
                await nursery.start(serve_control, self._config.control_path, self._perform)
                for host in self._hosts:
                    nursery.start_soon(host.run)
                nursery.start_soon(self._cutter.run)
                nursery.start_soon(self._watch)
                nursery.start_soon(heartbeat, lambda: status_line(self.snapshot()))
                self._log.info("listening", addresses=addresses, pages=shown_at, server=to_text(IdKind.QRNG, self._key.id))
                notify(READY="1", STATUS=status_line(self.snapshot()))
                async for _ in signals:
                    break
                self._log.info("stopping")
                notify(STOPPING="1")
                nursery.cancel_scope.cancel()
            # Before the signals are let go of: a second one ends the process.
            for host in self._hosts:
                host.stock.clear()

    async def _show(self, nursery: trio.Nursery, inherited: list[socket.socket]) -> str:
        """Serve the status pages; return their address as bound."""
        wanted = self._config.status_listen
        if not inherited and not wanted:
            return ""
        listeners = []
        for sock in inherited or [open_listener(wanted)]:
            sock.setblocking(False)
            listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(sock)))
        log_routes, segments = log_pages(self._leaf_log)
        routes = {**pages(self.snapshot), **log_routes}
        await nursery.start(partial(serve_http, files=segments), listeners, routes)
        name = listeners[0].socket.getsockname()
        return show_address(name[0], name[1])

    async def _listen(self, nursery: trio.Nursery, sockets: list[socket.socket]) -> list[str]:
        limits = ListenerLimits(connections=CONNECTIONS_MAX, connections_per_address=CONNECTIONS_MAX)
        addresses: list[str] = []
        if sockets:
            serve_tls = partial(
                serve, key=self._key, hello=self._hello, handler=self._talk, limits=limits, permit=self._permit, stats=self._stats
            )  # fmt: skip
            addresses += await nursery.start(serve_tls, sockets)
        if self._config.unix is not None:
            serve_local = partial(serve_unix, hello=self._hello, limits=limits, stats=self._stats)
            addresses += await nursery.start(serve_local, self._config.unix, self._talk_local)
        return addresses

    def _hello(self) -> LocalHello:
        return LocalHello(self._config.chain, (Role.QRNG_SERVER,), self._config.listen, self._allow.height)

    def _permit(self, peer: Peer) -> frozenset[Channel]:
        """A node on the allow-list keeps its place however many strangers come; those get to hear that they are refused."""
        return FEED_CHANNELS if peer.id in self._allow else UNKNOWN_PEER_CHANNELS

    async def _talk(self, connection: Connection) -> None:
        await self._feed.serve(connection, peer=connection.peer.id, transport="tls")

    async def _talk_local(self, connection: Connection) -> None:
        if connection.peer_uid not in self._uids:
            self._feed.counts.refused += 1
            raise fault("E-FEED-REFUSED", "this user id may not use the local feed")
        await self._feed.serve(connection, peer=None, transport="unix")

    async def _watch(self) -> None:
        """Follow the network file, and throw away stock that an attestation should not speak for any more."""
        said = ""
        while True:
            if await trio.to_thread.run_sync(self._allow.refresh, now_ms()):
                self._log.info(f"{self._allow.source} taken over", height=self._allow.height, nodes=len(self._allow))
                self._feed.recheck()
            trouble = self._allow.trouble
            if trouble is not None and str(trouble) != said:
                self._log.warning(f"{self._allow.source} refused", code=trouble.code, detail=trouble.detail)
            elif trouble is None and said:
                self._log.info(f"{self._allow.source} good again", height=self._allow.height)
            said = str(trouble or "")
            # Half of the lifetime, so that a unit is of use for as long again after it was made.
            for host in self._hosts:
                host.drop_older(now_ms() - self._config.attestation_lifetime_s * 500)
            await trio.sleep(REGISTRY_POLL_S)

    # --- the devices' states

    def _device_changed(self, host: DeviceHost, change: StateChanged) -> None:
        """The device drives this, not a peer, so it may be loud."""
        if change.after is DeviceState.FAILED:
            self._cutter.discard(host.name)
        self._feed.announce(self._health())
        log = self._log.info if not change.code else self._log.error if change.after is DeviceState.FAILED else self._log.warning
        log("device", device=host.name, before=change.before, state=change.after, code=change.code, reason=change.reason)
        notify(STATUS=status_line(self.snapshot()))

    def _health(self) -> FeedHealth:
        """What nodes are told: the best of the devices, for one that delivers is what they need; the others by name in the reason. A server
        that cannot publish delivers nothing, however well its devices are."""
        if self._cutter.trouble is not None:
            return FeedHealth(DeviceState.ABSENT, "E-FEED-STOPPED", "the server cannot publish its leaves")
        best = min(self._hosts, key=lambda host: _BEST_FIRST.index(host.state))
        if len(self._hosts) == 1:
            return FeedHealth(best.state, best.code, best.reason[:REASON_MAX_CHARS])
        others = "; ".join(f"{host.name} {host.state}" for host in self._hosts if host.state is not DeviceState.LIVE)
        reason = f"{best.name}: {best.reason}" + (f"; {others}" if others else "")
        return FeedHealth(best.state, best.code, reason[:REASON_MAX_CHARS])

    def _perform(self, request: ControlRequest, uid: int) -> str:
        """What the operator asks. Raises E-DEV-UNKNOWN, E-DEV-STATE, E-DEV-WORKER, E-DISK-FULL, E-FILE."""
        host = next((host for host in self._hosts if host.name == request.device), None)
        if host is None:
            raise fault("E-DEV-UNKNOWN", f"no device {request.device!r}; there are {', '.join(each.name for each in self._hosts)}")
        (host.clear if request.do == "clear" else host.retest)(request.reason)
        self._log.warning("operator", do=request.do, device=host.name, uid=uid, reason=request.reason)
        return f"{host.name}: the start-up test runs; qrngd status shows what comes of it"

    # --- the picture

    def snapshot(self) -> StatusSnapshot:
        """How the server is, now."""
        health, trouble, unpublished = self._health(), self._allow.trouble, self._cutter.trouble
        is_live = health.state == DeviceState.LIVE
        code, reason = ("", "") if is_live else (health.code, health.reason)
        if unpublished is not None:
            code, reason = unpublished.code, f"the leaf log cannot be written: {unpublished.detail}"
        return StatusSnapshot(
            version=self._version,
            server=to_text(IdKind.QRNG, self._key.id),
            chain=self._config.chain,
            now_ms=now_ms(),
            started_ms=self._started_ms,
            ready=is_live,
            code=code,
            reason=reason,
            registry_trouble=str(trouble or ""),
            leaf_log_trouble=str(unpublished or ""),
            memory_locked=self._memory_locked and all(host.memory_locked for host in self._hosts if host.figures.opened),
            devices=tuple(map(device_status, self._hosts)),
            feed=self._feed_status(),
        )

    def _feed_status(self) -> FeedStatus:
        feed, counts = self._feed, self._feed.counts
        nodes = tuple(
            NodeStatus(to_text(IdKind.NODE, line.node), session.transport, session.since_ms, line.credit, line.in_flight, line.units)
            for session, line in feed.lines
        )
        return FeedStatus(
            nodes=nodes,
            allowed=len(self._allow),
            units_made=self._cutter.units_made,
            units_delivered=counts.delivered,
            units_discarded=counts.discarded,
            attestations=self._cutter.attestations,
            opened=counts.opened,
            refused=counts.refused,
            dropped=counts.dropped,
            connections=self._stats.open,
            handshakes_failed=sum(self._stats.handshakes_failed.values()),
            connections_refused=sum(self._stats.refused.values()),
        )


def _leaf_log(config: Config, key: SigningKey) -> LeafLog:
    return LeafLog(config.data_dir / LEAF_LOG_FOLDER, config.chain, key.id, keep_bytes=config.leaf_log_keep_bytes)


def _allowed(config: Config) -> Allowed:
    """Errors: those of a network file; `E-CHECKPOINT-OLD` for a checkpoint that nothing can be proven from any more."""
    if (pinned := config.checkpoint_digest) is not None:
        return ChainAllowList(open_chain(config.data_dir, config.chain, pinned, config.asked, clock_ms=now_ms), config.allowed_ids)
    registry = None
    if config.network_file is not None:
        registry = NetworkFileRegistry(config.network_file, config.network_key_id, chain=config.chain)
        registry.load(now_ms())
    return AllowList(config.allowed_ids, registry)


def run(config: Config, key: SigningKey) -> None:
    """Open everything and run the server until it is told to stop.

    Raises E-DATA-LOCKED, E-DATA-CORRUPT, E-DISK-FULL, E-ADDRESS-IN-USE, E-CONFIG; E-REGISTRY-…, E-FILE without a good network file.
    """
    forbid_core_dumps()
    allow_descriptors()
    with DataDirectory(config.data_dir) as directory, _leaf_log(config, key) as log:
        daemon = Daemon(config, key, _allowed(config), directory.next_run(), log)
        trio.run(daemon.serve, strict_exception_groups=True)
