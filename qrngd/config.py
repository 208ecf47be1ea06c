"""The daemon's configuration file. Identifiers and addresses are checked here, before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from qrngd.device_config import DeviceConfig
from qustream import settings
from qustream.errors import QuStreamError, fault
from qustream.light.nodes import AskedNode, node_from_text
from qustream.model.base import Label
from qustream.model.ids import IdKind, from_text

__all__ = ["AllowEntry", "Config", "DeviceConfig", "load_config", "parse_config"]

# Attested randomness is meant for use now; a day covers a node that cannot reach its server overnight.
_LIFETIME_MAX_S = 24 * 3600
# Stock may be half as old when it is attested, and a node takes nothing that ends within 30 s: below this nobody would take it.
_LIFETIME_MIN_S = 300
# 256 MiB of conditioned bytes in memory: a full second of the reference appliance.
_STOCK_MAX_UNITS = 1024
# Each device is a process and its memory; a machine with more cards than that runs a second server.
_DEVICES_MAX = 16
CONTROL_FILE = "control.sock"  # beside the server's data, if the configuration names no other place
# From a few minutes' leaves at full rate to what a large disk can spare.
_LOG_MIN_BYTES, _LOG_MAX_BYTES = 16 << 20, 1 << 44


class AllowEntry(settings.Section, frozen=True):
    """`[[allow]]`: a node that may have a feed; `id` is its qn1… text, `name` for people."""

    id: str
    name: Label = ""

    @property
    def node(self) -> bytes:
        """The raw 32-byte id."""
        return from_text(self.id, IdKind.NODE)


class Config(settings.Section, frozen=True):
    """The whole file; `qrngd init` writes a commented one."""

    chain: Annotated[str, Meta(min_length=1, max_length=64)]
    data_dir: Path
    device: Annotated[tuple[DeviceConfig, ...], Meta(max_length=_DEVICES_MAX)]
    listen: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    unix: Path | None = None
    unix_uids: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=64)] = ()
    status_listen: str = ""
    allow: Annotated[tuple[AllowEntry, ...], Meta(max_length=8192)] = ()
    network_file: Path | None = None
    network_key: str = ""
    # In place of these two: a chain, from a pinned checkpoint on, as these nodes prove it.
    checkpoint: str = ""
    nodes: Annotated[tuple[str, ...], Meta(max_length=16)] = ()
    passphrase_file: Path | None = None
    attestation_lifetime_s: Annotated[int, Meta(ge=_LIFETIME_MIN_S, le=_LIFETIME_MAX_S)] = 3600
    stock_units: Annotated[int, Meta(ge=1, le=_STOCK_MAX_UNITS)] = 16
    node_units_per_minute: Annotated[int, Meta(ge=0, le=1 << 32)] = 0
    leaf_log_keep_bytes: Annotated[int, Meta(ge=_LOG_MIN_BYTES, le=_LOG_MAX_BYTES)] = 1 << 30
    control: Path | None = None
    memory_lock: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def allowed_ids(self) -> frozenset[bytes]:
        """The nodes the file itself lists, raw."""
        return frozenset(entry.node for entry in self.allow)

    @property
    def checkpoint_digest(self) -> bytes | None:
        """The raw 32 bytes of the checkpoint, if the nodes are a chain's."""
        return from_text(self.checkpoint, IdKind.CHECKPOINT) if self.checkpoint else None

    @property
    def asked(self) -> tuple[AskedNode, ...]:
        """The nodes that are asked about the chain."""
        return tuple(map(node_from_text, self.nodes))

    @property
    def control_path(self) -> Path:
        """Where the running server hears its operator."""
        return self.control or self.data_dir / CONTROL_FILE

    @property
    def network_key_id(self) -> bytes:
        """The raw 32-byte id of the key that signs the network file."""
        return from_text(self.network_key, IdKind.NETWORK)


def load_config(path: Path) -> Config:
    """Read and check the file at `path`. Raises `E-CONFIG`, `E-FILE`."""
    config = settings.load(path, Config)
    try:
        return _checked(config)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{path}: {error.detail}") from None


def parse_config(text: str, folder: Path) -> Config:
    """Check a configuration that is in no file yet; relative paths are taken from `folder`. Raises `E-CONFIG`."""
    return _checked(settings.loads(text, Config, folder))


def _checked(config: Config) -> Config:
    _check_devices(config.device)
    if not config.listen and config.unix is None:
        raise fault("E-CONFIG", "listen: give an address or a unix socket, or no node can have a feed")
    if config.unix_uids and config.unix is None:
        raise fault("E-CONFIG", "unix_uids: there is no unix socket these could use")
    for number, address in enumerate(config.listen):
        _check_address(f"listen[{number}]", address)
    if config.status_listen:
        _check_address("status_listen", config.status_listen)
    if (config.network_file is None) != (not config.network_key):
        raise fault("E-CONFIG", "network_file and network_key, the id of the key that signs it, go together")
    if config.network_key:
        _check_text("network_key", config.network_key, IdKind.NETWORK)
    _check_chain(config)
    for number, entry in enumerate(config.allow):
        _check_text(f"allow[{number}].id", entry.id, IdKind.NODE)
    if not config.allow and config.network_file is None and not config.checkpoint:
        raise fault(
            "E-CONFIG", "allow: nobody may have a feed; list nodes, or name the network file, or a chain, to allow all licensed ones"
        )
    return msgspec.structs.replace(config, unix=config.unix.absolute() if config.unix else None)


def _check_chain(config: Config) -> None:
    if bool(config.checkpoint) != bool(config.nodes):
        raise fault("E-CONFIG", "checkpoint and nodes, whom to ask about the chain, go together")
    if not config.checkpoint:
        return
    if config.network_file is not None:
        raise fault("E-CONFIG", "checkpoint: who is licensed is a chain's to say, or a network file's, and network_file is set")
    _check_text("checkpoint", config.checkpoint, IdKind.CHECKPOINT)
    for number, text in enumerate(config.nodes):
        try:
            node_from_text(text)
        except QuStreamError as error:
            raise fault("E-CONFIG", f"nodes[{number}]: {error.detail}") from None


def _check_devices(devices: tuple[DeviceConfig, ...]) -> None:
    if not devices:
        raise fault("E-CONFIG", "device: there is none; nothing is ever read that is not named here")
    names = [device.name for device in devices]
    for number, device in enumerate(devices):
        if names.index(device.name) != number:
            raise fault("E-CONFIG", f"device[{number}].name: {device.name!r} is taken; give each device a name of its own")
        paths = [str(each.path) for each in devices[:number] if each.path is not None]
        if device.path is not None and str(device.path) in paths:
            raise fault("E-CONFIG", f"device[{number}].path: {device.path} is another device's already")
        device.check(f"device[{number}]")


def _check_text(key: str, text: str, kind: IdKind) -> None:
    try:
        from_text(text, kind)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{key}: {error.detail}") from None


def _check_address(key: str, address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 0xFFFF:
        raise fault("E-CONFIG", f"{key}: {address!r} is not host:port")
