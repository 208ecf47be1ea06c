"""What alerts need to know of a server's status page (`/v1/status`), bounded: a page is a stranger's word.

A part of `qrngd.status.StatusSnapshot`, by the same names. What else a page says is passed over, so that a server of a newer version can
be watched, too.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from qustream.errors import CODES, Family
from qustream.wire.json_text import decode_json

__all__ = ["DevicePicture", "FeedPicture", "FlagPicture", "NodePicture", "StatusPicture", "known_code", "printable", "read_picture"]

# A server has at most 16 devices, a device at most that many flags, and 512 feeds are open at most.
DEVICES_MAX, FLAGS_MAX, NODES_MAX = 16, 64, 512
# A reason in words is a sentence or two; more would not be read.
TEXT_MAX_CHARS = 512
_NAME = Meta(pattern=r"^[!-~]([ -~]{0,62}[!-~])?\Z")
_COUNT = Annotated[int, Meta(ge=0)]


class FlagPicture(Struct, frozen=True):
    """One of the device's own status bits."""

    name: Annotated[str, _NAME]
    on: bool


class DevicePicture(Struct, frozen=True):
    """One device. `min_entropy_estimate_millibits`: None until there is an estimate; `nominal_rate_bps`: 0 if unknown."""

    name: Annotated[str, _NAME]
    state: str
    code: str
    reason: str
    windows: _COUNT
    windows_discarded: _COUNT
    min_entropy_millibits: _COUNT
    min_entropy_estimate_millibits: _COUNT | None
    flags: Annotated[tuple[FlagPicture, ...], Meta(max_length=FLAGS_MAX)]
    worker_restarts: _COUNT
    stock_bytes: _COUNT
    rate_bps: _COUNT
    nominal_rate_bps: _COUNT


class NodePicture(Struct, frozen=True):
    """A node with an open feed."""

    credit: _COUNT


class FeedPicture(Struct, frozen=True):
    """Who waits, and what was signed."""

    nodes: Annotated[tuple[NodePicture, ...], Meta(max_length=NODES_MAX)]
    attestations: _COUNT


class StatusPicture(Struct, frozen=True):
    """A server at one moment."""

    server: Annotated[str, Meta(max_length=128)]
    started_ms: int
    ready: bool
    code: str
    reason: str
    registry_trouble: str
    leaf_log_trouble: str
    memory_locked: bool
    devices: Annotated[tuple[DevicePicture, ...], Meta(max_length=DEVICES_MAX)]
    feed: FeedPicture

    @property
    def wanted_units(self) -> int:
        """What nodes have asked for and nobody has made yet."""
        return sum(node.credit for node in self.feed.nodes)


def read_picture(page: bytes) -> StatusPicture:
    """The picture in a status page. Raises ValueError when it is something else."""
    return decode_json(page, StatusPicture)


def printable(text: str) -> str:
    """`text` as it may be shown and logged: bounded, nothing unprintable."""
    return "".join(each if each.isprintable() else "�" for each in text[:TEXT_MAX_CHARS])


def known_code(code: str) -> str:
    """`code` if our table has it and an operator has a runbook for it, else ''."""
    return code if code in CODES and CODES[code].family is not Family.PEER else ""
