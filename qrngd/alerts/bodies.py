"""What is sent to a receiver: Alertmanager's own form, and ours for everybody else (`proto/spec/monitoring.md`).

Sources: Prometheus Alertmanager, OpenAPI v2, `POST /api/v2/alerts`; HMAC: RFC 2104 with SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from qrngd.alerts.alert import Alert
from qrngd.alerts.outbox import Notice

__all__ = ["JOB", "alertmanager_body", "rfc3339", "signature", "webhook_body"]

# The job of deploy/prometheus/prometheus.yml: with it an alert has the same labels wherever it comes from.
JOB = "qrngd"
WEBHOOK_VERSION = 1


def alertmanager_body(notices: Sequence[Notice], labels: Mapping[str, str], pages: Mapping[str, str], lasts_until_ms: int) -> bytes:
    """A JSON list of alerts. Those that last end at `lasts_until_ms` unless they are told again. `pages`: instance to its address."""
    return msgspec.json.encode([_postable(each.alert, labels, pages, lasts_until_ms) for each in notices])


def _postable(alert: Alert, labels: Mapping[str, str], pages: Mapping[str, str], lasts_until_ms: int) -> dict[str, Any]:
    name, instance, device, flag = alert.key
    own = {
        "alertname": name, "severity": alert.condition.severity.value, "code": alert.condition.code, "job": JOB, "instance": instance,
        "device": device, "flag": flag,
    }  # fmt: skip
    return {
        "labels": {key: value for key, value in {**labels, **own}.items() if value},
        "annotations": {
            "summary": alert.summary,
            "description": f"{alert.detail.rstrip('.')}. Remedy: {alert.remedy}.",
            "cause": alert.cause,
            "server": alert.server or "unknown",
            "runbook_url": alert.runbook,
        },
        "startsAt": rfc3339(alert.started_ms),
        "endsAt": rfc3339(lasts_until_ms if alert.ended_ms is None else alert.ended_ms),
        "generatorURL": pages.get(instance, ""),
    }


def webhook_body(notices: Sequence[Notice], labels: Mapping[str, str], *, sent_ms: int, lasts_until_ms: int, dropped: int) -> bytes:
    """A JSON object. An alert that is not told again until `expires_ms` is to be taken for over."""
    alerts = [
        {
            "status": status.value,
            "name": alert.key.name,
            "severity": alert.condition.severity.value,
            "code": alert.condition.code,
            "cause": alert.cause,
            "instance": alert.key.instance,
            "device": alert.key.device,
            "flag": alert.key.flag,
            "server": alert.server,
            "summary": alert.summary,
            "detail": alert.detail,
            "remedy": alert.remedy,
            "runbook": alert.runbook,
            "started_ms": alert.started_ms,
            "ended_ms": alert.ended_ms,
            "expires_ms": lasts_until_ms if alert.ended_ms is None else None,
        }
        for status, alert in notices
    ]
    said = {"version": WEBHOOK_VERSION, "sent_ms": sent_ms, "labels": dict(labels), "dropped": dropped, "alerts": alerts}
    return msgspec.json.encode(said)


def signature(key: bytes, body: bytes) -> str:
    """What stands in the header `X-QuStream-Signature`."""
    return "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()


def rfc3339(at_ms: int) -> str:
    """Unix ms as UTC, such as 2026-01-31T23:59:59.000Z."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
