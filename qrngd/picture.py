"""What the status shows of one device: from its host, nothing computed twice."""

from __future__ import annotations

from qrngd.status import AlarmCounts, DeviceStatus, StatusFlag
from qrngd.worker.host import DeviceHost

__all__ = ["device_status"]


def device_status(host: DeviceHost) -> DeviceStatus:
    """How a device is, now."""
    descriptor, figures, rules = host.descriptor, host.figures, host.rules
    measured = figures.measured
    return DeviceStatus(
        name=host.name,
        kind=descriptor.kind,
        model=descriptor.model,
        serial=descriptor.serial,
        source=descriptor.source,
        path=str(host.config.path or ""),
        emulated=descriptor.emulated,
        state=host.state.value,
        code=host.code,
        reason=host.reason,
        since_ms=host.since_ms,
        live_ms=host.live_ms,
        opened=figures.opened,
        read_errors=figures.read_errors,
        history=tuple(host.history),
        sample_bits=descriptor.sample_bits,
        min_entropy_millibits=rules.min_entropy_millibits,
        rct_cutoff=rules.cutoffs.repetition[0],
        apt_cutoff=rules.cutoffs.proportion[0],
        apt_window=rules.cutoffs.window_samples,
        raw_bytes=figures.raw_bytes,
        samples=measured.samples,
        windows=measured.windows,
        windows_passed=measured.windows_passed,
        windows_discarded=measured.windows_discarded,
        windows_startup=measured.windows_startup,
        alarms=AlarmCounts(*measured.alarms),
        conditioned_bytes=measured.conditioned_bytes,
        seed_bytes=measured.seed_bytes,
        credited_bits=measured.credited_bits,
        rate_bps=host.raw_rate_bps,
        nominal_rate_bps=host.config.nominal_rate_bps,
        min_entropy_estimate_millibits=figures.estimate_millibits,
        flags=tuple(StatusFlag(name, on) for name, on in figures.flags),
        worker_restarts=max(0, host.worker_starts - 1),
        latch_trouble=host.latch_trouble,
        stock_bytes=host.stock.size_bytes,
        stock_dropped_bytes=host.stock.dropped_bytes + figures.dropped_bytes,
    )
