"""The Hello proves the Ed25519 half on this channel, in this role, for this key; or it proves nothing."""

from __future__ import annotations

import msgspec
import pytest

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.greeting import LocalHello, Peer, Side, check_hello, make_hello, other
from qustream.wire.hello import PROTOCOL_MAX, Hello, Role

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
LOCAL = LocalHello("test", (Role.NODE,), ("127.0.0.1:7400",), 12)
EXPORTER = bytes(range(32))
HELLO = make_hello(LOCAL, "client", ALICE, EXPORTER)


def code_of(hello: Hello, side: Side = "client", key: SigningKey | None = ALICE, exporter: bytes = EXPORTER) -> str:
    with pytest.raises(QuStreamError) as caught:
        check_hello(hello, LOCAL, side, key.public if key else None, exporter)
    return caught.value.code


def test_a_hello_makes_a_peer() -> None:
    peer = check_hello(HELLO, LOCAL, "client", ALICE.public, EXPORTER)
    assert peer == Peer(ALICE.id, ALICE.public, HELLO, EXPORTER)
    assert peer.version == PROTOCOL_MAX
    assert ALICE.id.hex()[:12] in repr(peer)
    assert other("client") == "server"
    assert other("server") == "client"


def test_a_hello_of_another_channel_role_or_key_proves_nothing() -> None:
    assert code_of(HELLO, exporter=bytes(32)) == "E-SIGNATURE"
    assert code_of(HELLO, side="server") == "E-SIGNATURE"
    assert code_of(HELLO, key=BOB) == "E-SIGNATURE"
    assert code_of(msgspec.structs.replace(HELLO, proof=bytes(64))) == "E-SIGNATURE"


def test_a_unix_peer_proves_nothing_and_says_so() -> None:
    hello = make_hello(LOCAL, "server", None, b"")
    assert check_hello(hello, LOCAL, "server", None, b"").id == b""
    assert code_of(HELLO, key=None) == "E-SIGNATURE"


def test_another_network_is_refused() -> None:
    assert code_of(msgspec.structs.replace(HELLO, chain="other")) == "E-PEER-CHAIN"


@pytest.mark.parametrize(("low", "high", "code"), [(2, 9, "E-PEER-VERSION"), (0, 0, "E-PEER-VERSION"), (9, 1, "E-WIRE-MALFORMED")])
def test_versions_must_overlap(low: int, high: int, code: str) -> None:
    assert code_of(msgspec.structs.replace(HELLO, protocol_min=low, protocol_max=high)) == code


def test_a_newer_peer_speaks_our_version() -> None:
    hello = msgspec.structs.replace(HELLO, protocol_max=9)
    assert check_hello(hello, LOCAL, "client", ALICE.public, EXPORTER).version == PROTOCOL_MAX
