"""Pictures of QRNG servers for tests of alerts, made from the snapshot a daemon itself renders."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from qrngd.alerts.picture import StatusPicture, read_picture
from qrngd.status import AlarmCounts, DeviceStatus, FeedStatus, NodeStatus, StatusFlag, StatusSnapshot

__all__ = ["device", "page", "picture", "snapshot"]

DEVICE = DeviceStatus(
    name="card", kind="chardev", model="card", serial="7", source="", path="/dev/qrandom0", emulated=False, state="live", code="",
    reason="the start-up test passed", since_ms=1000, live_ms=3_600_000, opened=1, read_errors=0, history=(), sample_bits=8,
    min_entropy_millibits=6000, rct_cutoff=8, apt_cutoff=40, apt_window=512, raw_bytes=0, samples=0, windows=1000, windows_passed=1000,
    windows_discarded=0, windows_startup=1, alarms=AlarmCounts(0, 0, 0), conditioned_bytes=0, seed_bytes=0, credited_bits=0,
    rate_bps=1_000_000, nominal_rate_bps=1_000_000, min_entropy_estimate_millibits=7500,
    flags=(StatusFlag("initialised", True), StatusFlag("voltage_low", False)), worker_restarts=0, latch_trouble="", stock_bytes=4_000_000,
    stock_dropped_bytes=0,
)  # fmt: skip
FEED = FeedStatus(
    nodes=(NodeStatus("qn1abc", "tls", 5, 0, 0, 12),), allowed=6, units_made=13, units_delivered=12, units_discarded=0, attestations=4,
    opened=2, refused=1, dropped=0, connections=1, handshakes_failed=0, connections_refused=0,
)  # fmt: skip
HEALTHY = StatusSnapshot(
    version="1", server="qr1xyz", chain="test", now_ms=0, started_ms=0, ready=True, code="", reason="", registry_trouble="",
    leaf_log_trouble="", memory_locked=True, devices=(DEVICE,), feed=FEED,
)  # fmt: skip


def device(**changes: Any) -> DeviceStatus:
    """A sound device, with `changes`."""
    return replace(DEVICE, **changes)


def snapshot(*devices: DeviceStatus, wanted: int = 0, attestations: int = 4, **changes: Any) -> StatusSnapshot:
    """A server in order with these devices (one, if none is given), whose one node waits for `wanted` units."""
    nodes = (replace(FEED.nodes[0], credit=wanted),)
    return replace(HEALTHY, devices=devices or (DEVICE,), feed=replace(FEED, nodes=nodes, attestations=attestations), **changes)


def page(*devices: DeviceStatus, **changes: Any) -> bytes:
    """Its status page."""
    return snapshot(*devices, **changes).to_json()


def picture(*devices: DeviceStatus, **changes: Any) -> StatusPicture:
    """What alerts see of it."""
    return read_picture(page(*devices, **changes))
