"""The node's configuration file (`proto/spec/node.md`). Identifiers and addresses are checked here, before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from qustream import settings
from qustream.errors import QuStreamError, fault
from qustream.model.ids import IdKind, from_text

__all__ = ["Config", "QrngServerConfig", "load_config"]

_ADDRESSES = Meta(min_length=1, max_length=8)
_GIB = 1 << 30
# A node serves all day from this many held blocks of 262.5 KB each: 4,096 of them are 1.1 GB.
_HELD_MAX_BLOCKS = 1_000_000


class QrngServerConfig(settings.Section, frozen=True):
    """`[[qrngd]]`: a QRNG server this node takes units from; `id` is its qr1… text."""

    address: str
    id: str

    @property
    def server(self) -> bytes:
        """The raw 32-byte id."""
        return from_text(self.id, IdKind.QRNG)


class Config(settings.Section, frozen=True):
    """The whole file; `qnode init` writes a commented one."""

    chain: Annotated[str, Meta(min_length=1, max_length=64)]
    network_file: Path
    network_key: str
    data_dir: Path
    listen: Annotated[tuple[str, ...], _ADDRESSES]
    qrngd: Annotated[tuple[QrngServerConfig, ...], Meta(min_length=1, max_length=16)]
    keystore: Path
    status_listen: str = ""
    passphrase_file: Path | None = None
    # 2.1 MB of units in memory; at one request a second a refill every eight.
    pool_units: Annotated[int, Meta(ge=1, le=256)] = 8
    held_blocks: Annotated[int, Meta(ge=16, le=_HELD_MAX_BLOCKS)] = 4096
    # An operator's own machine; every TLS connection takes about 100 KB.
    connections: Annotated[int, Meta(ge=4, le=20_000)] = 512
    connections_per_address: Annotated[int, Meta(ge=1, le=20_000)] = 64
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def network_key_id(self) -> bytes:
        """The raw 32-byte id of the key that signs the network file."""
        return from_text(self.network_key, IdKind.NETWORK)


def load_config(path: Path) -> Config:
    """Read and check the file at `path`. Raises `E-CONFIG`, `E-FILE`."""
    config = settings.load(path, Config)
    try:
        _check(config)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{path}: {error.detail}") from None
    return config


def _check(config: Config) -> None:
    for number, address in enumerate(config.listen):
        _check_address(f"listen[{number}]", address)
    if config.status_listen:
        _check_address("status_listen", config.status_listen)
    for number, entry in enumerate(config.qrngd):
        _check_text(f"qrngd[{number}].id", entry.id, IdKind.QRNG)
        if not entry.address.startswith("unix:"):
            _check_address(f"qrngd[{number}].address", entry.address)
    _check_text("network_key", config.network_key, IdKind.NETWORK)


def _check_text(key: str, text: str, kind: IdKind) -> None:
    try:
        from_text(text, kind)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{key}: {error.detail}") from None


def _check_address(key: str, address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 0xFFFF:
        raise fault("E-CONFIG", f"{key}: {address!r} is not host:port")
