"""What goes over the wire to a receiver, byte for byte where somebody else must understand it."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace

from qrngd.alerts.alert import Alert, AlertKey
from qrngd.alerts.bodies import alertmanager_body, rfc3339, signature, webhook_body
from qrngd.alerts.conditions import DEVICE_FLAG, UNREACHABLE
from qrngd.alerts.outbox import Notice, Status

FLAG = Alert(
    AlertKey("QrngdDeviceFlag", "a:1", "card", "voltage_low"), DEVICE_FLAG, "E-DEV-STATUS", "device card of a:1: it reports", "said so.",
    "qr1xyz", 1_700_000_000_123,
)  # fmt: skip
SILENT = Alert(AlertKey("QrngdUnreachable", "b:1"), UNREACHABLE, "E-PEER-VERSION", "b:1: it is silent", "HTTP 404", "", 5, 90_000)


def test_alertmanager() -> None:
    notices = [Notice(Status.RAISED, FLAG), Notice(Status.RESOLVED, SILENT)]
    first, second = json.loads(alertmanager_body(notices, {"site": "lab"}, {"a:1": "http://a:1/v1/status"}, 1_700_000_240_000))
    assert first == {
        "labels": {
            "site": "lab", "alertname": "QrngdDeviceFlag", "severity": "warning", "code": "E-DEV-STATUS", "job": "qrngd",
            "instance": "a:1", "device": "card", "flag": "voltage_low",
        },
        "annotations": {
            "summary": "device card of a:1: it reports",
            "description": f"said so. Remedy: {FLAG.remedy}.",
            "cause": "E-DEV-STATUS",
            "server": "qr1xyz",
            "runbook_url": "deploy/runbooks/E-DEV-STATUS.md",
        },
        "startsAt": "2023-11-14T22:13:20.123Z",
        "endsAt": "2023-11-14T22:17:20.000Z",
        "generatorURL": "http://a:1/v1/status",
    }  # fmt: skip
    # An empty label is no label to Alertmanager; code is the condition's, so that it does not change while the alert lasts.
    assert second["labels"].keys() == {"site", "alertname", "severity", "code", "job", "instance"}
    assert (second["labels"]["code"], second["annotations"]["cause"]) == ("E-PEER-UNREACHABLE", "E-PEER-VERSION")
    assert second["endsAt"] == "1970-01-01T00:01:30.000Z"


def test_webhook() -> None:
    notices = [Notice(Status.RENEWED, FLAG), Notice(Status.RESOLVED, SILENT)]
    said = json.loads(webhook_body(notices, {}, sent_ms=7, lasts_until_ms=9, dropped=2))
    assert {name: said[name] for name in ("version", "sent_ms", "labels", "dropped")} == {
        "version": 1, "sent_ms": 7, "labels": {}, "dropped": 2,
    }  # fmt: skip
    first, second = said["alerts"]
    assert (first["status"], first["flag"], first["expires_ms"], first["ended_ms"]) == ("renewed", "voltage_low", 9, None)
    assert (second["status"], second["server"], second["expires_ms"], second["ended_ms"]) == ("resolved", "", None, 90_000)
    assert first["remedy"] == FLAG.remedy


def test_words_of_a_page_stay_words() -> None:
    evil = replace(FLAG, detail='"}], "labels": {"x": "y\u2028')
    [alert] = json.loads(alertmanager_body([Notice(Status.RAISED, evil)], {}, {}, 0))
    assert alert["annotations"]["description"].startswith(evil.detail)


def test_signature_is_the_standards() -> None:
    assert signature(b"key", b"body") == "sha256=" + hmac.new(b"key", b"body", hashlib.sha256).hexdigest()
    # RFC 4231, test case 2.
    assert signature(b"Jefe", b"what do ya want for nothing?").endswith("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")


def test_times() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_709_164_799_999) == "2024-02-28T23:59:59.999Z"
