"""A small network: six nodes, a QRNG server, two users, one grant."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from qustream.identity.enrolment import Enrolment, certify_device, state_hpke_key
from qustream.identity.grants import GrantOffer
from qustream.identity.signing import SigningKey
from qustream.model.keys import PublicKey
from qustream.model.network import NodeClass, NodeRecord, QrngServerRecord
from qustream.registry import NetworkFileWriter

GENESIS_MS = 1_700_000_000_000
EPOCH_MS = 3 * 24 * 3600 * 1000


def key_named(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(name.encode()).digest())


def public_named(name: str) -> PublicKey:
    """A public key nobody holds: quick to make, for those who never sign."""
    return PublicKey(hashlib.sha256(name.encode()).digest(), hashlib.shake_256(name.encode()).digest(1952))


def node_named(name: str, node_class: NodeClass, *, operator: str | None = None, active: bool = True) -> NodeRecord:
    licence = hashlib.sha256(b"licence" + name.encode()).digest()[:16]
    addresses = (f"{name}.example:7400",)
    return NodeRecord(public_named(name), node_class, operator or f"operator of {name}", licence, addresses, 1000, active)


def enrolment_of(name: str, device: str = "laptop", stripe: int = 0) -> Enrolment:
    master = key_named(name)
    hpke = hashlib.shake_256(b"hpke" + name.encode()).digest(1216)
    certificate = certify_device(
        master, public_named(f"{name}'s {device}"), stripe=stripe, label=device, now_ms=GENESIS_MS, lifetime_ms=EPOCH_MS
    )
    return Enrolment(master.public, state_hpke_key(master, hpke), certificate)


def offer_named(name: str) -> GrantOffer:
    return GrantOffer(hashlib.sha256(b"root" + name.encode()).digest(), 1000, 2)


@dataclass
class Network:
    key: SigningKey
    path: Path
    writer: NetworkFileWriter
    alice: bytes
    bob: bytes


@pytest.fixture
def new_network(tmp_path: Path) -> Callable[..., Network]:
    def build(name: str = "network.toml", chain: str = "qustream-test", key: SigningKey | None = None) -> Network:
        key = key or key_named("the network")
        path = tmp_path / name
        seed = hashlib.sha256(chain.encode()).digest()
        writer = NetworkFileWriter.create(path, chain, key, genesis_ms=GENESIS_MS, epoch_length_ms=EPOCH_MS, seed=seed)
        for i in range(3):
            writer.add_node(node_named(f"f{i}", NodeClass.FOUNDATION))
            writer.add_node(node_named(f"c{i}", NodeClass.COMMUNITY))
        writer.add_qrng_server(QrngServerRecord(public_named("qrng"), "first light", True, True))
        alice, bob = writer.enrol(enrolment_of("alice"), "alice"), writer.enrol(enrolment_of("bob"), "bob")
        writer.grant(offer_named("first"), alice, lifetime_max_ms=3_600_000, epoch=0)
        writer.write()
        return Network(key, path, writer, alice, bob)

    return build


@pytest.fixture
def network(new_network: Callable[..., Network]) -> Network:
    return new_network()
