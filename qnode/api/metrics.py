"""The status snapshot as Prometheus metrics, in a registry of our own: a scrape shows exactly what `qnode status` shows.

Names follow Prometheus' rules: base units, `_total` for counters. Labels are bounded: request kinds, codes of the error table,
topics of gossip, and the QRNG servers of the configuration; nothing a peer sends becomes a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from qnode.api.chain_status import chain_metrics
from qnode.api.peer_metrics import peer_metrics
from qnode.api.status import StatusSnapshot

__all__ = ["CONTENT_TYPE", "MetricsPage"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_MS_PER_S = 1000  # a second, for metrics in base units


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: Callable[[], StatusSnapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        return []  # what is collected is known only when a snapshot is taken

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot()
        labels = {"version": snapshot.version, "node": snapshot.node, "class": snapshot.node_class, "chain": snapshot.chain}
        yield InfoMetricFamily("qnode", "The node", labels)
        yield _gauge("start_time_seconds", "Unix time at which the daemon started", snapshot.started_ms / _MS_PER_S)
        yield _counter("ready_seconds", "How long the node has been ready since it started", snapshot.ready_ms / _MS_PER_S)
        yield _gauge("ready", "1 if a key request would be answered", int(snapshot.ready))
        yield _gauge("registry_height", "Version of the network file in use, or height of the chain", snapshot.height)
        yield _gauge("epoch", "Number of the running epoch", snapshot.epoch)
        condition = GaugeMetricFamily("qnode_condition", "1 for each condition an operator should look at", labels=["code"])
        for code in sorted({c.code for c in snapshot.conditions}):
            condition.add_metric([code], 1)
        yield condition
        yield from _supply(snapshot)
        yield from _requests(snapshot)
        yield from peer_metrics(snapshot.network)
        if snapshot.ledger is not None:
            yield from chain_metrics(snapshot.ledger, snapshot.now_ms)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"qnode_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"qnode_{name}", text, value=value)


def _supply(snapshot: StatusSnapshot) -> Iterator[Metric]:
    yield _gauge("pool_units", "Units in memory", snapshot.pool.units)
    yield _gauge("pool_capacity_units", "Units that fit", snapshot.pool.capacity)
    yield _counter("pool_taken_units", "Units used for blocks", snapshot.pool.taken)
    yield _counter("pool_expired_units", "Units thrown away with their attestation", snapshot.pool.expired)
    up = GaugeMetricFamily("qnode_qrngd_live", "1 if the QRNG server's device is live", labels=["server"])
    units = CounterMetricFamily("qnode_qrngd_units", "Units received and checked", labels=["server"])
    for link in snapshot.links:
        up.add_metric([link.server], int(link.state == "live"))
        units.add_metric([link.server], link.units)
    yield up
    yield units


def _requests(snapshot: StatusSnapshot) -> Iterator[Metric]:
    yield _gauge("held_blocks", "Blocks held for collection", snapshot.held.blocks)
    yield _gauge("held_capacity_blocks", "Blocks that can be held", snapshot.held.capacity)
    yield _gauge("spent_indices", "Spent indices remembered", snapshot.held.marks)
    yield _counter("erased_blocks", "Blocks erased", snapshot.held.erased)
    yield _counter("corrupt_values", "Stored values that did not check", snapshot.held.corrupt)
    answered = CounterMetricFamily("qnode_requests_answered", "Requests answered, by kind", labels=["kind"])
    for kind, number in sorted(snapshot.answered.items()):
        answered.add_metric([kind], number)
    yield answered
    refused = CounterMetricFamily("qnode_requests_refused", "Requests refused, by code", labels=["code"])
    for code, number in sorted(snapshot.refused.items()):
        refused.add_metric([code], number)
    yield refused
    yield _durations(snapshot)
    yield _gauge("peer_connections", "Open connections", snapshot.peers.open)
    yield _counter("peer_accepted_connections", "Connections accepted", snapshot.peers.accepted)
    yield _counter("peer_refused_connections", "Connections turned away by a limit", snapshot.peers.refused)
    yield _counter("peer_displaced_connections", "Connections closed to make room for another address", snapshot.peers.displaced)
    yield _counter("peer_failed_handshakes", "Connections whose handshake failed", snapshot.peers.handshakes_failed)


def _durations(snapshot: StatusSnapshot) -> Metric:
    bounds = [str(bound_ms / _MS_PER_S) for bound_ms in snapshot.durations.bounds_ms] + ["+Inf"]
    buckets = list(zip(bounds, accumulate(snapshot.durations.counts), strict=True))
    family = HistogramMetricFamily("qnode_request_duration_seconds", "How long answered requests took")
    family.add_metric([], buckets, sum_value=snapshot.durations.sum_ms / _MS_PER_S)
    return family


class MetricsPage:
    """Renders the page; process metrics (CPU, memory, descriptors) are Prometheus' own."""

    def __init__(self, snapshot: Callable[[], StatusSnapshot]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_SnapshotCollector(snapshot))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self) -> bytes:
        """The page in Prometheus' text format."""
        return generate_latest(self._registry)
