"""The one picture of a running node. The CLI, the JSON, the metrics and the systemd status line all render this and nothing else.

Times are Unix ms. Counters rise from the start of the daemon. Nothing in here is secret, and nothing is named by a peer.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from qustream.errors import CODES

__all__ = ["Condition", "HeldStatus", "LinkSnapshot", "PeerCounts", "PoolStatus", "StatusSnapshot", "status_line", "status_text"]


class Condition(Struct, frozen=True):
    """Something an operator should know: a code of the error table, what is the matter, what to do."""

    code: str
    detail: str

    @property
    def remedy(self) -> str:
        row = CODES.get(self.code)
        return row.remedy if row else ""


class LinkSnapshot(Struct, frozen=True):
    """A QRNG server this node takes units from."""

    server: str
    address: str
    state: str
    code: str
    reason: str
    units: int


class PoolStatus(Struct, frozen=True):
    """Units in memory."""

    units: int
    capacity: int
    taken: int
    expired: int


class HeldStatus(Struct, frozen=True):
    """Blocks on disk."""

    blocks: int
    capacity: int


class PeerCounts(Struct, frozen=True):
    """Connections, by what became of them."""

    open: int
    accepted: int
    refused: int
    handshakes_failed: int


class StatusSnapshot(Struct, frozen=True):
    """Everything. `ready`: a key request would be answered; else `conditions` says why not."""

    version: str
    node: str
    node_class: str
    chain: str
    height: int
    epoch: int
    now_ms: int
    started_ms: int
    ready: bool
    conditions: tuple[Condition, ...]
    pool: PoolStatus
    held: HeldStatus
    links: tuple[LinkSnapshot, ...]
    peers: PeerCounts
    answered: dict[str, int]
    refused: dict[str, int]

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(data: bytes) -> StatusSnapshot:
        """Raises msgspec.DecodeError (a ValueError) when `data` is something else."""
        return msgspec.json.decode(data, type=StatusSnapshot)


def status_line(snapshot: StatusSnapshot) -> str:
    """One line, for systemd."""
    state = "ready" if snapshot.ready else "; ".join(f"{c.code} {c.detail}" for c in snapshot.conditions) or "starting"
    return f"{state}; pool {snapshot.pool.units}/{snapshot.pool.capacity}, {snapshot.held.blocks} blocks held"


def status_text(snapshot: StatusSnapshot) -> str:
    """One screen, for people."""
    minutes = (snapshot.now_ms - snapshot.started_ms) // 60_000
    pool, peers = snapshot.pool, snapshot.peers
    lines = [
        f"node        {snapshot.node} ({snapshot.node_class})",
        f"network     {snapshot.chain}, version {snapshot.height} of the network file, epoch {snapshot.epoch}",
        f"version     {snapshot.version}, up {minutes // 60} h {minutes % 60} min",
        f"state       {'ready' if snapshot.ready else 'NOT READY'}",
        f"randomness  {pool.units} of {pool.capacity} units in memory, {pool.taken} used, {pool.expired} expired unused",
        f"blocks      {snapshot.held.blocks} of {snapshot.held.capacity} held",
        f"answered    {_counts(snapshot.answered)}",
        f"refused     {_counts(snapshot.refused)}",
        f"peers       {peers.open} connected, {peers.accepted} accepted, {peers.refused} refused, {peers.handshakes_failed} handshakes failed",
    ]
    for link in snapshot.links:
        why = f": {link.code} {link.reason}".rstrip() if link.code else ""
        lines.append(f"qrngd       {link.address} {link.server[:16]}… {link.state}{why}, {link.units} units")
    for condition in snapshot.conditions:
        lines.append(f"condition   {condition.code}: {condition.detail}. Remedy: {condition.remedy}.")
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()) if number) or "none"
