"""The one picture of a running node. The CLI, the JSON, the metrics and the systemd status line all render this and nothing else.

Times are Unix ms. Counters rise from the start of the daemon. Nothing in here is secret, and nothing is named by a peer.
"""

from __future__ import annotations

from itertools import accumulate

import msgspec
from msgspec import Struct

from qnode.api.chain_status import ChainStatus, chain_lines
from qnode.api.peers import OFF, GossipCounts, PeersPage, PeersStatus, reach_text, shown
from qnode.api.spans import span_text
from qustream.errors import CODES
from qustream.wire.json_text import decode_json

__all__ = [
    "Condition",
    "DurationStatus",
    "HeldStatus",
    "LinkSnapshot",
    "PeerCounts",
    "PoolStatus",
    "StatusSnapshot",
    "condition",
    "status_line",
    "status_text",
]


# A machine has an address of each kind; what more peers claim is in the JSON.
SEEN_SHOWN_MAX = 2


class Condition(Struct, frozen=True):
    """Something an operator should know: a code of the error table, what is the matter, what to do. `stops`: with it the node
    answers no key request."""

    code: str
    detail: str
    remedy: str
    stops: bool


def condition(code: str, detail: str, *, stops: bool = False) -> Condition:
    """A condition with the remedy its code has."""
    row = CODES[code]
    return Condition(code, detail or row.meaning, row.remedy, stops)


class LinkSnapshot(Struct, frozen=True):
    """A QRNG server this node takes units from. `since_ms`: when it got into `state`."""

    server: str
    address: str
    state: str
    code: str
    reason: str
    since_ms: int
    units: int


class PoolStatus(Struct, frozen=True):
    """Units in memory; used; thrown away unused."""

    units: int
    capacity: int
    taken: int
    expired: int


class HeldStatus(Struct, frozen=True):
    """Blocks on disk, spent indices remembered, blocks erased, stored values that did not check."""

    blocks: int
    capacity: int
    marks: int
    erased: int
    corrupt: int


class PeerCounts(Struct, frozen=True):
    """Connections, by what became of them."""

    open: int
    accepted: int
    refused: int
    displaced: int
    handshakes_failed: int


class DurationStatus(Struct, frozen=True):
    """How long answers took: `counts[i]` of them at most `bounds_ms[i]` and more than the bound before; the last count has none."""

    bounds_ms: tuple[int, ...]
    counts: tuple[int, ...]
    sum_ms: float

    def quantile_ms(self, share: float) -> int | None:
        """The bound below which `share` of the answers were; None if there were none, or it is beyond the last bound."""
        wanted = share * sum(self.counts)
        for bound_ms, below in zip(self.bounds_ms, accumulate(self.counts), strict=False):
            if below and below >= wanted:
                return bound_ms
        return None


class StatusSnapshot(Struct, frozen=True):
    """Everything. `ready`: a key request would be answered; else the conditions that stop it say why. `ready_ms`: how long it has
    been ready, all told. `ledger`: the chain, where the network is a chain's."""

    version: str
    node: str
    node_class: str
    addresses: tuple[str, ...]
    chain: str
    height: int
    epoch: int
    now_ms: int
    started_ms: int
    ready_ms: int
    ready: bool
    conditions: tuple[Condition, ...]
    pool: PoolStatus
    held: HeldStatus
    links: tuple[LinkSnapshot, ...]
    peers: PeerCounts
    answered: dict[str, int]
    refused: dict[str, int]
    durations: DurationStatus
    network: PeersStatus
    ledger: ChainStatus | None = None

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    def peers_page(self) -> PeersPage:
        """The part about the network of peers, as a page of its own."""
        return PeersPage(self.node, self.addresses, self.height, self.epoch, self.now_ms, self.network)

    @staticmethod
    def from_json(data: bytes) -> StatusSnapshot:
        """Raises ValueError when `data` is something else."""
        return decode_json(data, StatusSnapshot)


