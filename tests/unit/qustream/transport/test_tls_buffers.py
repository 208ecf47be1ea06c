"""OpenSSL's buffers are given back, and nothing that is under way is lost by it."""

from __future__ import annotations

import random

import pytest

from qustream.identity.signing import SigningKey
from qustream.transport import tls
from qustream.transport.tls import RENEW_ABOVE_BYTES, RENEW_AFTER_TURNS, TlsLayer

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
LARGE = bytes(RENEW_ABOVE_BYTES + 1)


def pull(layer: TlsLayer) -> bytes:
    return b"".join(layer.pull())


def pair() -> tuple[TlsLayer, TlsLayer]:
    client, server = TlsLayer("client", ALICE), TlsLayer("server", BOB)
    client.start()
    while (there := pull(client)) or not server.ready:
        server.receive(there)
        client.receive(pull(server))
    client.receive(pull(server))
    return client, server


def carry(sender: TlsLayer, receiver: TlsLayer, data: bytes) -> bytes:
    sender.write(data)
    return b"".join(receiver.receive(pull(sender)))


def buffers(layer: TlsLayer) -> tuple[object, object]:
    return layer._connection._into_ssl, layer._connection._from_ssl


@pytest.fixture
def renewals(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The connections whose buffers were renewed."""
    renewed: list[object] = []
    real = tls._renew_buffers

    def renew(connection: tls.SSL.Connection) -> None:
        before = (connection._into_ssl, connection._from_ssl)
        real(connection)
        assert connection._into_ssl not in before
        assert connection._from_ssl not in before
        renewed.append(connection)

    monkeypatch.setattr(tls, "_renew_buffers", renew)
    return renewed


def test_what_a_handshake_needed_is_given_back_at_once(renewals: list[object]) -> None:
    client, server = pair()
    assert set(renewals) == {client._connection, server._connection}
    assert len(renewals) == 2
    assert carry(client, server, b"there") == b"there"
    assert carry(server, client, b"and back") == b"and back"


@pytest.mark.parametrize("who", ["reader", "writer"])
def test_what_a_large_message_needed_is_given_back_after_enough_small_ones(renewals: list[object], who: str) -> None:
    client, server = pair()
    renewals.clear()
    assert carry(client, server, LARGE) == LARGE
    grown = server if who == "reader" else client
    other = client if who == "reader" else server
    for _ in range(RENEW_AFTER_TURNS - 1):
        assert carry(other, grown, b"small") == b"small"
    assert not renewals
    assert carry(other, grown, b"small") == b"small"
    assert renewals == [grown._connection]
    assert carry(client, server, LARGE) == LARGE


def test_a_transfer_in_between_puts_it_off(renewals: list[object]) -> None:
    client, server = pair()
    renewals.clear()
    for _ in range(4):
        carry(client, server, LARGE)
        for _ in range(RENEW_AFTER_TURNS - 1):
            carry(client, server, b"small")
    assert not renewals


def test_nothing_is_renewed_in_the_middle_of_a_record(renewals: list[object]) -> None:
    client, server = pair()
    renewals.clear()
    carry(client, server, LARGE)
    client.write(b"cut in two" * 10)
    record = pull(client)
    for at in range(RENEW_AFTER_TURNS + 1):
        assert server.receive(record[at : at + 1]) == []
    assert not renewals
    assert b"".join(server.receive(record[RENEW_AFTER_TURNS + 1 :])) == b"cut in two" * 10
    assert renewals == [server._connection]


def test_where_the_inner_functions_are_gone_the_old_buffers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_CAN_RENEW", False)
    client, server = pair()
    before = buffers(server)
    for _ in range(RENEW_AFTER_TURNS):
        assert carry(client, server, b"small") == b"small"
    assert buffers(server) == before


@pytest.mark.parametrize("seed", range(20))
def test_all_arrives_in_order_however_it_is_cut(seed: int) -> None:
    draw = random.Random(seed)
    client, server = pair()
    sent = got = b""
    under_way = b""
    for _ in range(200):
        message = draw.randbytes(draw.choice([1, 30, 1000, 16384, 40000]) if draw.random() < 0.3 else 20)
        client.write(message)
        sent += message
        under_way += pull(client)
        if draw.random() < 0.2:
            assert carry(server, client, b"meanwhile") == b"meanwhile"
        cut = draw.choice([0, 1, 4, 5, 6, len(under_way) // 2, len(under_way), len(under_way)])
        got += b"".join(server.receive(under_way[:cut]))
        under_way = under_way[cut:]
    got += b"".join(server.receive(under_way))
    assert got == sent
