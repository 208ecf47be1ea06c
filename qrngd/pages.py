"""The read-only pages of a QRNG server: `/livez`, `/readyz`, `/v1/status`, `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from qrngd.metrics import CONTENT_TYPE, MetricsPage
from qrngd.status import StatusSnapshot
from qustream.aio.http import Answer, Route
from qustream.errors import CODES

__all__ = ["pages"]

_JSON = "application/json"


def pages(snapshot: Callable[[], StatusSnapshot]) -> Mapping[str, Route]:
    """Path to page. Ready is 200, not ready 503; both with what is wrong, for a server may deliver although one of its devices does not.
    Alive is 200 whenever the event loop turns."""
    metrics = MetricsPage(snapshot)

    def readyz() -> Answer:
        now = snapshot()
        reasons = [_reason(device.code, f"{device.name}: {device.reason}") for device in now.devices if device.code]
        if not now.ready and not reasons:
            reasons = [_reason(now.code, now.reason)]
        return Answer(200 if now.ready else 503, msgspec.json.encode({"ready": now.ready, "reasons": reasons}), _JSON)

    return {
        "/livez": lambda: Answer(200, b'{"alive":true}', _JSON),
        "/readyz": readyz,
        "/v1/status": lambda: Answer(200, snapshot().to_json(), _JSON),
        "/metrics": lambda: Answer(200, metrics.render(), CONTENT_TYPE),
    }


def _reason(code: str, detail: str) -> dict[str, str]:
    return {"code": code, "detail": detail, "remedy": CODES[code].remedy if code in CODES else ""}
