"""What can be wrong with a QRNG server, as far as one picture, or two some minutes apart, can tell (`proto/spec/monitoring.md`).

The rules for Prometheus (`deploy/prometheus/qrngd.rules.yml`) are the same conditions by the same names, severities and codes; a test
compares them. Rules see more where days of history are needed: alarms that become more frequent, a device slower or an estimate lower than
it used to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qrngd.alerts.alert import Condition, Severity
from qrngd.alerts.growth import Meter
from qrngd.alerts.picture import DevicePicture, StatusPicture, known_code, printable
from qustream.model.entropy import UNIT_BYTES

__all__ = ["CONDITIONS", "SETTLE_MS", "UNREACHABLE", "Finding", "ServerHistory", "is_more_than_chance"]

# Long enough for a start-up test and a restart, short enough that a node has not yet run dry.
SETTLE_MS = 60_000
_MINUTE_MS = 60_000
_QUARTER_MS = 15 * _MINUTE_MS
_HOUR_MS = 60 * _MINUTE_MS
# The slowest devices take a minute for one unit; ten without any is none of theirs.
_ATTESTATIONS_WINDOW_MS = 10 * _MINUTE_MS
# Of a sound device one window in 2^23 fails by chance (proto/spec/entropy-feed.md, "Two levels").
_CHANCE_WINDOWS = 1 << 23
# What chance brings, by five standard deviations, and these two: a device with few windows an hour may have one bad day.
_DISCARDED_SPARE, _DEVIATIONS = 2, 5
# One window of a perfect source shows 7.5 of 8 bits and 12 of 16; below seven tenths of the claim is no such effect.
_ESTIMATE_TENTHS = 7
# A device that gives less than half of what it should, while nodes wait.
_SLOW_SHARE = 2
# Status bits that are set when all is well, or while the device tests itself; a device without them is not live. All others are faults.
_GOOD_FLAGS = re.compile(r"initialised|startup_test|.+_present|.+_working", re.ASCII)

_C, _W = Severity.CRITICAL, Severity.WARNING
UNREACHABLE = Condition("QrngdUnreachable", _C, "E-PEER-UNREACHABLE", SETTLE_MS, "the QRNG server does not answer")
NOT_READY = Condition("QrngdNotReady", _C, "E-FEED-STOPPED", SETTLE_MS, "the QRNG server delivers nothing")
DEVICE_FAILED = Condition("QrngdDeviceFailed", _C, "E-DEV-LATCHED", 0, "it has failed for good")
DEVICE_NOT_LIVE = Condition("QrngdDeviceNotLive", _W, "E-DEV-ABSENT", SETTLE_MS, "it is not live")
WINDOWS_DISCARDED = Condition("QrngdDeviceWindowsDiscarded", _W, "E-DEV-HEALTH", 0, "it fails its tests more often than chance explains")
MIN_ENTROPY_LOW = Condition("QrngdDeviceMinEntropyLow", _W, "E-DEV-HEALTH", _HOUR_MS, "it looks less random than its maker claims")
DEVICE_FLAG = Condition("QrngdDeviceFlag", _W, "E-DEV-STATUS", SETTLE_MS, "it reports a fault of its own")
WORKER_RESTARTED = Condition("QrngdDeviceWorkerRestarted", _W, "E-DEV-WORKER", 0, "the process that reads it was started again")
NO_ATTESTATIONS = Condition("QrngdNoAttestations", _C, "E-FEED-STOPPED", SETTLE_MS, "the QRNG server is ready and attests nothing")
DEVICE_SLOW = Condition("QrngdDeviceSlow", _W, "E-DEV-READ", _QUARTER_MS, "it is slow")
STOCK_EMPTY = Condition("QrngdStockEmpty", _W, "E-ENTROPY-SHORT", _QUARTER_MS, "the QRNG server has less than its nodes want")
LEAF_LOG_TROUBLE = Condition("QrngdLeafLogTrouble", _C, "E-DISK-FULL", SETTLE_MS, "the QRNG server cannot publish its leaves")
REGISTRY_TROUBLE = Condition("QrngdRegistryTrouble", _W, "E-REGISTRY-FORMAT", SETTLE_MS, "the QRNG server cannot use its network file")
MEMORY_NOT_LOCKED = Condition("QrngdMemoryNotLocked", _W, "E-MEMORY-LOCK", SETTLE_MS, "memory of the QRNG server may reach a swap device")

CONDITIONS = (
    UNREACHABLE, NOT_READY, DEVICE_FAILED, DEVICE_NOT_LIVE, WINDOWS_DISCARDED, MIN_ENTROPY_LOW, DEVICE_FLAG, WORKER_RESTARTED,
    DEVICE_SLOW, NO_ATTESTATIONS, STOCK_EMPTY, LEAF_LOG_TROUBLE, REGISTRY_TROUBLE, MEMORY_NOT_LOCKED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition that holds in a picture. `code`: the one that fits best; '' means the condition's own."""

    condition: Condition
    detail: str
    device: str = ""
    flag: str = ""
    code: str = ""


