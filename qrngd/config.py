"""The daemon's configuration file. Identifiers and addresses are checked here, before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from qrngd.devices import EMULATOR_MIN_ENTROPY_MILLIBITS, CharacterDevice, Device, Emulator
from qustream import settings
from qustream.errors import QuStreamError, fault
from qustream.model.base import Label
from qustream.model.entropy import DeviceDescriptor
from qustream.model.ids import IdKind, from_text

__all__ = ["AllowEntry", "Config", "DeviceConfig", "load_config"]

# Attested randomness is meant for use now; a day covers a node that cannot reach its server overnight.
_LIFETIME_MAX_S = 24 * 3600
# Stock may be half as old when it is attested, and a node takes nothing that ends within 30 s: below this nobody would take it.
_LIFETIME_MIN_S = 300
# 256 MiB of conditioned bytes in memory: a full second of the reference appliance.
_STOCK_MAX_UNITS = 1024
_MILLIBITS = Meta(ge=1, le=16_000)


class DeviceConfig(settings.Section, frozen=True):
    """`[[device]]`: the one source of this server. `emulator` reads /dev/urandom and says so in every attestation.

    `min_entropy_millibits` is what the maker claims a sample; `assessed_min_entropy_millibits` what a laboratory found, if one
    did: the smaller counts. `faults`: how an emulator misbehaves, for rehearsals (`qrngd.devices.faults`).
    """

    kind: Literal["chardev", "emulator"]
    path: Path | None = None
    model: Label = ""
    serial: Label = ""
    sample_bits: Annotated[int, Meta(ge=1, le=16)] = 8
    min_entropy_millibits: Annotated[int, _MILLIBITS] | None = None
    assessed_min_entropy_millibits: Annotated[int, _MILLIBITS] | None = None
    nominal_rate_bps: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    conditioned: bool = False
    faults: Annotated[str, Meta(max_length=4096)] = ""

    def make(self) -> Device:
        """The device this speaks of, not yet open. Raises E-CONFIG."""
        if self.kind == "emulator":
            return Emulator(
                self.faults,
                min_entropy_millibits=self.min_entropy_millibits,
                sample_bits=self.sample_bits,
                nominal_rate_bps=self.nominal_rate_bps,
                serial=self.serial,
            )
        assert self.path is not None, "a checked configuration has a path here"
        return CharacterDevice(
            str(self.path),
            min_entropy_millibits=self.min_entropy_millibits,
            sample_bits=self.sample_bits,
            model=self.model,
            serial=self.serial,
            nominal_rate_bps=self.nominal_rate_bps,
            conditioned=self.conditioned,
        )

    @property
    def expected(self) -> DeviceDescriptor:
        """What is known of the device before it is opened."""
        default = EMULATOR_MIN_ENTROPY_MILLIBITS * self.sample_bits // 8
        return DeviceDescriptor(
            kind=self.kind,
            model=self.model or (self.path.name[:64] if self.path else self.kind),
            serial=self.serial,
            sample_bits=self.sample_bits,
            min_entropy_millibits=default if self.min_entropy_millibits is None else self.min_entropy_millibits,
            nominal_rate_bps=self.nominal_rate_bps,
            conditioned=self.conditioned,
            emulated=self.kind == "emulator",
            source="",
        )


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
    device: tuple[DeviceConfig, ...]
    listen: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    unix: Path | None = None
    unix_uids: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=64)] = ()
    status_listen: str = ""
    allow: Annotated[tuple[AllowEntry, ...], Meta(max_length=8192)] = ()
    network_file: Path | None = None
    network_key: str = ""
    passphrase_file: Path | None = None
    attestation_lifetime_s: Annotated[int, Meta(ge=_LIFETIME_MIN_S, le=_LIFETIME_MAX_S)] = 3600
    stock_units: Annotated[int, Meta(ge=1, le=_STOCK_MAX_UNITS)] = 16
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def allowed_ids(self) -> frozenset[bytes]:
        """The nodes the file itself lists, raw."""
        return frozenset(entry.node for entry in self.allow)

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


def _checked(config: Config) -> Config:
    if len(config.device) != 1:
        raise fault("E-CONFIG", "device: a QRNG server has one device; run one qrngd for each, with a data_dir of its own")
    _check_device(config.device[0])
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
    for number, entry in enumerate(config.allow):
        _check_text(f"allow[{number}].id", entry.id, IdKind.NODE)
    if not config.allow and config.network_file is None:
        raise fault("E-CONFIG", "allow: nobody may have a feed; list nodes, or name the network file to allow all licensed ones")
    return msgspec.structs.replace(config, unix=config.unix.absolute() if config.unix else None)


def _check_device(device: DeviceConfig) -> None:
    if device.kind == "chardev" and device.path is None:
        raise fault("E-CONFIG", "device[0].path: a character device needs its path")
    if device.kind == "chardev" and device.faults:
        raise fault("E-CONFIG", "device[0].faults: only an emulator misbehaves on request")
    if device.kind == "emulator" and device.path is not None:
        raise fault("E-CONFIG", 'device[0].path: an emulator has no path; is kind = "chardev" meant?')
    try:
        device.make()
    except QuStreamError as error:
        raise fault("E-CONFIG", f"device[0]: {error.detail}") from None


def _check_text(key: str, text: str, kind: IdKind) -> None:
    try:
        from_text(text, kind)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{key}: {error.detail}") from None


def _check_address(key: str, address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 0xFFFF:
        raise fault("E-CONFIG", f"{key}: {address!r} is not host:port")
