"""The pages a node shows."""

from __future__ import annotations

import json

from support.snapshots import snapshot

from qnode.api.pages import pages
from qnode.api.peers import PeersPage
from qnode.api.status import StatusSnapshot
from qustream.errors import CODES


def test_a_ready_node() -> None:
    routes = pages(snapshot)
    assert set(routes) == {"/livez", "/readyz", "/v1/status", "/v1/peers", "/metrics"}
    assert routes["/livez"]().status == 200
    ready = routes["/readyz"]()
    assert (ready.status, json.loads(ready.body)) == (200, {"ready": True, "reasons": []})
    assert StatusSnapshot.from_json(routes["/v1/status"]().body) == snapshot()
    assert PeersPage.from_json(routes["/v1/peers"]().body) == snapshot().peers_page()
    assert routes["/metrics"]().content_type.startswith("text/plain; version=")


def test_a_node_that_is_not_ready_says_why_and_what_to_do() -> None:
    routes = pages(lambda: snapshot(stopped=True))
    assert routes["/livez"]().status == 200
    answer = routes["/readyz"]()
    assert (answer.status, answer.content_type) == (503, "application/json")
    assert json.loads(answer.body) == {
        "ready": False,
        "reasons": [
            {
                "code": "E-ENTROPY-SHORT",
                "detail": "no attested randomness in memory; the device is failed",
                "remedy": CODES["E-ENTROPY-SHORT"].remedy,
            }
        ],
    }
