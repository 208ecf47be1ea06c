"""`qnode doctor`: everything a node needs, tried one by one before it runs, or beside it.

Beside a running node nothing is disturbed: what only one process may have (the data directory, the addresses, the feed of a
QRNG server, the links to other nodes) is then judged by what the running node says.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from qnode.api.status import LinkSnapshot, StatusSnapshot
from qnode.cli.options import config_option, open_key
from qnode.config import Config, QrngServerConfig, load_config
from qnode.store.history import require_history
from qustream.aio.status_page import fetch
from qustream.errors import CODES, QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass
from qustream.registry import NetworkFileRegistry, Registry
from qustream.transport.address import parse_address
from qustream.transport.blocking import connect
from qustream.transport.engine import Closed, Engine
from qustream.transport.greeting import LocalHello
from qustream.wire.codec import decode, encode
from qustream.wire.feed import FeedHealth, FeedOpen
from qustream.wire.hello import Role

if TYPE_CHECKING:
    from qnode.cli.doctor_chain import ChainOnDisk

__all__ = ["doctor"]

BLOCK_FOOTPRINT_BYTES = 278_528  # a held block in whole LMDB pages
SPARE_BYTES = 128 << 20  # what the store keeps free for erasures, and LMDB's own pages
CONNECT_TIMEOUT_MS = 5_000  # a QRNG server on the same site answers in milliseconds
CLOCK_EARLIEST_MS = 1_767_225_600_000  # 2026-01-01: before this code was written
HANDSHAKE_FLIGHTS_MAX = 10  # TLS and both Hellos take four
HEALTH_MAX_BYTES = 2048  # a state, a code and a sentence of 256 characters
NO_KEY = fault("E-SECRET-MISSING", "not tried without this node's key")


class Finding(NamedTuple):
    """What a check found: a trouble, or a note for somebody who wonders what was checked."""

    name: str
    trouble: QuStreamError | None
    note: str = ""


@click.command()
@config_option
def doctor(config_path: Path) -> None:
    """Check configuration, keys, clock, disk, network file or chain, what a validator needs, addresses, QRNG servers, other nodes,
    whether they reach this one, and the line. Exit 1 when something is wrong."""
    failures = 0
    for name, trouble, note in _findings(config_path):
        failures += trouble is not None
        click.echo(f"FAIL  {name}: {trouble}" if trouble else f"ok    {name}{': ' + note if note else ''}")
    click.echo(f"{failures} of the checks failed" if failures else "everything a node needs is in order")
    sys.exit(1 if failures else 0)


def _findings(path: Path) -> Iterator[Finding]:
    found = _tried("configuration", lambda: str(path) if load_config(path) else "")
    yield found
    if found.trouble is None:
        yield from _Examination(load_config(path)).findings()


def _tried(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, None, check())
    except QuStreamError as error:
        return Finding(name, error)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Examination:
    """The checks of one configuration."""

    def __init__(self, config: Config) -> None:
        self._config = config
        from qnode.service.watch import kept_file  # which loads the event loop; the command's help shall not

        kept = kept_file(config.data_dir)
        self._file: NetworkFileRegistry | None = None
        if config.network_file is not None:
            self._file = NetworkFileRegistry(config.network_file, config.network_key_id, chain=config.chain, kept=kept)
        self._chain: Registry | None = None
        self._on_disk: ChainOnDisk | None = None
        self._key: SigningKey | None = None
        self._running: StatusSnapshot | None = None

    def findings(self) -> Iterator[Finding]:
        yield _tried("keystore", self._keystore)
        self._running = self._running_node()
        yield _tried("cryptography", self._cryptography)
        yield _tried("clock", self._clock)
        yield _tried("data directory", self._directory)
        yield _tried("disk space", self._space)
        network = _tried("network file" if self._file is not None else "chain", self._network)
        yield network
        if network.trouble is None and self._key is not None:
            yield _tried("licence", self._licence)
        if network.trouble is None and self._on_disk is not None:
            yield from self._on_chain(self._on_disk)
        for address in self._config.listen:
            yield _tried(f"address {address}", lambda address=address: self._listen(address))  # type: ignore[misc]
        if address := self._config.status_listen:
            yield _tried(f"status address {address}", lambda: self._status_listen(address))
        for entry in self._config.qrngd:
            yield _tried(f"QRNG server {entry.address}", lambda entry=entry: self._server(entry))  # type: ignore[misc]
        if network.trouble is None:
            yield from self._others()
        if self._running is not None:
            yield _tried("running node", self._readiness)

    def _on_chain(self, chain: ChainOnDisk) -> Iterator[Finding]:
        """The chain, and what a validator needs."""
        from qnode.cli.doctor_chain import ChainSurvey

        node_id = self._key.id if self._key is not None else b""
        survey = ChainSurvey(self._config, chain, self._running, node_id=node_id, now_ms=_now_ms())
        yield _tried("genesis", survey.genesis)
        yield _tried("chain head", survey.head)
        yield _tried("room for the chain", survey.room)
        if self._config.validator is None:
            return
        yield _tried("sign-state", survey.memory) if self._key is not None else Finding("sign-state", NO_KEY)
        if self._key is not None or self._running is not None:
            yield _tried("validator", survey.duty)

    def _others(self) -> Iterator[Finding]:
        """Other nodes, and the line to them. The event loop is loaded for these checks alone."""
        from qnode.cli.doctor_peers import PeerSurvey, asks_of, peers_of, reach_of

        if (running := self._running) is not None:
            sync = running.ledger.sync if running.ledger is not None else None
            yield _tried("peers", lambda: peers_of(running.network) if sync is None or sync.licensed else asks_of(sync))
            yield _tried("reachable", lambda: reach_of(running.network, running.now_ms))
        if (key := self._key) is None:
            yield Finding("licence and bandwidth" if running else "licence, peers, reachable and bandwidth", NO_KEY)
            return
        if running is None:
            config, local = self._config, self._local()
            survey = PeerSurvey(key, self._registry, chain=config.chain, listen=config.listen, told=config.addresses, local=local)
            yield _tried("peers", survey.peers)
            yield _tried("reachable", survey.reachable)
        yield _tried("bandwidth", self._bandwidth)

    def _bandwidth(self) -> str:
        from qnode.cli.doctor_bandwidth import Bandwidth

        assert self._key is not None, "the line is measured as this node"
        return Bandwidth(self._key, self._registry, chain=self._config.chain, local=self._local()).measure()

    def _local(self) -> Callable[[bytes], Collection[str] | None]:
        if self._on_disk is None:  # a network file is the word of who keeps it
            return lambda _: None
        from qnode.cli.doctor_chain import local_by

        return local_by(self._config, self._on_disk.genesis)

    # -- this machine ---------------------------------------------------------------------------------------------------

    def _keystore(self) -> str:
        self._key = open_key(self._config)
        return to_text(IdKind.NODE, self._key.id)

    def _cryptography(self) -> str:
        """A whole handshake of the transport's profile, from this process to itself."""
        key, hello = self._key or SigningKey(os.urandom(32)), LocalHello(self._config.chain, (Role.NODE,))
        ends = [Engine("client", key=key, hello=hello), Engine("server", key=key, hello=hello)]
        for end in ends:
            end.start()
        for turn in range(HANDSHAKE_FLIGHTS_MAX):
            speaks, hears = ends[turn % 2], ends[1 - turn % 2]
            for event in hears.receive(speaks.data_to_send()):
                if isinstance(event, Closed) and event.error is not None:
                    raise event.error
        if ends[0].peer is None or ends[1].peer is None:
            raise fault("E-TLS-HANDSHAKE", "a handshake with this very process does not come to its end")
        return "TLS 1.3, X25519MLKEM768, ML-DSA-65"

    def _clock(self) -> str:
        if _now_ms() < CLOCK_EARLIEST_MS:
            raise fault("E-CLOCK", "it stands before this version was made")
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())

    def _directory(self) -> str:
        folder = self._config.data_dir
        if not folder.is_dir():
            raise fault("E-FILE", f"{folder} is not there; qnode init makes it")
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise fault("E-FILE", f"{folder} may not be read and written by this user")
        require_history(folder)
        if not self._is_locked():
            return f"{folder}, free"
        if self._running is None:
            raise fault("E-DATA-LOCKED", f"a process works in {folder}, and this node does not answer at its status address")
        return f"{folder}, in use by this node"

    def _is_locked(self) -> bool:
        try:
            handle = os.open(self._config.data_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def _space(self) -> str:
        folder, blocks = self._config.data_dir, self._config.held_blocks
        if not folder.is_dir():
            raise fault("E-FILE", f"{folder} is not there")
        used = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
        need, free = blocks * BLOCK_FOOTPRINT_BYTES + SPARE_BYTES - used, shutil.disk_usage(folder).free
        if free < need:
            raise fault("E-DISK-FULL", f"{folder}: {free >> 20} MiB are free, held_blocks = {blocks} may need {need >> 20} MiB more")
        return f"{free >> 20} MiB free, {blocks} held blocks may need {max(0, need) >> 20} MiB more"

    # -- the network ----------------------------------------------------------------------------------------------------

    @property
    def _registry(self) -> Registry:
        registry = self._file or self._chain
        assert registry is not None, "looked at once it has been read"
        return registry

    def _network(self) -> str:
        if self._file is not None:
            self._file.load(_now_ms())
        else:
            from qnode.cli.doctor_chain import open_chain  # which loads the event loop; the command's help shall not

            self._on_disk = open_chain(self._config)
            self._chain = self._on_disk.registry
            if self._running is not None and self._running.ledger is not None:  # which has the chain's store
                return f"block {self._running.ledger.executed}, epoch {self._running.epoch}"
        registry = self._registry
        nodes = sum(len(registry.nodes(node_class)) for node_class in NodeClass)
        try:
            epoch = registry.epoch(_now_ms()).number
        except QuStreamError as error:
            raise fault("E-CLOCK", error.detail) from None
        what = "version" if self._file is not None else "block"
        return f"{what} {registry.height}, {nodes} nodes, epoch {epoch}"

    def _licence(self) -> str:
        assert self._key is not None, "the licence is looked up by the key"
        if self._on_disk is not None and self._running is not None:
            from qnode.cli.doctor_chain import licence_by

            line = licence_by(self._config, self._key.id)
            return self._led_to(f"{line.node_class}, licence {line.licence} of {line.owner}", line.addresses)
        try:
            record = self._registry.node(self._key.id)
        except QuStreamError:
            if self._on_disk is not None and self._on_disk.store is None:
                return "not known before the chain is here, for it does not begin with this node; run it, then qnode licence activate"
            raise
        if not record.active:
            raise fault("E-PEER-UNLICENSED", "the network lists this node, but not as active")
        return self._led_to(f"{NodeClass(record.node_class).name.lower()}, operator {record.operator}", record.addresses)

    def _led_to(self, who: str, addresses: Sequence[str]) -> str:
        listen, shown = self._config.listen, ", ".join(addresses)
        if any(_leads_to(address, ours) for address in addresses for ours in listen):
            return f"{who}, found at {shown}"
        if not shown or any(_is_local(address) for address in addresses):
            raise fault(
                "E-CONFIG", f"listen: the network tells others to connect to {shown or 'no address'}, where this node does not listen"
            )
        return f"{who}; the network tells others to connect to {shown}: see to it that this leads to {', '.join(listen)}"

    # -- addresses ------------------------------------------------------------------------------------------------------

    def _listen(self, address: str) -> str:
        if self._running is not None and _socket_address(address) in map(_socket_address, self._running.addresses):
            return "in use by this node"
        return _check_free(address)

    def _status_listen(self, address: str) -> str:
        return "in use by this node" if self._running is not None else _check_free(address)

    def _server(self, entry: QrngServerConfig) -> str:
        if self._running is not None:
            return _of_link(entry, self._running.links)
        if self._key is None:
            raise NO_KEY
        hello, expect = LocalHello(self._config.chain, (Role.NODE,)), entry.server
        with connect(entry.address, key=self._key, hello=hello, expect=expect, timeout_ms=CONNECT_TIMEOUT_MS) as connection:
            answer = connection.call(encode(FeedOpen(self._key.id, 0)), deadline_ms=CONNECT_TIMEOUT_MS, max_answer_bytes=HEALTH_MAX_BYTES)
        health = decode(answer, FeedHealth, max_bytes=HEALTH_MAX_BYTES)
        reason = "".join(c if c.isprintable() else "?" for c in health.reason)
        if health.code in CODES:
            raise fault(health.code, f"its device: {reason}")
        return f"its device is {health.state if health.state.isalpha() else '?'}: {reason}"

    # -- the running node -----------------------------------------------------------------------------------------------

    def _running_node(self) -> StatusSnapshot | None:
        """What answers at the status address, if it is this node: by its id, or where the keystore does not open by what it listens on."""
        if not self._config.status_listen:
            return None
        try:
            snapshot = StatusSnapshot.from_json(fetch(f"http://{self._config.status_listen}/v1/status")[1])
        except (QuStreamError, ValueError):
            return None
        if self._key is not None:
            return snapshot if snapshot.node == to_text(IdKind.NODE, self._key.id) else None
        listens = {_socket_address(address) for address in snapshot.addresses}
        return snapshot if snapshot.chain == self._config.chain and {*map(_socket_address, self._config.listen)} <= listens else None

    def _readiness(self) -> str:
        assert self._running is not None, "asked of a running node alone"
        for stopping in (c for c in self._running.conditions if c.stops and c.code in CODES):
            raise fault(stopping.code, stopping.detail)
        return "ready"


def _of_link(entry: QrngServerConfig, links: tuple[LinkSnapshot, ...]) -> str:
    for link in links:
        if link.server == entry.id:
            if link.code in CODES:
                raise fault(link.code, link.reason)
            return f"{link.state}, {link.units} units since this node started"
    raise fault("E-CONFIG", "the running node does not know this server; restart it to take the new configuration")


def _leads_to(address: str, listen: str) -> bool:
    """Whether who connects to `address` on this very machine arrives at `listen`."""
    there, here = parse_address(address), parse_address(listen)
    return there.port == here.port and (_socket_address(address) == _socket_address(listen) or here.host in ("0.0.0.0", "::"))  # noqa: S104


def _is_local(address: str) -> bool:
    """Whether the address is this machine's own."""
    host = parse_address(address).host
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def _socket_address(address: str) -> tuple[object, int]:
    """Two spellings of one address are equal."""
    where = parse_address(address)
    try:
        return ipaddress.ip_address(where.host), where.port
    except ValueError:
        return where.host, where.port


def _check_free(address: str) -> str:
    where = parse_address(address)
    with socket.socket(socket.AF_INET6 if ":" in where.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((where.host, where.port))
        except OSError as error:
            raise fault("E-ADDRESS-IN-USE", f"{address}: {error.strerror}") from None
    return "free"
