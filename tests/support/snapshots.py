"""A status snapshot for tests of what renders it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from qnode.api.peers import PeersStatus
from qnode.api.status import (
    DurationStatus,
    HeldStatus,
    LinkSnapshot,
    PeerCounts,
    PoolStatus,
    StatusSnapshot,
    condition,
)

__all__ = ["snapshot"]

HEALTHY = StatusSnapshot(
    version="0.1.0",
    node="qn1xyz",
    node_class="community",
    addresses=("127.1.0.1:7400",),
    chain="test",
    height=7,
    epoch=3,
    now_ms=10_000_000,
    started_ms=1_000_000,
    ready_ms=8_000_000,
    ready=True,
    conditions=(),
    pool=PoolStatus(units=8, capacity=8, taken=20, expired=1),
    held=HeldStatus(blocks=5, capacity=4096, marks=30, erased=25, corrupt=0),
    links=(LinkSnapshot("qr1abcdefghijklmnop", "127.9.0.1:7300", "live", "", "the start-up test passed", 9_000_000, 29),),
    peers=PeerCounts(open=2, accepted=40, refused=3, displaced=1, handshakes_failed=4),
    answered={"key": 20, "collect": 6},
    refused={"E-GRANT-SPENT": 2},
    durations=DurationStatus((2, 5, 10), (0, 20, 5, 1), 130.5),
    network=PeersStatus(),
)
STOPPED = {
    "ready": False,
    "conditions": (
        condition("E-ENTROPY-SHORT", "no attested randomness in memory; the device is failed", stops=True),
        condition("E-REGISTRY-VERSION", "an older file"),
    ),
}


def snapshot(*, stopped: bool = False, **changes: Any) -> StatusSnapshot:
    """A node in order, or one that is `stopped`, with `changes`."""
    return replace(HEALTHY, **((STOPPED if stopped else {}) | changes))
