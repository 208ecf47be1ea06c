"""`qnode doctor`: everything a node needs, tried one by one before it runs, or beside it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from qnode.cli.options import config_option, open_key
from qnode.config import Config, load_config
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.registry import NetworkFileRegistry
from qustream.transport.address import parse_address
from qustream.transport.blocking import connect
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role

__all__ = ["doctor"]

BLOCK_FOOTPRINT_BYTES = 270_336  # a held block in whole LMDB pages
SPARE_BYTES = 64 << 20  # LMDB's own pages, logs
CONNECT_TIMEOUT_MS = 5_000  # a QRNG server on the same site answers in milliseconds
CLOCK_EARLIEST_MS = 1_767_225_600_000  # 2026-01-01: before this code was written


@click.command()
@config_option
def doctor(config_path: Path) -> None:
    """Check configuration, keys, disk, network file, addresses and QRNG servers. Exit 1 when something is wrong."""
    failures = 0
    for name, trouble in _checks(config_path):
        failures += trouble is not None
        click.echo(f"ok    {name}" if trouble is None else f"FAIL  {name}: {trouble}")
    click.echo(f"{failures} of the checks failed" if failures else "everything a node needs is in order")
    sys.exit(1 if failures else 0)


def _checks(path: Path) -> Iterator[tuple[str, QuStreamError | None]]:
    try:
        config = load_config(path)
    except QuStreamError as error:
        yield "configuration", error
        return
    yield "configuration", None
    key: SigningKey | None = None
    try:
        key = open_key(config, prompt=sys.stdin.isatty())
        yield f"keystore: {to_text(IdKind.NODE, key.id)}", None
    except QuStreamError as error:
        yield "keystore", error
    yield "clock", _tried(_clock)
    yield "data directory", _tried(lambda: _disk(config))
    registry = NetworkFileRegistry(config.network_file, config.network_key_id, chain=config.chain)
    trouble = _tried(lambda: registry.load(_now_ms()))
    yield "network file", trouble
    if key is None:
        return
    if trouble is None:
        yield "licence", _tried(lambda: _licence(registry, config, key))
    for address in (*config.listen, config.status_listen):
        if address:
            yield f"address {address}", _tried(lambda address=address: _address(address))  # type: ignore[misc]
    for entry in config.qrngd:
        yield f"QRNG server {entry.address}", _tried(lambda entry=entry: _server(entry.address, entry.server, config, key))  # type: ignore[misc]


def _tried(check: Callable[[], object]) -> QuStreamError | None:
    try:
        check()
    except QuStreamError as error:
        return error
    return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _clock() -> None:
    if _now_ms() < CLOCK_EARLIEST_MS:
        raise fault("E-REQUEST-EXPIRED", "the clock of this machine stands before this version was made")


def _disk(config: Config) -> None:
    folder = config.data_dir
    if not folder.is_dir():
        raise fault("E-FILE", f"{folder} is not there; qnode init makes it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise fault("E-FILE", f"{folder} may not be written")
    used = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    need = config.held_blocks * BLOCK_FOOTPRINT_BYTES + SPARE_BYTES - used
    if (free := shutil.disk_usage(folder).free) < need:
        raise fault("E-DISK-FULL", f"{folder}: {free >> 20} MiB are free, {config.held_blocks} held blocks need {need >> 20} MiB more")


def _licence(registry: NetworkFileRegistry, config: Config, key: SigningKey) -> None:
    record = registry.node(key.id)
    if not record.active:
        raise fault("E-PEER-UNLICENSED", "the network lists this node, but not as active")
    if not set(record.addresses) & set(config.listen) and not any(a.startswith(("0.0.0.0:", "[::]:")) for a in config.listen):
        raise fault("E-CONFIG", f"the network tells others to connect to {', '.join(record.addresses)}, and none of these is in `listen`")


def _address(address: str) -> None:
    """Free, or served already (by this node, if it runs)."""
    where = parse_address(address)
    with socket.socket(socket.AF_INET6 if ":" in where.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((where.host, where.port))
        except PermissionError:
            raise fault("E-ADDRESS-IN-USE", f"{address} needs privileges to listen on") from None
        except OSError as error:
            if not _answers(where.host, where.port):
                raise fault("E-ADDRESS-IN-USE", f"{address}: {error.strerror}") from None


def _answers(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _server(address: str, server: bytes, config: Config, key: SigningKey) -> None:
    if address.startswith("unix:"):
        if not Path(address.removeprefix("unix:")).is_socket():
            raise fault("E-PEER-UNREACHABLE", f"no socket at {address.removeprefix('unix:')}")
        return
    hello = LocalHello(config.chain, (Role.NODE,))
    connect(address, key=key, hello=hello, expect=server, timeout_ms=CONNECT_TIMEOUT_MS).close()
