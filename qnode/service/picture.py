"""What a running node says about itself, put together from its parts: conditions, readiness, numbers (`proto/spec/node.md`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

import trio

from qnode.api.chain_status import ChainStatus
from qnode.api.peers import PeersStatus, lonely_text, tried_text
from qnode.api.status import (
    Condition,
    DurationStatus,
    HeldStatus,
    LinkSnapshot,
    PeerCounts,
    PoolStatus,
    StatusSnapshot,
    condition,
)
from qnode.core.delivery_checks import REGISTRY_AGE_MAX_MS
from qnode.service.counts import DURATION_BOUNDS_MS, RequestCounts
from qnode.service.feed import FeedLink, LinkStatus
from qnode.service.pool import Pool
from qnode.store import Store
from qustream.aio.listener import ListenerStats
from qustream.errors import QuStreamError
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass, NodeRecord
from qustream.registry import Registry

__all__ = ["ChainPart", "NodeRegistry", "Parts", "Picture"]

# A busy node's pool is empty for moments; only one that stays so is out of randomness. A batch takes at most two seconds.
POOL_EMPTY_MAX_MS = 2_000


class NodeRegistry(Registry, Protocol):
    """A registry that a node keeps itself."""

    @property
    def trouble(self) -> QuStreamError | None:
        """Why it does not go on, while it answers from what it has."""
        ...


class ChainPart(Protocol):
    """The chain, on a node that keeps it."""

    def status(self) -> ChainStatus: ...

    def conditions(self, now_ms: int) -> list[Condition]: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the picture is of. `chain`: None where the network is a file's."""

    registry: NodeRegistry
    store: Store
    pool: Pool
    links: Sequence[FeedLink]
    counts: RequestCounts
    peers: ListenerStats
    network: Callable[[], PeersStatus] = PeersStatus
    chain: ChainPart | None = None


