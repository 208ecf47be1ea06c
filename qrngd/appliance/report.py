"""What the reader says of itself in numbers: a file for the textfile collector of Prometheus' node exporter, replaced as a whole."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client import Counter as CounterMetric

from qustream.identity import files

__all__ = ["Figures", "metrics_text", "write_metrics"]

# The exporter is another user, and the numbers are no secret.
FILE_MODE = 0o644


@dataclass
class Figures:
    """What was counted since the start. `failures`: by code. `code`: what is wrong now, '' if nothing is."""

    started_s: float = field(default_factory=time.time)
    delivered_bytes: int = 0
    answers: int = 0
    connections: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    code: str = ""
    reading: bool = False
    quota_limit_bytes: int = 0
    quota_used_bytes: int = 0
    last_answer_s: float = 0.0


def metrics_text(figures: Figures) -> bytes:
    """In Prometheus' text format; names by its rules."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float) -> None:
        Gauge(f"qrngd_reader_{name}", text, registry=registry).set(value)

    def counter(name: str, text: str, value: float) -> None:
        CounterMetric(f"qrngd_reader_{name}", text, registry=registry).inc(value)

    gauge("start_time_seconds", "Unix time at which the reader started", figures.started_s)
    gauge("healthy", "1 if the last request, if there was one, was answered with entropy", int(not figures.code))
    gauge("fifo_open", "1 while qrngd reads the FIFO", int(figures.reading))
    gauge("last_answer_timestamp_seconds", "Unix time of the last good answer, 0 if there was none", figures.last_answer_s)
    gauge("quota_limit_bytes", "quota_bytes_per_day, 0 if there is none", figures.quota_limit_bytes)
    gauge("quota_used_bytes", "Bytes of it that were used today", figures.quota_used_bytes)
    counter("delivered_bytes", "Bytes written into the FIFO", figures.delivered_bytes)
    counter("answers", "Answers that held entropy", figures.answers)
    counter("connections", "TLS connections made", figures.connections)
    failures = CounterMetric("qrngd_reader_failures", "Requests that gave no entropy, by code", ["code"], registry=registry)
    for code, count in sorted(figures.failures.items()):
        failures.labels(code).inc(count)
    # The time at which each counter was made says nothing that the start time does not.
    return b"\n".join(line for line in generate_latest(registry).split(b"\n") if b"_created" not in line)


def write_metrics(path: Path, figures: Figures) -> None:
    """Raises E-FILE, E-DISK-FULL."""
    files.replace(path, metrics_text(figures), mode=FILE_MODE)
