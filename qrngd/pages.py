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
    """Path to page. Ready is 200, not ready 503 with the reason; alive is 200 whenever the event loop turns."""
    metrics = MetricsPage(snapshot)

    def readyz() -> Answer:
        now = snapshot()
        code = now.device.code
        remedy = CODES[code].remedy if code in CODES else ""
        reasons = [] if now.ready else [{"code": code, "detail": now.reason, "remedy": remedy}]
        return Answer(200 if now.ready else 503, msgspec.json.encode({"ready": now.ready, "reasons": reasons}), _JSON)

    return {
        "/livez": lambda: Answer(200, b'{"alive":true}', _JSON),
        "/readyz": readyz,
        "/v1/status": lambda: Answer(200, snapshot().to_json(), _JSON),
        "/metrics": lambda: Answer(200, metrics.render(), CONTENT_TYPE),
    }
