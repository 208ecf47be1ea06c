"""What the network says of the asker, and what is found out at home."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from support.lies import (
    COMMUNITY,
    LETTER,
    refused,
    sealed,
)
from support.village import User, Village, village

from qustream.client.client import Client
from qustream.client.requests import Requests
from qustream.errors import PeerFault
from qustream.identity.user import UserHome
from qustream.transport.blocking import connect
from qustream.transport.engine import LocalHello
from qustream.wire.hello import Role


def test_a_revoked_device_is_refused_by_name(net: Village, bob: User) -> None:
    carol = net.user("carol")
    net.writer.revoke_device(carol.device.user, carol.device.device.id)
    net.writer.write()
    error = refused(lambda: sealed(carol, bob), "E-DEVICE-REVOKED")
    assert isinstance(error, PeerFault)


def test_an_unknown_device_is_refused_and_the_user_is_alerted(net: Village, bob: User, tmp_path: Path) -> None:
    carol = net.user("carol")
    client = carol.client()
    grant = client.grants()[0][0]
    # Somebody who has the words makes a device of his own, and brings the grant's nonce, which is no secret.
    thief = UserHome.create(tmp_path / "thief", carol.words, "thief", b"x", now_ms=net.clock_ms())
    thief.adopt_grant(grant, nonce=carol.device.grant_nonce(grant.grant))
    refused(lambda: sealed(User(net, tmp_path, "", thief), bob), "E-DEVICE-UNKNOWN")
    alerts = client.alerts()
    assert {(alert.code, alert.device) for alert in alerts} == {("E-DEVICE-UNKNOWN", thief.device.id)}
    assert client.alerts(since_ms=net.clock_ms()) == []


def test_a_user_nobody_enrolled_is_told_what_to_do(net: Village, bob: User) -> None:
    error = refused(lambda: sealed(net.user("erin", enrolled=False), bob), "E-GRANT-UNKNOWN")
    assert "enrol" in error.detail


def test_a_spent_index_is_refused(net: Village, bob: User) -> None:
    carol = net.user("carol")
    client = carol.client()
    client.grants()
    (record,) = (carol.home / "grants").glob("*.grant")
    before = record.read_bytes()
    client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    record.write_bytes(before)  # as a restored backup would
    refused(lambda: client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text]), "E-GRANT-SPENT")
    client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])  # and the next index is good


def test_a_grant_comes_to_its_end_and_the_next_one_is_used(net: Village, bob: User) -> None:
    carol = net.user("carol", requests=1)
    client = carol.client()
    client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    refused(lambda: sealed(carol, bob), "E-GRANT-EXHAUSTED")
    net.grant(carol, 1)
    net.writer.write()
    client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])


def test_a_clock_that_is_wrong_is_said_to_be(net: Village, bob: User) -> None:
    carol = net.user("carol")
    client = Client(carol.device, carol.registry(), clock_ms=lambda: net.clock_ms() - 600_000)
    error = refused(lambda: client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text]), "E-REQUEST-EXPIRED")
    assert "clock" in str(error)
    client.close()


def test_a_request_signed_for_another_node_or_channel(net: Village, alice: User) -> None:
    registry = alice.registry()
    one, other = (registry.node(node.id) for node in net.of(COMMUNITY)[:2])
    requests = Requests(alice.device, registry, net.clock_ms)
    hello = LocalHello(registry.chain, (Role.DEVICE,))

    def connected(node: Any) -> Any:
        return connect(node.addresses[0], key=alice.device.device, hello=hello, expect=node.key.id)

    with connected(one) as first, connected(other) as second, connected(one) as third:
        body = requests.collect(one, bytes(32), 0).request(first.peer)
        for connection in (second, third):
            refused(lambda connection=connection: connection.call(body, deadline_ms=60_000), "E-REQUEST-NODE")
        refused(lambda: first.call(body, deadline_ms=60_000), "E-NOT-HELD")


@pytest.mark.parametrize(("lifetime_ms", "code"), [(31 * 86_400_000, "E-LIFETIME"), (0, "E-REQUEST-INVALID"), (-5, "E-REQUEST-INVALID")])
def test_what_is_wrong_at_home_spends_nothing(net: Village, alice: User, bob: User, lifetime_ms: int, code: str) -> None:
    left = alice.client().grants()
    refused(lambda: sealed(alice, bob, lifetime_ms=lifetime_ms), code)
    refused(lambda: alice.client().encrypt(io.BytesIO(bytes(196_609)), io.BytesIO(), to=[bob.text], pad=True), "E-PAD-SIZE")
    refused(lambda: alice.client().encrypt(io.BytesIO(), io.BytesIO(), to=[]), "E-REQUEST-INVALID")
    refused(lambda: alice.client().encrypt(io.BytesIO(), io.BytesIO(), to=["qu1nobody"]), "E-ID-TEXT")
    refused(lambda: alice.client().encrypt(io.BytesIO(), io.BytesIO(), to=[bytes(32)]), "E-REGISTRY-UNKNOWN")
    refused(lambda: alice.client().encrypt(alice.home / "none", io.BytesIO(), to=[bob.text]), "E-FILE")
    refused(lambda: alice.client().encrypt(io.BytesIO(), alice.home / "config.toml", to=[bob.text]), "E-FILE-EXISTS")
    assert alice.client().grants() == left
    assert not any(node.asked for node in net.nodes)


def test_a_network_with_too_few_nodes_spends_nothing(tmp_path: Path) -> None:
    with village(tmp_path, foundation=2, community=3) as small:
        dora = small.user("dora")
        error = refused(lambda: sealed(dora, dora), "E-CLASS-SHORT")
        assert "foundation" in error.detail
        assert "2" in error.detail
        assert dora.client().grants()[0][1] == 64
        assert not any(node.asked for node in small.nodes)
