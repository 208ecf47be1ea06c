"""The Hello: who stands at the other end of the channel (`proto/spec/transport.md`, "Hello").

TLS proves the ML-DSA half of the identity; the Hello proves the Ed25519 half by a signature over the TLS exporter, which exists on
this channel alone. Together they are the hybrid authentication, and neither can be carried to another channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey, verify_ed25519
from qustream.model.keys import PublicKey
from qustream.wire.hello import PROTOCOL_MAX, PROTOCOL_MIN, Hello, Role

__all__ = ["LocalHello", "Peer", "Side", "check_hello", "make_hello"]

Side = Literal["client", "server"]
_PROOF_PURPOSE = "hello"
_NO_PROOF = bytes(64)


@dataclass(frozen=True)
class LocalHello:
    """What this end says about itself."""

    chain: str
    roles: tuple[Role, ...]
    addresses: tuple[str, ...] = ()
    height: int = 0


@dataclass(frozen=True)
class Peer:
    """Who is at the other end, proven. On a Unix socket `id` and `exporter` are empty and `key` is None: the kernel vouches for
    the user id instead. `exporter`: 32 bytes known to the two ends of this channel alone."""

    id: bytes
    key: PublicKey | None
    hello: Hello
    exporter: bytes

    @property
    def version(self) -> int:
        """The protocol version both ends speak: the highest in common."""
        return min(PROTOCOL_MAX, self.hello.protocol_max)

    def __repr__(self) -> str:
        return f"<Peer {self.id.hex()[:12] or 'local'}>"


def other(side: Side) -> Side:
    """The side that faces this one."""
    return "server" if side == "client" else "client"


def make_hello(local: LocalHello, side: Side, key: SigningKey | None, exporter: bytes) -> Hello:
    """Our Hello on a channel with this exporter; without a key (Unix socket) the proof is zeros."""
    proof = _NO_PROOF if key is None else key.sign_ed25519(_PROOF_PURPOSE, side.encode() + exporter)
    return Hello(PROTOCOL_MIN, PROTOCOL_MAX, local.chain, local.roles, local.addresses, local.height, proof)


def check_hello(hello: Hello, local: LocalHello, side: Side, key: PublicKey | None, exporter: bytes) -> Peer:
    """The peer that said `hello`; `side` and `key` are the peer's. Errors: `E-SIGNATURE`, `E-PEER-VERSION`, `E-PEER-CHAIN`."""
    if not _is_proven(hello, side, key, exporter):
        raise fault("E-SIGNATURE", "the Hello does not prove the Ed25519 key of the certificate")
    trouble = _disagreement(hello, local)
    if trouble is not None:
        raise trouble
    return Peer(key.id if key is not None else b"", key, hello, exporter)


def _is_proven(hello: Hello, side: Side, key: PublicKey | None, exporter: bytes) -> bool:
    if key is None:
        return hello.proof == _NO_PROOF
    return verify_ed25519(key, _PROOF_PURPOSE, side.encode() + exporter, hello.proof)


def _disagreement(hello: Hello, local: LocalHello) -> QuStreamError | None:
    if hello.protocol_min > hello.protocol_max:
        return fault("E-WIRE-MALFORMED", "a Hello with an empty range of versions")
    if hello.protocol_min > PROTOCOL_MAX or hello.protocol_max < PROTOCOL_MIN:
        theirs = f"{hello.protocol_min} to {hello.protocol_max}"
        return fault("E-PEER-VERSION", f"the peer speaks versions {theirs}, this end {PROTOCOL_MIN} to {PROTOCOL_MAX}")
    if hello.chain != local.chain:
        return fault("E-PEER-CHAIN", f"the peer is not on the network {local.chain}")
    return None