class _DeviceHistory:
    def __init__(self) -> None:
        self.windows, self.discarded = Meter(_HOUR_MS), Meter(_HOUR_MS)
        self.worker_restarts = Meter(_QUARTER_MS)


class ServerHistory:
    """The counters of one server, as far back as the conditions look."""

    def __init__(self) -> None:
        self._started_ms: int | None = None
        self._attestations = Meter(_ATTESTATIONS_WINDOW_MS)
        self._devices: dict[str, _DeviceHistory] = {}

    def findings(self, picture: StatusPicture, now_ms: int) -> Iterator[Finding]:
        """Take a picture in, and say what is wrong in it."""
        restarted = self._started_ms is not None and picture.started_ms != self._started_ms
        self._started_ms = picture.started_ms
        self._attestations.read(picture.feed.attestations, now_ms, restarted=restarted)
        # Devices that are gone are forgotten: there are never more than a picture has.
        self._devices = {each.name: self._devices.get(each.name) or _DeviceHistory() for each in picture.devices}
        for device in picture.devices:
            history = self._devices[device.name]
            history.windows.read(device.windows, now_ms, restarted=restarted)
            history.discarded.read(device.windows_discarded, now_ms, restarted=restarted)
            history.worker_restarts.read(device.worker_restarts, now_ms, restarted=restarted)
            yield from _of_device(device, history)
            if picture.wanted_units and device.stock_bytes < UNIT_BYTES and _SLOW_SHARE * device.rate_bps < device.nominal_rate_bps:
                yield Finding(DEVICE_SLOW, f"nodes wait, and it gives {device.rate_bps} of {device.nominal_rate_bps} bit/s", device.name)
        yield from self._of_server(picture, now_ms)

    def _of_server(self, picture: StatusPicture, now_ms: int) -> Iterator[Finding]:
        if not picture.ready:
            yield Finding(NOT_READY, printable(picture.reason), code=known_code(picture.code))
        for condition, trouble in ((REGISTRY_TROUBLE, picture.registry_trouble), (LEAF_LOG_TROUBLE, picture.leaf_log_trouble)):
            if trouble:
                yield Finding(condition, printable(trouble), code=known_code(trouble.partition(":")[0]))
        if not picture.memory_locked:
            yield Finding(MEMORY_NOT_LOCKED, "the daemon was not allowed to lock its memory")
        wanted = picture.wanted_units
        if wanted:
            if picture.ready and self._attestations.covers(now_ms) and not self._attestations.growth:
                yield Finding(NO_ATTESTATIONS, f"nodes wait for {wanted} units, and none was attested for ten minutes")
            if sum(device.stock_bytes for device in picture.devices) < UNIT_BYTES:
                yield Finding(STOCK_EMPTY, f"nodes wait for {wanted} units, and the stock holds less than one")


def _of_device(device: DevicePicture, history: _DeviceHistory) -> Iterator[Finding]:
    name, reason = device.name, printable(device.reason)
    if device.state == "failed":
        yield Finding(DEVICE_FAILED, reason, name, code=known_code(device.code))
    elif device.state != "live":
        yield Finding(DEVICE_NOT_LIVE, f"{printable(device.state)}: {reason}", name, code=known_code(device.code))
    discarded, windows = history.discarded.growth, history.windows.growth
    if is_more_than_chance(discarded, windows):
        yield Finding(WINDOWS_DISCARDED, f"{discarded} of {windows} windows of the last hour were thrown away", name)
    estimate, claim = device.min_entropy_estimate_millibits, device.min_entropy_millibits
    if estimate is not None and 10 * estimate < _ESTIMATE_TENTHS * claim:
        yield Finding(MIN_ENTROPY_LOW, f"about {estimate} millibits a sample are seen, {claim} are claimed", name)
    for flag in device.flags:
        if flag.on and not _GOOD_FLAGS.fullmatch(flag.name):
            yield Finding(DEVICE_FLAG, f"the device reports {flag.name}", name, flag.name)
    if history.worker_restarts.growth:
        yield Finding(WORKER_RESTARTED, "the process that reads it was started again in the last quarter of an hour", name)


def is_more_than_chance(discarded: int, windows: int) -> bool:
    """Whether `discarded` > 2 + m + 5 √m, with m = `windows` / 2^23; in integers."""
    excess = (discarded - _DISCARDED_SPARE) * _CHANCE_WINDOWS - windows
    return excess > 0 and excess * excess > _DEVIATIONS**2 * windows * _CHANCE_WINDOWS
