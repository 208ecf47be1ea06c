"""A status snapshot for tests of what renders it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from qnode.api.peers import AddressTried, BulkCounts, DialStatus, GossipCounts, PeerLink, PeersStatus, TopicCounts
from qnode.api.status import (
    DurationStatus,
    HeldStatus,
    LinkSnapshot,
    PeerCounts,
    PoolStatus,
    StatusSnapshot,
    condition,
)

__all__ = ["NETWORK", "link", "snapshot"]


def link(node: str, **changes: Any) -> PeerLink:
    """A link out to `node`, chosen and in order, with `changes`."""
    common = PeerLink(
        node=node, operator="somebody", node_class="community", direction="out", reason="chosen", anchor=False, address="192.0.2.1:7400",
        since_ms=9_000_000, rtt_ms=40, in_mesh=True, score=3, height=7, messages_in=10, messages_out=20, bytes_in=4_000, bytes_out=8_000,
    )  # fmt: skip
    return replace(common, **changes)


NETWORK = PeersStatus(
    known=41,
    unreached=3,
    wanted=2,
    links=(
        link("qn1bbbbbbbbbbbbbbbb", direction="in", reason="assigned", since_ms=9_400_000, address="192.0.2.9:50123", in_mesh=False),
        link("qn1cccccccccccccccc", anchor=True),
        link("qn1aaaaaaaaaaaaaaaa", reason="assigned", node_class="foundation", operator="a site", rtt_ms=-1),
    ),
    dials=(
        DialStatus("qn1dddddddddddddddd", "away", "community", ("192.0.2.4:7400",), "assigned", 4, "E-PEER-UNREACHABLE", 10_040_000),
        DialStatus("qn1eeeeeeeeeeeeeeee", "elsewhere", "community", (), "chosen", 0, "", 0),
    ),
    dialled={"reached": 12, "E-PEER-UNREACHABLE": 5},
    refused={"E-PEER-LIMIT": 6},
    greylisted=1,
    reach="reached",
    reached_ms=9_800_000,
    tried=(AddressTried("192.0.2.7:7400", ""),),
    seen_at=("192.0.2.7",),
    height_max=8,
    gossip=GossipCounts({"address": TopicCounts(30, 60, 12_000, 24_000)}, duplicates=9, dropped=2, bad=1, expelled=1),
    bulk=BulkCounts(served=4, fetched=1, failed=2, bytes_in=3_000, bytes_out=9_000_000),
)

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
    network=NETWORK,
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
