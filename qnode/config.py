"""The node's configuration file (`proto/spec/node.md`). Identifiers and addresses are checked here, before anything starts."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import replace

from qustream import settings
from qustream.errors import QuStreamError, fault
from qustream.model.ids import IdKind, from_text
from qustream.rules.peering import is_address
from qustream.transport.address import Address, parse_address

__all__ = ["Config", "QrngServerConfig", "ValidatorConfig", "load_config", "named_node"]

_ADDRESSES = Meta(min_length=1, max_length=8)  # as many as the registry has for a node
_HELD_MAX_BLOCKS = 1_000_000  # 279 GB; more disks are more nodes
UNIX = "unix:"


class QrngServerConfig(settings.Section, frozen=True):
    """`[[qrngd]]`: a QRNG server this node takes units from; `address` is host:port or unix:path, `id` its qr1… text."""

    address: str
    id: str

    @property
    def server(self) -> bytes:
        """The raw 32-byte id."""
        return from_text(self.id, IdKind.QRNG)


class ValidatorConfig(settings.Section, frozen=True):
    """`[validator]`: what a node votes with on the chain. `sign_state`: what it must not forget to have signed; by itself beside the
    keystore, for it is no part of any backup."""

    vote_keystore: Path
    sign_state: Path | None = None

    @property
    def sign_state_path(self) -> Path:
        return self.sign_state or self.vote_keystore.with_name("sign-state")


class Config(settings.Section, frozen=True):
    """The whole file; `qnode init` writes a commented one."""

    chain: Annotated[str, Meta(min_length=1, max_length=64)]
    data_dir: Path
    listen: Annotated[tuple[str, ...], _ADDRESSES]
    qrngd: Annotated[tuple[QrngServerConfig, ...], Meta(min_length=1, max_length=16)]
    keystore: Path
    # Exactly one of these says who belongs to the network: a signed file, or a chain by how it begins.
    network_file: Path | None = None
    network_key: str = ""
    genesis_file: Path | None = None
    # Where a chain's node begins that has nothing yet: with the state of others, not by replaying all blocks.
    checkpoint: str = ""
    # Whom a chain's node asks as long as it is no link of anybody; genesis' nodes, too, but these may be gone. Sixteen are plenty.
    nodes: Annotated[tuple[str, ...], Meta(max_length=16)] = ()
    validator: ValidatorConfig | None = None
    status_listen: str = ""
    passphrase_file: Path | None = None
    # 2.1 MB of units in memory; at one request a second a refill every eight. The most a QRNG server lets a node ask for is 256.
    pool_units: Annotated[int, Meta(ge=1, le=256)] = 8
    # 1.1 GB of disk; at a day's lifetime about three requests a minute.
    held_blocks: Annotated[int, Meta(ge=16, le=_HELD_MAX_BLOCKS)] = 4096
    # An operator's own machine; every TLS connection takes about 100 KB.
    connections: Annotated[int, Meta(ge=4, le=20_000)] = 512
    # An office behind one address, but no more than an eighth of the places.
    connections_per_address: Annotated[int, Meta(ge=1, le=20_000)] = 64
    # Where the network's other nodes are told to find this one, where that is not what the network file says.
    addresses: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    peers: bool = True  # whether it is linked to other nodes
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def network_key_id(self) -> bytes:
        """The raw 32-byte id of the key that signs the network file."""
        return from_text(self.network_key, IdKind.NETWORK)

    @property
    def checkpoint_digest(self) -> bytes | None:
        """The raw 32 bytes of the checkpoint, if there is one."""
        return from_text(self.checkpoint, IdKind.CHECKPOINT) if self.checkpoint else None

    @property
    def named_nodes(self) -> dict[bytes, tuple[str, ...]]:
        """Addresses of the nodes that are named, by raw id."""
        named: dict[bytes, tuple[str, ...]] = {}
        for text in self.nodes:
            node, address = named_node(text)
            named[node] = (*named.get(node, ()), address)
        return named


def load_config(path: Path) -> Config:
    """Read and check the file at `path`. Relative paths, that of a Unix socket too, are taken from its folder.

    Raises `E-CONFIG`, `E-FILE`."""
    config = settings.load(path, Config)
    try:
        return _checked(config, path.resolve().parent)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{path}: {error.detail}") from None


def _check_network(config: Config) -> None:
    """One word on who belongs to the network."""
    if config.checkpoint:
        _check_text("checkpoint", config.checkpoint, IdKind.CHECKPOINT)
        if config.genesis_file is None:
            raise fault("E-CONFIG", "checkpoint: only a chain has one, and genesis_file is not set")
    for number, text in enumerate(config.nodes):
        if config.genesis_file is None:
            raise fault("E-CONFIG", "nodes: only a chain is asked for, and genesis_file is not set")
        try:
            named_node(text)
        except QuStreamError as error:
            raise fault("E-CONFIG", f"nodes[{number}]: {text!r} is not qn1…@host:port: {error.detail}") from None
    if (config.network_file is None) == (config.genesis_file is None):
        raise fault("E-CONFIG", "network_file or genesis_file is needed, and not both: the network is a file's, or a chain's")
    if config.network_file is not None:
        _check_text("network_key", config.network_key, IdKind.NETWORK)
        if config.validator is not None:
            raise fault("E-CONFIG", "validator: only a chain has validators, and network_file is set")
    elif config.network_key:
        raise fault("E-CONFIG", "network_key: it belongs to network_file; a chain is known by its genesis_file")
    elif not config.peers:
        raise fault("E-CONFIG", "peers: a chain is followed with other nodes, so with genesis_file it cannot be false")


def _checked(config: Config, folder: Path) -> Config:
    for number, address in enumerate(config.listen):
        _check_listen(f"listen[{number}]", address)
    if config.status_listen:
        _check_listen("status_listen", config.status_listen)
    for number, address in enumerate(config.addresses):
        _check_told(f"addresses[{number}]", address)
    _check_network(config)
    servers = tuple(_checked_server(f"qrngd[{n}]", entry, folder) for n, entry in enumerate(config.qrngd))
    for number, entry in enumerate(servers):
        if entry.id in {other.id for other in servers[:number]}:
            raise fault("E-CONFIG", f"qrngd[{number}].id: this server is listed already; a node has one link to each")
    return replace(config, qrngd=servers)


def _checked_server(key: str, entry: QrngServerConfig, folder: Path) -> QrngServerConfig:
    _check_text(f"{key}.id", entry.id, IdKind.QRNG)
    if entry.address.startswith(UNIX):
        entry = replace(entry, address=f"{UNIX}{folder / entry.address.removeprefix(UNIX)}")
    _address(f"{key}.address", entry.address)
    return entry


def _check_text(key: str, text: str, kind: IdKind) -> None:
    try:
        from_text(text, kind)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{key}: {error.detail}") from None


def named_node(text: str) -> tuple[bytes, str]:
    """`qn1…@host:port`."""
    name, _, address = text.partition("@")
    if not is_address(address):
        raise fault("E-CONFIG", f"{address!r} is no address of a node")
    return from_text(name, IdKind.NODE), address


def _check_listen(key: str, address: str) -> None:
    """A machine listens on its own addresses, which are numbers."""
    try:
        ipaddress.ip_address(_address(key, address).host)
    except ValueError:
        raise fault("E-CONFIG", f"{key}: {address!r}: a numeric address is needed, such as 0.0.0.0:7400") from None


def _check_told(key: str, address: str) -> None:
    """What others shall connect to (`proto/spec/peers.md`, §1). They would charge us for anything else."""
    if not is_address(address):
        such = "such as node.example.org:7400, 192.0.2.7:7400 or [2001:db8::7]:7400"
        raise fault("E-CONFIG", f"{key}: {address!r}: host:port is needed, where others can connect to this node, {such}")


def _address(key: str, address: str) -> Address:
    try:
        return parse_address(address)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{key}: {error.detail}") from None
