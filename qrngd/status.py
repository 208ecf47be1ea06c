"""The one picture of a running daemon. The CLI, the JSON, the metrics and the systemd status line all render this and nothing else.

Times are Unix ms. Counters rise from the start of the daemon. Nothing in here is secret, and nothing names a peer that is not on
the allow-list.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from qustream.errors import CODES
from qustream.wire.json_text import decode_json

__all__ = [
    "AlarmCounts",
    "DeviceStatus",
    "FeedStatus",
    "NodeStatus",
    "StateChange",
    "StatusFlag",
    "StatusSnapshot",
    "status_line",
    "status_text",
]


class StateChange(Struct, frozen=True):
    """A change of the device's state and why."""

    at_ms: int
    before: str
    after: str
    code: str
    reason: str


class AlarmCounts(Struct, frozen=True):
    """Windows in which each health test spoke."""

    repetition: int
    proportion: int
    predictor: int


class StatusFlag(Struct, frozen=True):
    """A status bit that a device reports of itself."""

    name: str
    on: bool


class DeviceStatus(Struct, frozen=True):
    """A device and what was measured of it.

    `live_ms`: how long it has been live, all told; `opened`: how often it was opened; `rate_bps`: raw bits a second over the last minute;
    `latch_trouble`: why a failure is not on disk, and would not outlive a restart; `min_entropy_estimate_millibits`: of one window a
    second, for display alone."""

    name: str
    kind: str
    model: str
    serial: str
    source: str
    path: str
    emulated: bool
    state: str
    code: str
    reason: str
    since_ms: int
    live_ms: int
    opened: int
    read_errors: int
    history: tuple[StateChange, ...]
    sample_bits: int
    min_entropy_millibits: int
    rct_cutoff: int
    apt_cutoff: int
    apt_window: int
    raw_bytes: int
    samples: int
    windows: int
    windows_passed: int
    windows_discarded: int
    windows_startup: int
    alarms: AlarmCounts
    conditioned_bytes: int
    seed_bytes: int
    credited_bits: int
    rate_bps: int
    nominal_rate_bps: int
    min_entropy_estimate_millibits: int | None
    flags: tuple[StatusFlag, ...]
    worker_restarts: int
    latch_trouble: str
    stock_bytes: int
    stock_dropped_bytes: int


class NodeStatus(Struct, frozen=True):
    """A node with an open feed. `units`: delivered since it opened."""

    id: str
    transport: str
    since_ms: int
    credit: int
    in_flight: int
    units: int


class FeedStatus(Struct, frozen=True):
    """Units and those who get them. `opened`, `refused`, `dropped`: feeds; the last three: connections of anybody."""

    nodes: tuple[NodeStatus, ...]
    allowed: int
    units_made: int
    units_delivered: int
    units_discarded: int
    attestations: int
    opened: int
    refused: int
    dropped: int
    connections: int
    handshakes_failed: int
    connections_refused: int


class StatusSnapshot(Struct, frozen=True):
    """Everything. `ready`: a node that asked for units would get some; `code` and `reason` say why not. `leaf_log_trouble`: why nothing can
    be published, and so nothing leaves."""

    version: str
    server: str
    chain: str
    now_ms: int
    started_ms: int
    ready: bool
    code: str
    reason: str
    registry_trouble: str
    leaf_log_trouble: str
    memory_locked: bool
    devices: tuple[DeviceStatus, ...]
    feed: FeedStatus

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(data: bytes) -> StatusSnapshot:
        """Raises ValueError when `data` is something else."""
        return decode_json(data, StatusSnapshot)


def status_line(snapshot: StatusSnapshot) -> str:
    """One line, for systemd."""
    feed = snapshot.feed
    states = ", ".join(device.state if len(snapshot.devices) == 1 else f"{device.name} {device.state}" for device in snapshot.devices)
    why = "" if snapshot.ready else f": {snapshot.reason}"
    return f"{states}{why}; {len(feed.nodes)} nodes fed, {feed.units_delivered} units delivered"


def status_text(snapshot: StatusSnapshot) -> str:
    """One screen, for people."""
    feed = snapshot.feed
    minutes = (snapshot.now_ms - snapshot.started_ms) // 60_000
    lines = [
        f"QRNG server  {snapshot.server}",
        f"network      {snapshot.chain}",
        f"version      {snapshot.version}, up {minutes // 60} h {minutes % 60} min"
        + ("" if snapshot.memory_locked else "; memory may be swapped (LimitMEMLOCK=)"),
        *([] if snapshot.ready else [f"NOT READY    {snapshot.code}{': ' * bool(snapshot.code)}{snapshot.reason}"]),
    ]
    for device in snapshot.devices:
        lines += _device_lines(device)
    lines += [
        f"units        {feed.units_delivered} delivered, {feed.units_discarded} thrown away, {feed.attestations} attestations",
        f"nodes        {len(feed.nodes)} fed, {feed.allowed} allowed, {feed.refused} refused, {feed.dropped} dropped",
    ]
    lines += [f"  {node.id}  {node.transport}  {node.units} units, wants {node.credit} more" for node in feed.nodes]
    lines += [
        f"{name:<13}{text}" for name, text in (("registry", snapshot.registry_trouble), ("leaf log", snapshot.leaf_log_trouble)) if text
    ]
    return "\n".join(map(_visible, lines))


def _visible(line: str) -> str:
    """Whoever answers on the status address, or a device, commands no terminal and begins no line of its own."""
    return "".join(char if char.isprintable() else "\ufffd" for char in line)


def _device_lines(device: DeviceStatus) -> list[str]:
    emulated = " (EMULATED: for test networks only)" if device.emulated else ""
    what = " ".join(filter(None, (device.model or device.kind, device.serial, device.path, device.source)))
    estimate = device.min_entropy_estimate_millibits
    shown = "" if estimate is None else f", estimated {estimate / 1000:.3g}"
    set_flags = [flag.name for flag in device.flags if flag.on]
    return [
        f"device       {device.name}: {what}{emulated}",
        f"state        {device.state}{' ' + device.code if device.code else ''}: {device.reason}",
        *([f"remedy       {CODES[device.code].remedy}"] if device.code in CODES else []),
        *([f"latch        NOT ON DISK, do not restart: {device.latch_trouble}"] if device.latch_trouble else []),
        *([f"reports      {', '.join(set_flags) or 'nothing set'}"] if device.flags else []),
        f"tests        {device.windows} windows: {device.windows_passed} passed, {device.windows_discarded} discarded, "
        f"{device.windows_startup} start-up; cutoffs RCT {device.rct_cutoff}, APT {device.apt_cutoff} in {device.apt_window}",
        f"entropy      {device.min_entropy_millibits / 1000:.3g} bits a sample of {device.sample_bits} counted on{shown}",
        f"randomness   {_size(device.raw_bytes)} read ({_size(device.rate_bps // 8)}/s), {_size(device.conditioned_bytes)} conditioned, "
        f"{_size(device.stock_bytes)} in stock",
        *([f"worker       started anew {device.worker_restarts} times"] if device.worker_restarts else []),
    ]


def _size(size_bytes: int) -> str:
    """Decimal units, three digits."""
    value, unit = float(size_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if value < 1000 or unit == "PB":
            break
        value /= 1000
    return f"{size_bytes} B" if unit == "B" else f"{value:.3g} {unit}"
