"""The status snapshot as Prometheus metrics, in a registry of our own: a scrape shows exactly what `qrngd status` shows.

Names follow Prometheus' rules: base units, `_total` for counters. Labels are bounded: states, tests and the causes below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from qrngd.health.state import DeviceState
from qrngd.status import DeviceStatus, FeedStatus, StatusSnapshot

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
        device = snapshot.device
        yield InfoMetricFamily(
            "qrngd",
            "The server and its device",
            {
                "version": snapshot.version,
                "server": snapshot.server,
                "chain": snapshot.chain,
                "device_kind": device.kind,
                "device_model": device.model,
                "device_source": device.source,
            },
        )
        yield _gauge("start_time_seconds", "Unix time at which the daemon started", snapshot.started_ms / _MS_PER_S)
        yield _gauge("ready", "1 if a node that asks for units gets some", int(snapshot.ready))
        yield _gauge("registry_trouble", "1 if the network file cannot be read or is not valid", int(bool(snapshot.registry_trouble)))
        yield from _device(device)
        yield from _feed(snapshot.feed)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"qrngd_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"qrngd_{name}", text, value=value)


def _device(device: DeviceStatus) -> Iterator[Metric]:
    state = GaugeMetricFamily("qrngd_device_state", "1 for the state the device is in", labels=["state"])
    for name in DeviceState:
        state.add_metric([name.value], int(device.state == name.value))
    yield state
    yield _gauge("device_state_since_seconds", "Unix time of the last change of state", device.since_ms / _MS_PER_S)
    yield _gauge("device_emulated", "1 if the device is an emulator", int(device.emulated))
    yield _gauge("device_min_entropy_bits", "Min-entropy counted on, bits a sample", device.min_entropy_millibits / 1000)
    yield _counter("device_live_seconds", "Time the device has been live", device.live_ms / _MS_PER_S)
    yield _counter("device_opened", "Times the device was opened", device.opened)
    yield _counter("device_read_errors", "Times the device could not be opened or read", device.read_errors)
    yield _counter("device_raw_bytes", "Bytes read from the device", device.raw_bytes)
    yield _counter("health_samples", "Samples judged by the health tests", device.samples)
    windows = CounterMetricFamily("qrngd_health_windows", "Windows judged, by what became of them", labels=["result"])
    windows.add_metric(["passed"], device.windows_passed)
    windows.add_metric(["discarded"], device.windows_discarded)
    windows.add_metric(["startup"], device.windows_startup)
    yield windows
    alarms = CounterMetricFamily("qrngd_health_alarms", "Windows in which a health test alarmed", labels=["test"])
    alarms.add_metric(["repetition"], device.alarms.repetition)
    alarms.add_metric(["proportion"], device.alarms.proportion)
    alarms.add_metric(["predictor"], device.alarms.predictor)
    yield alarms
    yield _counter("conditioned_bytes", "Conditioned bytes made", device.conditioned_bytes)
    yield _counter("seed_bytes", "Conditioned bytes consumed as DRBG seeds", device.seed_bytes)
    yield _counter("entropy_credited_bits", "Full-entropy bits credited to windows that passed", device.credited_bits)


def _feed(feed: FeedStatus) -> Iterator[Metric]:
    yield _gauge("feed_nodes", "Nodes with an open feed", len(feed.nodes))
    yield _gauge("feed_nodes_allowed", "Nodes that may open one", feed.allowed)
    yield _gauge("feed_credit_units", "Units that nodes have asked for and nobody has made yet", sum(n.credit for n in feed.nodes))
    yield _gauge("feed_in_flight_units", "Units made and not yet taken by a transport", sum(n.in_flight for n in feed.nodes))
    yield _gauge("stock_bytes", "Conditioned bytes that wait to become units", feed.stock_bytes)
    yield _counter("stock_dropped_bytes", "Conditioned bytes thrown away because newer ones came", feed.stock_dropped_bytes)
    yield _counter("units_made", "Units made", feed.units_made)
    yield _counter("units_delivered", "Units handed to a node's transport", feed.units_delivered)
    yield _counter("units_discarded", "Units thrown away: their node left, or the device failed", feed.units_discarded)
    yield _counter("attestations", "Attestations signed", feed.attestations)
    yield _counter("feed_opened", "Feeds opened", feed.opened)
    yield _counter("feed_refused", "Feeds refused", feed.refused)
    yield _gauge("peer_connections", "Open connections", feed.connections)
    yield _counter("peer_refused", "Connections turned away by a limit", feed.connections_refused)
    yield _counter("peer_handshakes_failed", "Connections whose handshake failed", feed.handshakes_failed)
    yield _counter("feed_dropped", "Feeds cut off because the node broke the protocol or read too slowly", feed.dropped)


class MetricsPage:
    """The text of `/metrics`, with Prometheus' own process metrics. `snapshot` is called at each scrape."""

    def __init__(self, snapshot: Callable[[], StatusSnapshot]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_SnapshotCollector(snapshot))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The page in Prometheus' text format."""
        return generate_latest(self._registry)
