"""The QRNG daemon: every task of a running server, and the picture it gives of itself (`proto/spec/entropy-feed.md`).

    device ─ reader ─▶ stock ─ cutter ─▶ batch, signed ─▶ feed ─ session ─▶ node      one task each; a session a node

Besides these: the network file is watched, status pages are served, systemd is told. A fault of the device, the disk or the network file
becomes a condition in the status; an exception nobody foresaw is our own bug, ends the process, and the service manager starts it
again, which runs the full start-up test.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version

import trio

from qrngd.allowlist import AllowList
from qrngd.config import Config
from qrngd.cutter import Cutter
from qrngd.datadir import DataDirectory
from qrngd.feed.batch import Statement
from qrngd.feed.credit import NODES_MAX
from qrngd.feed.service import FeedService
from qrngd.health.state import DeviceState, StateChanged
from qrngd.pages import pages
from qrngd.pipeline import Pipeline
from qrngd.reader import DeviceReader
from qrngd.sockets import inherited_sockets
from qrngd.status import AlarmCounts, DeviceStatus, FeedStatus, NodeStatus, StatusSnapshot, status_line
from qrngd.stock import Stock
from qustream.aio.connection import Connection
from qustream.aio.http import serve_http
from qustream.aio.listener import ListenerLimits, ListenerStats, open_listener, serve, serve_unix
from qustream.aio.logs import logger
from qustream.aio.systemd import notify, watchdog_interval_ms
from qustream.errors import fault
from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.entropy import UNIT_BYTES, Attestation
from qustream.model.ids import IdKind, to_text
from qustream.registry import NetworkFileRegistry
from qustream.transport.address import show_address
from qustream.transport.greeting import LocalHello, Peer
from qustream.transport.limits import UNKNOWN_PEER_CHANNELS, Channel
from qustream.wire.feed import FeedHealth
from qustream.wire.hello import Role

__all__ = ["Daemon", "now_ms", "run"]

REGISTRY_POLL_S = 1.0  # a node that loses its licence loses its feed a second later
STATUS_S = 5.0  # systemd's status line and watchdog, at least this often
# A node has one connection, and one more while it replaces that; strangers cost a handshake each and no more than these places.
CONNECTIONS_MAX = 2 * NODES_MAX
FEED_CHANNELS = frozenset({Channel.CONTROL, Channel.REQUEST, Channel.BULK})
REASON_MAX_CHARS = 256  # of FeedHealth


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


class Daemon:
    """One QRNG server. Everything it needs is handed in open; `serve()` runs it."""

    def __init__(self, config: Config, key: SigningKey, allow: AllowList, first_number: int) -> None:
        self._config, self._key, self._allow = config, key, allow
        self._log = logger("qrngd")
        self._started_ms = now_ms()
        self._uids = frozenset(config.unix_uids or (os.geteuid(),))
        self._stats = ListenerStats()
        device = config.device[0]
        self._stock = Stock(config.stock_units * UNIT_BYTES)
        self._pipeline = Pipeline(
            device.expected,
            draw=ssl.RAND_bytes,
            reseed=lambda seed: ssl.RAND_add(seed, 0.0),
            assessed_min_entropy_millibits=device.assessed_min_entropy_millibits,
        )
        self._feed = FeedService(may_have=lambda node: node in allow, health=self._health(), clock_ms=now_ms)
        self._reader = DeviceReader(
            device.make(),
            self._pipeline,
            self._stock,
            wanted_units=lambda: self._feed.wanted_units,
            feed_changed=self._feed.changed,
            on_change=self._device_changed,
            clock_ms=now_ms,
        )
        self._cutter = Cutter(
            stock=self._stock,
            feed=self._feed,
            statement=self._statement(),
            sign=self._sign,
            first_number=first_number,
            clock_ms=now_ms,
        )

    def _statement(self) -> Statement:
        return Statement(
            chain=self._config.chain,
            server=self._key.id,
            conditioning=self._pipeline.conditioning_report(),
            lifetime_ms=self._config.attestation_lifetime_s * 1000,
            health_report=self._pipeline.health_report,
        )

    def _sign(self, attestation: Attestation) -> Signed:
        return self._key.sign_noun("attestation", attestation)

    # --- tasks

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT. Raises E-ADDRESS-IN-USE, E-CONFIG at the start."""
        with ExitStack() as sockets:
            inherited = inherited_sockets()
            listening = inherited.get("feed") or [open_listener(address) for address in self._config.listen]
            for sock in listening:
                sockets.enter_context(sock)
            async with trio.open_nursery() as nursery:
                shown_at = await self._show(nursery, inherited.get("pages", []))
                addresses = await self._listen(nursery, listening)
                nursery.start_soon(self._reader.run)
                nursery.start_soon(self._cutter.run)
                nursery.start_soon(self._watch)
                nursery.start_soon(self._report)
                self._log.info("listening", addresses=addresses, pages=shown_at, server=to_text(IdKind.QRNG, self._key.id))
                notify(READY="1", STATUS=status_line(self.snapshot()))
                await self._until_told_to_stop()
                nursery.cancel_scope.cancel()
        self._pipeline.wipe()
        self._stock.clear()

    async def _show(self, nursery: trio.Nursery, inherited: list[socket.socket]) -> str:
        """Serve the status pages; return their address as bound."""
        wanted = self._config.status_listen
        if not inherited and not wanted:
            return ""
        listeners = []
        for sock in inherited or [open_listener(wanted)]:
            sock.setblocking(False)
            listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(sock)))
        await nursery.start(serve_http, listeners, pages(self.snapshot))
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
                self._log.info("network file taken over", height=self._allow.height, nodes=len(self._allow))
                self._feed.recheck()
            trouble = self._allow.trouble
            if trouble is not None and str(trouble) != said:
                self._log.warning("network file refused", code=trouble.code, detail=trouble.detail)
            elif trouble is None and said:
                self._log.info("network file good again", height=self._allow.height)
            said = str(trouble or "")
            # Half of the lifetime, so that a unit is of use for as long again after it was made.
            self._stock.drop_older(now_ms() - self._config.attestation_lifetime_s * 500)
            await trio.sleep(REGISTRY_POLL_S)

    async def _report(self) -> None:
        """Keep systemd's status line fresh and its watchdog fed; a loop that hangs is restarted."""
        asked = watchdog_interval_ms()
        pause_s = min(STATUS_S, asked / 1000) if asked else STATUS_S
        while True:
            notify(STATUS=status_line(self.snapshot()), WATCHDOG="1")
            await trio.sleep(pause_s)

    async def _until_told_to_stop(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                self._log.info("stopping")
                notify(STOPPING="1")
                return

    # --- the device's state

    def _device_changed(self, change: StateChanged) -> None:
        """The device drives this, not a peer, so it may be loud."""
        if change.after is DeviceState.FAILED:
            self._cutter.discard()
        self._feed.announce(FeedHealth(change.after.value, change.code, change.reason[:REASON_MAX_CHARS]))
        log = self._log.info if not change.code else self._log.error if change.after is DeviceState.FAILED else self._log.warning
        log("device", before=change.before, state=change.after, code=change.code, reason=change.reason)
        notify(STATUS=status_line(self.snapshot()))

    def _health(self) -> FeedHealth:
        pipeline = self._pipeline
        return FeedHealth(pipeline.state.value, pipeline.code, pipeline.reason[:REASON_MAX_CHARS])

    # --- the picture

    def snapshot(self) -> StatusSnapshot:
        """How the server is, now."""
        trouble = self._allow.trouble
        device = self._device_status()
        return StatusSnapshot(
            version=version("qustream"),
            server=to_text(IdKind.QRNG, self._key.id),
            chain=self._config.chain,
            now_ms=now_ms(),
            started_ms=self._started_ms,
            ready=device.state == DeviceState.LIVE,
            reason="" if device.state == DeviceState.LIVE else device.reason,
            registry_trouble=str(trouble or ""),
            device=device,
            feed=self._feed_status(),
        )

    def _device_status(self) -> DeviceStatus:
        pipeline, reader, measured = self._pipeline, self._reader, self._pipeline.measured
        descriptor, cutoffs = pipeline.descriptor, pipeline.cutoffs
        return DeviceStatus(
            kind=descriptor.kind,
            model=descriptor.model,
            serial=descriptor.serial,
            source=descriptor.source,
            path=str(self._config.device[0].path or ""),
            emulated=descriptor.emulated,
            state=pipeline.state.value,
            code=pipeline.code,
            reason=pipeline.reason,
            since_ms=reader.since_ms,
            live_ms=reader.live_ms,
            opened=reader.opened,
            read_errors=reader.read_errors,
            history=tuple(reader.history),
            sample_bits=descriptor.sample_bits,
            min_entropy_millibits=pipeline.min_entropy_millibits,
            rct_cutoff=cutoffs.repetition[0],
            apt_cutoff=cutoffs.proportion[0],
            apt_window=cutoffs.window_samples,
            raw_bytes=reader.raw_bytes,
            samples=measured.samples,
            windows=measured.windows,
            windows_passed=measured.windows_passed,
            windows_discarded=measured.windows_discarded,
            windows_startup=measured.windows_startup,
            alarms=AlarmCounts(*measured.alarms),
            conditioned_bytes=measured.conditioned_bytes,
            seed_bytes=measured.seed_bytes,
            credited_bits=measured.credited_bits,
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
            stock_bytes=self._stock.size_bytes,
            stock_dropped_bytes=self._stock.dropped_bytes,
            connections=self._stats.open,
            handshakes_failed=sum(self._stats.handshakes_failed.values()),
            connections_refused=sum(self._stats.refused.values()),
        )


def run(config: Config, key: SigningKey) -> None:
    """Open everything and run the server until it is told to stop.

    Raises E-DATA-LOCKED, E-DATA-CORRUPT, E-DISK-FULL, E-ADDRESS-IN-USE, E-CONFIG; E-REGISTRY-…, E-FILE without a good network file.
    """
    registry = None
    if config.network_file is not None:
        registry = NetworkFileRegistry(config.network_file, config.network_key_id, chain=config.chain)
        registry.load(now_ms())
    with DataDirectory(config.data_dir) as directory:
        daemon = Daemon(config, key, AllowList(config.allowed_ids, registry), directory.next_run())
        trio.run(daemon.serve, strict_exception_groups=True)