def status_line(snapshot: StatusSnapshot) -> str:
    """One line, for systemd."""
    state = "ready" if snapshot.ready else "; ".join(f"{c.code} {c.detail}" for c in snapshot.conditions if c.stops)
    ways = snapshot.network.ways()
    links = f"links {ways['out']} out, {ways['in']} in" if snapshot.network.enabled else "peers = false"
    height = f"; height {snapshot.ledger.final}" if snapshot.ledger is not None else ""
    return f"{state}; pool {snapshot.pool.units}/{snapshot.pool.capacity}, {snapshot.held.blocks} blocks held; {links}{height}"


def status_text(snapshot: StatusSnapshot) -> str:
    """One screen, for people."""
    pool, held, peers = snapshot.pool, snapshot.held, snapshot.peers
    up_ms = snapshot.now_ms - snapshot.started_ms
    lines = [
        f"node        {snapshot.node} ({snapshot.node_class})",
        f"addresses   {', '.join(snapshot.addresses)}",
        f"network     {snapshot.chain}, {_view_text(snapshot)}, epoch {snapshot.epoch}",
        f"version     {snapshot.version}, up {span_text(up_ms)}, ready for {span_text(snapshot.ready_ms)} of it",
        f"state       {'ready' if snapshot.ready else 'NOT READY'}",
        f"randomness  {pool.units} of {pool.capacity} units in memory, {pool.taken} used, {pool.expired} thrown away unused",
        f"blocks      {held.blocks} of {held.capacity} held, {held.erased} erased, {held.marks} spent indices remembered",
        f"answered    {_counts(snapshot.answered)}{_speed(snapshot.durations)}",
        f"refused     {_counts(snapshot.refused)}",
        f"connections {peers.open} open, {peers.accepted} accepted, {peers.refused} turned away, "
        f"{peers.displaced} displaced, {peers.handshakes_failed} failed handshakes",
        f"links       {_links(snapshot)}",
        f"gossip      {_gossip(snapshot.network.gossip)}",
    ]
    if snapshot.ledger is not None:
        lines += chain_lines(snapshot.ledger, snapshot.now_ms)
    for link in snapshot.links:
        why = f": {link.code} {link.reason}".rstrip() if link.code else ""
        since = span_text(snapshot.now_ms - link.since_ms)
        lines.append(f"qrngd       {link.address} {link.server[:14]}… {link.state} for {since}{why}, {link.units} units")
    for found in snapshot.conditions:
        lines.append(f"{'STOPPED BY' if found.stops else 'condition '}  {found.code}: {found.detail}. Remedy: {found.remedy}.")
    return "\n".join(lines)


def _view_text(snapshot: StatusSnapshot) -> str:
    return f"version {snapshot.height} of the network file" if snapshot.ledger is None else f"block {snapshot.height} of its chain"


def _links(snapshot: StatusSnapshot) -> str:
    network = snapshot.network
    if not network.enabled:
        return OFF
    ways = network.ways()
    seen = ", ".join(shown(address) for address in network.seen_at[:SEEN_SHOWN_MAX])
    return (
        f"{ways['out']} out, {ways['in']} in, of {network.known} known nodes; {reach_text(network, snapshot.now_ms)}"
        f"{f'; seen at {seen}' if seen else ''}"
    )


def _gossip(gossip: GossipCounts) -> str:
    topics = gossip.topics.values()
    return (
        f"{sum(t.messages_in for t in topics)} messages in, {sum(t.messages_out for t in topics)} out, "
        f"{gossip.duplicates} in vain, {gossip.dropped} dropped, {gossip.bad} bad"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()) if number) or "none"


def _speed(durations: DurationStatus) -> str:
    half, most = durations.quantile_ms(0.5), durations.quantile_ms(0.99)
    if half is None:
        return ""
    return f"; half within {half} ms, 99 % " + (f"in more than {durations.bounds_ms[-1]} ms" if most is None else f"within {most} ms")
