"""What daemon and worker say to each other: one MessagePack struct a datagram, over a socket pair nobody else holds.

Both ends are the same program on the same machine, so there is no version to negotiate. The worker reads what a device sends, which
is hostile, so the daemon checks the types of all it says, and that a slot it hands over was given to it.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from qrngd.device_config import DeviceConfig
from qrngd.health.state import DeviceState
from qrngd.pipeline import Measurement
from qustream.model.base import U63, Bytes32
from qustream.model.entropy import DeviceDescriptor

__all__ = [
    "MESSAGE_MAX_BYTES",
    "Changed",
    "Clear",
    "Figures",
    "Give",
    "Made",
    "MadeUnit",
    "Opened",
    "Order",
    "Report",
    "Retest",
    "Setup",
    "decode_order",
    "decode_report",
    "encode_message",
    "socket_pair",
]

# A report of the units of one read: 16 windows of the widest samples make four units; an order gives at most all slots there are.
MESSAGE_MAX_BYTES = 1 << 16


class Setup(Struct, array_like=True, tag=1, frozen=True):
    """The first order: what to read, and how many slots the shared memory has. `latched`: a failure nobody has cleared; `alarms`: how many
    windows ago, as numbers of 0 and below, earlier workers had intermittent ones."""

    device: DeviceConfig
    slots: int
    latched: tuple[str, str] | None
    alarms: tuple[int, ...]
    memory_lock: bool


class Give(Struct, array_like=True, tag=2, frozen=True):
    """These slots are the worker's to fill. With one it holds it in reserve and only probes; with more it fills all but one."""

    slots: tuple[int, ...]


class Clear(Struct, array_like=True, tag=3, frozen=True):
    """The operator has examined a device that failed."""

    reason: str


class Retest(Struct, array_like=True, tag=4, frozen=True):
    """The operator asks for the start-up test."""

    reason: str


class Opened(Struct, array_like=True, tag=11, frozen=True):
    """The device is open, and says this of itself."""

    device: DeviceDescriptor
    memory_locked: bool


class Changed(Struct, array_like=True, tag=12, frozen=True):
    """The device's state changed."""

    at_ms: U63
    before: DeviceState
    after: DeviceState
    code: str
    reason: str


class MadeUnit(Struct, array_like=True, frozen=True):
    """A full slot: SHA-256 of its material, and the counters before and after the samples behind it, read from `start_ms` to `end_ms`."""

    slot: int
    digest: Bytes32
    before: Measurement
    after: Measurement
    start_ms: U63
    end_ms: U63


class Made(Struct, array_like=True, tag=13, frozen=True):
    """Slots that are the daemon's again, full."""

    units: tuple[MadeUnit, ...]


class Figures(Struct, array_like=True, tag=14, frozen=True):
    """Counters since the worker started, told at least once a second: also its sign of life."""

    measured: Measurement
    raw_bytes: U63
    opened: U63
    read_errors: U63
    dropped_bytes: U63
    estimate_millibits: U63 | None
    flags: tuple[tuple[str, bool], ...]


Order: TypeAlias = Setup | Give | Clear | Retest
Report: TypeAlias = Opened | Changed | Made | Figures


def _paths(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value).__name__)


def _path(kind: type[Any], value: Any) -> Any:
    assert kind is Path, kind
    return Path(value)


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_paths)
_ORDERS = msgspec.msgpack.Decoder(Setup | Give | Clear | Retest, dec_hook=_path)
_REPORTS = msgspec.msgpack.Decoder(Opened | Changed | Made | Figures)


def encode_message(message: Order | Report) -> bytes:
    """The datagram."""
    data = _ENCODER.encode(message)
    assert len(data) <= MESSAGE_MAX_BYTES, "a message of our own is too long"
    return data


def decode_order(data: bytes) -> Order:
    """What the daemon said."""
    order: Order = _ORDERS.decode(data)
    return order


def decode_report(data: bytes) -> Report:
    """What the worker said. Raises `msgspec.DecodeError` for anything else."""
    try:
        report: Report = _REPORTS.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(type(error).__name__) from None
    return report


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The daemon's end and the worker's: datagrams in order, and an end of the file when the other side is gone."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
