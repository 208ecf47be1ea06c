"""The status snapshot as Prometheus metrics, in a registry of our own: a scrape shows exactly what `qrngd status` shows.

Names follow Prometheus' rules: base units, `_total` for counters. Labels are bounded: the configured devices, states, tests, and the
status bits of drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec
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
# Rates and credits are in bits elsewhere; Prometheus' base units are bytes and ratios, and `promtool check metrics` insists on them.
_BITS_PER_BYTE = 8
_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily)


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: Callable[[], StatusSnapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        return []  # what is collected is known only when a snapshot is taken

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot()
        about = {"version": snapshot.version, "server": snapshot.server, "chain": snapshot.chain}
        yield InfoMetricFamily("qrngd", "The server", about)
        yield _gauge("start_time_seconds", "Unix time at which the daemon started", snapshot.started_ms / _MS_PER_S)
        yield _gauge("ready", "1 if a node that asks for units gets some", int(snapshot.ready))
        yield _gauge("registry_trouble", "1 if the network file cannot be read or is not valid", int(bool(snapshot.registry_trouble)))
        yield _gauge("leaf_log_trouble", "1 if leaves cannot be published, so that nothing leaves", int(bool(snapshot.leaf_log_trouble)))
        yield _gauge("memory_locked", "1 if no memory of the daemon can be swapped", int(snapshot.memory_locked))
        yield from _devices(snapshot.devices)
        yield from _feed(snapshot.feed)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"qrngd_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"qrngd_{name}", text, value=value)


_Value = Callable[[DeviceStatus], float | None]
# Each device's gauges and counters: name, help, value. A value that is not known yet is left out.
_GAUGES: tuple[tuple[str, str, _Value], ...] = (
    ("device_state_since_seconds", "Unix time of the last change of state", lambda d: d.since_ms / _MS_PER_S),
    ("device_emulated", "1 if the device is an emulator", lambda d: int(d.emulated)),
    ("device_latched", "1 if a failure is latched until the operator clears it", lambda d: int(d.state == DeviceState.FAILED)),
    ("device_latch_unwritten", "1 if a latched failure is not on disk", lambda d: int(bool(d.latch_trouble))),
    ("device_min_entropy_ratio", "Min-entropy counted on, of what a sample could hold at most",
     lambda d: d.min_entropy_millibits / (1000 * d.sample_bits)),
    ("device_min_entropy_estimate_ratio", "Min-entropy estimated from one window, of what a sample could hold at most; decides nothing",
     lambda d: None if d.min_entropy_estimate_millibits is None else d.min_entropy_estimate_millibits / (1000 * d.sample_bits)),
    ("device_raw_rate_bytes_per_second", "Raw bytes a second over the last minute", lambda d: d.rate_bps / _BITS_PER_BYTE),
    ("device_nominal_rate_bytes_per_second", "Raw bytes a second as configured, 0: unknown", lambda d: d.nominal_rate_bps / _BITS_PER_BYTE),
    ("stock_bytes", "Conditioned bytes that wait for a node, in whole units", lambda d: d.stock_bytes),
)  # fmt: skip
_COUNTERS: tuple[tuple[str, str, _Value], ...] = (
    ("device_live_seconds", "Time the device has been live", lambda d: d.live_ms / _MS_PER_S),
    ("device_opened", "Times the device was opened", lambda d: d.opened),
    ("device_read_errors", "Times the device could not be opened or read", lambda d: d.read_errors),
    ("device_raw_bytes", "Bytes read from the device", lambda d: d.raw_bytes),
    ("device_worker_restarts", "Times the process that reads the device was started anew", lambda d: d.worker_restarts),
    ("health_samples", "Samples judged by the health tests", lambda d: d.samples),
    ("conditioned_bytes", "Conditioned bytes made", lambda d: d.conditioned_bytes),
    ("seed_bytes", "Conditioned bytes consumed as DRBG seeds", lambda d: d.seed_bytes),
    ("entropy_credited_bytes", "Full-entropy bytes credited to windows that passed", lambda d: d.credited_bits / _BITS_PER_BYTE),
    ("stock_dropped_bytes", "Conditioned bytes thrown away because newer ones came", lambda d: d.stock_dropped_bytes),
)


def _devices(devices: tuple[DeviceStatus, ...]) -> Iterator[Metric]:
    about = InfoMetricFamily("qrngd_device", "What the device says it is", labels=["device"])
    for device in devices:
        said = {"kind": device.kind, "model": device.model, "serial": device.serial, "source": device.source}
        about.add_metric([device.name], said)
    yield about
    for name, text, value in _GAUGES:
        yield _filled(GaugeMetricFamily(f"qrngd_{name}", text, labels=["device"]), devices, value)
    for name, text, value in _COUNTERS:
        yield _filled(CounterMetricFamily(f"qrngd_{name}", text, labels=["device"]), devices, value)
    yield from _by_kind(devices)


def _filled(family: _Family, devices: tuple[DeviceStatus, ...], value: _Value) -> _Family:
    for device in devices:
        known = value(device)
        if known is not None:
            family.add_metric([device.name], known)
    return family


def _by_kind(devices: tuple[DeviceStatus, ...]) -> Iterator[Metric]:
    state = GaugeMetricFamily("qrngd_device_state", "1 for the state the device is in", labels=["device", "state"])
    flags = GaugeMetricFamily("qrngd_device_flag", "1 for a status bit that the device reports as set", labels=["device", "flag"])
    windows = CounterMetricFamily("qrngd_health_windows", "Windows judged, by what became of them", labels=["device", "result"])
    alarms = CounterMetricFamily("qrngd_health_alarms", "Windows in which a health test alarmed", labels=["device", "test"])
    for device in devices:
        for name in DeviceState:
            state.add_metric([device.name, name.value], int(device.state == name.value))
        for flag in device.flags:
            flags.add_metric([device.name, flag.name], int(flag.on))
        results = {"passed": device.windows_passed, "discarded": device.windows_discarded, "startup": device.windows_startup}
        for result, count in results.items():
            windows.add_metric([device.name, result], count)
        for test, count in msgspec.structs.asdict(device.alarms).items():
            alarms.add_metric([device.name, test], count)
    yield from (state, flags, windows, alarms)


def _feed(feed: FeedStatus) -> Iterator[Metric]:
    yield _gauge("feed_nodes", "Nodes with an open feed", len(feed.nodes))
    yield _gauge("feed_nodes_allowed", "Nodes that may open one", feed.allowed)
    yield _gauge("feed_credit_units", "Units that nodes have asked for and nobody has made yet", sum(n.credit for n in feed.nodes))
    yield _gauge("feed_in_flight_units", "Units made and not yet taken by a transport", sum(n.in_flight for n in feed.nodes))
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