class Picture:
    """Makes snapshots. `addresses`, `is_stopping` are set by the daemon."""

    def __init__(self, node: bytes, chain: str, parts: Parts, *, clock_ms: Callable[[], int]) -> None:
        self.addresses: tuple[str, ...] = ()
        self.is_stopping = False
        self._node, self._chain, self._parts, self._clock_ms = node, chain, parts, clock_ms
        self._started_ms = clock_ms()
        self._ready_s = 0.0
        self._ticked_s: float | None = None
        self._version = version("qustream")

    def tick(self) -> StatusSnapshot:
        """A snapshot whose readiness counts for the time since the last tick. To be called about once a second."""
        now_s, snapshot = trio.current_time(), self.snapshot()
        if snapshot.ready and self._ticked_s is not None:
            self._ready_s += now_s - self._ticked_s
        self._ticked_s = now_s
        return snapshot

    def snapshot(self) -> StatusSnapshot:
        """How the node is, now."""
        parts, now_ms = self._parts, self._clock_ms()
        record = self.record()
        epoch, network = self._epoch(now_ms), parts.network()
        conditions = (
            *self._network_conditions(record, now_ms),
            *(condition(s.code, f"{s.address}: {s.reason}") for link in parts.links if (s := link.status).code),
            *self._service_conditions(epoch, now_ms),
            *(_peer_conditions(network) if record is not None or parts.chain is None else ()),  # nobody links to one without a licence
            *(parts.chain.conditions(now_ms) if parts.chain is not None else ()),
        )
        return StatusSnapshot(
            version=self._version,
            node=to_text(IdKind.NODE, self._node),
            node_class=NodeClass(record.node_class).name.lower() if record else "unlicensed",
            addresses=self.addresses,
            chain=self._chain,
            height=parts.registry.height,
            epoch=max(0, epoch),
            now_ms=now_ms,
            started_ms=self._started_ms,
            ready_ms=int(self._ready_s * 1000),
            ready=not any(c.stops for c in conditions),
            conditions=conditions,
            pool=PoolStatus(len(parts.pool), parts.pool.capacity_units, parts.pool.taken, parts.pool.expired),
            held=_held(parts.store),
            links=tuple(_link(link.status) for link in parts.links),
            peers=_peers(parts.peers),
            answered=dict(parts.counts.answered),
            refused=dict(parts.counts.refused),
            durations=DurationStatus(DURATION_BOUNDS_MS, tuple(parts.counts.durations), parts.counts.duration_sum_ms),
            network=network,
            ledger=parts.chain.status() if parts.chain is not None else None,
        )

    def record(self) -> NodeRecord | None:
        """This node as the network lists it, if it does so as an active one."""
        try:
            record = self._parts.registry.node(self._node)
        except QuStreamError:
            return None
        return record if record.active else None

    def _epoch(self, now_ms: int) -> int:
        """The running epoch; -1 if this clock stands before the network's first."""
        try:
            return self._parts.registry.epoch(now_ms).number
        except QuStreamError:
            return -1

    def _network_conditions(self, record: NodeRecord | None, now_ms: int) -> list[Condition]:
        registry, found = self._parts.registry, []
        age_ms = registry.age_ms(now_ms)
        if age_ms > REGISTRY_AGE_MAX_MS:
            what = "the network file has not been good" if self._parts.chain is None else "no block has become final here"
            found.append(condition("E-CHAIN-STALE", f"{what} for {age_ms // 1000} s", stops=True))
        try:
            registry.epoch(now_ms)
        except QuStreamError as error:
            found.append(condition("E-CLOCK", error.detail, stops=True))
        if (trouble := registry.trouble) is not None:
            found.append(condition(trouble.code, trouble.detail))
        if record is None:
            where = "network file" if self._parts.chain is None else "chain, as far as it is here,"
            found.append(condition("E-PEER-UNLICENSED", f"the {where} does not list this node as an active one", stops=True))
        return found

    def _service_conditions(self, epoch: int, now_ms: int) -> list[Condition]:
        store, found = self._parts.store, []
        if self._parts.pool.empty_ms(now_ms) > POOL_EMPTY_MAX_MS:
            found.append(condition("E-ENTROPY-SHORT", self._why_empty(), stops=True))
        if (trouble := store.trouble) is not None:
            found.append(condition(trouble.code, trouble.detail, stops=True))
        elif (refusal := store.refusal()) is not None:
            found.append(condition(refusal.code, refusal.detail, stops=True))
        if 0 <= epoch < store.floor_epoch:
            why = f"restored from a backup; it serves grants from epoch {store.floor_epoch} on"
            found.append(condition("E-NODE-READONLY", why, stops=True))
        if store.corrupt:
            found.append(condition("E-DATA-CORRUPT", f"{store.corrupt} stored values did not check; their blocks are lost"))
        if self.is_stopping:
            found.append(condition("E-PEER-CLOSED", "this node is stopping", stops=True))
        return found

    def _why_empty(self) -> str:
        """What the QRNG servers say, in words."""
        reasons = []
        for link in self._parts.links:
            status = link.status
            said = f"{status.state}{': ' + status.reason if status.reason else ''}"
            reasons.append(f"qrngd {to_text(IdKind.QRNG, status.server)[:14]}… at {status.address} is {said}")
        return "no attested randomness in memory; " + "; ".join(reasons)


def _peer_conditions(network: PeersStatus) -> list[Condition]:
    """Neither stops the node: who is connected is served."""
    found = []
    if network.lonely and network.known:
        found.append(condition("E-NO-PEERS", lonely_text(network)))
    if network.reach == "unreachable":
        why = tried_text(network.tried) or "no address of this node is known to others"
        found.append(condition("E-UNREACHABLE", f"nodes that were asked to connect did not get through: {why}"))
    return found


def _held(store: Store) -> HeldStatus:
    return HeldStatus(store.held_blocks, store.room_blocks, store.marks, store.erased, store.corrupt)


def _link(status: LinkStatus) -> LinkSnapshot:
    return LinkSnapshot(
        server=to_text(IdKind.QRNG, status.server),
        address=status.address,
        state=status.state,
        code=status.code,
        reason=status.reason,
        since_ms=status.since_ms,
        units=status.units,
    )


def _peers(stats: ListenerStats) -> PeerCounts:
    return PeerCounts(stats.open, stats.accepted, sum(stats.refused.values()), stats.displaced, sum(stats.handshakes_failed.values()))
