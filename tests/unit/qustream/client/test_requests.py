"""Requests: what they say, for whom, and what signs them."""

from __future__ import annotations

import hashlib

import pytest
from support.village import CHAIN, User, Village

from qustream.client.requests import VALIDITY_MS, KeyOrder, Requests
from qustream.identity.signing import verify
from qustream.model.network import NodeRecord
from qustream.transport.greeting import Peer
from qustream.wire.codec import decode
from qustream.wire.hello import Hello, Role
from qustream.wire.keys import (
    REQUEST_MAX_BYTES,
    AcknowledgeBody,
    AlertsBody,
    CollectBody,
    DeviceRequest,
    KeyBody,
    RequestBody,
    RevokeBody,
)

NOW_MS = 1_900_000_000_000
GRANT, SEED, EXPORTER = b"g" * 32, b"s" * 126, b"e" * 32


@pytest.fixture
def node(alice: User, net: Village) -> NodeRecord:
    return alice.registry().node(net.nodes[0].id)


@pytest.fixture
def requests(alice: User) -> Requests:
    return Requests(alice.device, alice.registry(), lambda: NOW_MS)


def peer(node: NodeRecord) -> Peer:
    return Peer(node.key.id, node.key, Hello(1, 1, CHAIN, (Role.NODE,), (), 0, bytes(64)), EXPORTER)


def read(data: bytes) -> tuple[DeviceRequest, RequestBody]:
    request = decode(data, DeviceRequest, max_bytes=REQUEST_MAX_BYTES)
    return request, decode(request.body, RequestBody, max_bytes=REQUEST_MAX_BYTES)


def test_a_key_request_names_everything_and_signs_the_seeds_hash(requests: Requests, node: NodeRecord, alice: User) -> None:
    order = KeyOrder(GRANT, 7, b"r" * 32, (b"p" * 32,), (b"u" * 32, b"v" * 32), 1000)
    ask = requests.key(node, order, SEED)
    assert ask.node is node
    request, body = read(ask.request(peer(node)))
    assert isinstance(body, KeyBody)
    assert (body.grant, body.index, body.ruid, body.path) == (GRANT, 7, b"r" * 32, (b"p" * 32,))
    assert (body.recipients, body.lifetime_ms) == ((b"u" * 32, b"v" * 32), 1000)
    assert body.seed_hash == hashlib.sha256(SEED).digest()
    assert request.seed == SEED
    assert SEED not in request.body
    assert verify(alice.device.device.public, "device-request", request.body, request.signature)


def test_every_request_is_bound_to_network_node_channel_and_moment(requests: Requests, node: NodeRecord, alice: User) -> None:
    order = KeyOrder(GRANT, 7, b"r" * 32, (), (), 0)
    asks = {
        KeyBody: requests.key(node, order, SEED),
        CollectBody: requests.collect(node, GRANT, 7),
        AcknowledgeBody: requests.acknowledge(node, GRANT, 7, collected=True),
        RevokeBody: requests.revoke(node, GRANT, 7),
        AlertsBody: requests.alerts(node, 5),
    }
    for kind, ask in asks.items():
        request, body = read(ask.request(peer(node)))
        assert type(body) is kind
        binding = body.binding
        assert (binding.chain, binding.node, binding.exporter) == (CHAIN, node.key.id, EXPORTER)
        assert binding.expires_ms == NOW_MS + VALIDITY_MS
        assert binding.epoch == alice.registry().epoch(NOW_MS).number
        assert (binding.user, binding.certificate) == (alice.device.user, alice.device.certificate)
        assert (request.seed == b"") == (kind is not KeyBody)
        assert verify(alice.device.device.public, "device-request", request.body, request.signature)


def test_the_same_ask_says_the_same_on_another_channel(requests: Requests, node: NodeRecord) -> None:
    ask = requests.key(node, KeyOrder(GRANT, 7, b"r" * 32, (), (), 0), SEED)
    first, again = (read(ask.request(peer(node)))[1] for _ in range(2))
    assert first == again


def test_nothing_of_a_seed_is_shown(requests: Requests, node: NodeRecord) -> None:
    ask = requests.key(node, KeyOrder(GRANT, 7, b"r" * 32, (), (), 0), b"\x17secretseed" * 12)
    assert "secretseed" not in repr(ask)
