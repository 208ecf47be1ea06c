"""The read-only pages of a node: `/livez`, `/readyz`, `/v1/status`, `/v1/peers`, `/metrics` (`proto/spec/node.md`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from qnode.api.metrics import CONTENT_TYPE, MetricsPage
from qnode.api.status import StatusSnapshot
from qustream.aio.http import Answer, Route

__all__ = ["pages"]

_JSON = "application/json"


def pages(snapshot: Callable[[], StatusSnapshot]) -> Mapping[str, Route]:
    """Path to page. Ready is 200, not ready 503 with the reasons; alive is 200 whenever the event loop turns."""
    metrics = MetricsPage(snapshot)

    def readyz() -> Answer:
        now = snapshot()
        reasons = [{"code": c.code, "detail": c.detail, "remedy": c.remedy} for c in now.conditions if c.stops]
        return Answer(200 if now.ready else 503, msgspec.json.encode({"ready": now.ready, "reasons": reasons}), _JSON)

    return {
        "/livez": lambda: Answer(200, b'{"alive":true}', _JSON),
        "/readyz": readyz,
        "/v1/status": lambda: Answer(200, snapshot().to_json(), _JSON),
        "/v1/peers": lambda: Answer(200, snapshot().peers_page().to_json(), _JSON),
        "/metrics": lambda: Answer(200, metrics.render(), CONTENT_TYPE),
    }
