"""A network in one process for tests of the key service: real keys, a real signed network file, attested units, requests to order."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from qnode.service.pool import PooledUnit
from qustream.entropy import build_batch, leaf_hash
from qustream.identity.enrolment import Enrolment, state_hpke_key
from qustream.identity.grants import GrantOffer
from qustream.identity.hpke import HpkeKey
from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.entropy import MATERIAL_BYTES, SCATTER_BYTES, Attestation, Conditioning, DeviceDescriptor, HealthReport
from qustream.model.keys import DeviceCertificate
from qustream.model.network import Grant, NodeClass, NodeRecord, QrngServerRecord
from qustream.registry import NetworkFileRegistry, NetworkFileWriter
from qustream.rules.merkle import Tree
from qustream.rules.ruid import ruid_tree, ruids
from qustream.transport.greeting import Peer
from qustream.wire.codec import encode
from qustream.wire.hello import Hello, Role
from qustream.wire.keys import AcknowledgeBody, AlertsBody, Binding, CollectBody, DeviceRequest, KeyBody, RevokeBody

__all__ = ["CHAIN", "DAY_MS", "GENESIS_MS", "GrantKit", "Person", "Shelf", "World"]

CHAIN = "keys-test"
DAY_MS = 86_400_000
GENESIS_MS = 1_800_000_000_000
EPOCH_MS = 3 * DAY_MS
COMMUNITY_NODES = 8  # more than five ranks, so that some are not assigned


def named_key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(name.encode()).digest())


@dataclass
class Device:
    key: SigningKey
    certificate: Signed


class Person:
    """A user with two devices; `master` stays in the test."""

    def __init__(self, name: str, now_ms: int) -> None:
        self.master = named_key(f"{name}/master")
        self.id = self.master.id
        self.ruid_key = hashlib.sha256(name.encode()).digest()
        self.hpke = state_hpke_key(self.master, HpkeKey(self.ruid_key).public)
        self.phone, self.laptop = (self.device(f"{name}/{what}", stripe, now_ms) for stripe, what in enumerate(("phone", "laptop")))

    def device(self, name: str, stripe: int, now_ms: int, *, by: SigningKey | None = None) -> Device:
        """A device that nobody has enrolled yet, certified by the master or by somebody else (`by`)."""
        key = named_key(name)
        certificate = DeviceCertificate(self.id, key.public, stripe, "a device", now_ms, now_ms + 90 * DAY_MS)
        return Device(key, (by or self.master).sign_noun("device-certificate", certificate))

    def enrolment(self, device: Device) -> Enrolment:
        return Enrolment(self.master.public, self.hpke, device.certificate)


@dataclass(frozen=True)
class GrantKit:
    """A grant and what its owner needs to spend it."""

    grant: Grant
    owner: Person
    ruids: list[bytes]
    tree: Tree = field(repr=False)


class Shelf:
    """Units that are given once each."""

    def __init__(self) -> None:
        self.units: deque[PooledUnit] = deque()
        self.taken: list[PooledUnit] = []

    def take(self, now_ms: int) -> PooledUnit | None:
        if not self.units:
            return None
        self.taken.append(self.units.popleft())
        return self.taken[-1]


class World:
    """Alice and Bob enrolled with two devices each, Mallory with none; `node` is a community node; `now_ms` moves when a test moves it."""

    def __init__(self, folder: Path, now_ms: int = GENESIS_MS + EPOCH_MS + DAY_MS) -> None:
        self.now_ms = now_ms  # a day into epoch 1
        self.alice, self.bob, self.mallory = (Person(name, self.now_ms) for name in ("alice", "bob", "mallory"))
        self.authority, self.qrng = named_key("authority"), named_key("qrng")
        self.writer = NetworkFileWriter.create(
            folder / "network.toml", CHAIN, self.authority, genesis_ms=now_ms - EPOCH_MS - DAY_MS, epoch_length_ms=EPOCH_MS, seed=bytes(32)
        )
        self.nodes = [named_key(f"node {number}") for number in range(COMMUNITY_NODES)]
        for number, key in enumerate(self.nodes):
            licence = number.to_bytes(16, "big")
            record = NodeRecord(key.public, NodeClass.COMMUNITY, f"op{number}", licence, (f"127.0.0.1:{7400 + number}",), 1, True)
            self.writer.add_node(record)
        self.node = self.nodes[0]
        self.writer.add_qrng_server(QrngServerRecord(self.qrng.public, "qrng", True, True))
        for person in (self.alice, self.bob):
            for device in (person.phone, person.laptop):
                self.writer.enrol(person.enrolment(device))
        self._batches = 0
        self.alices = self.grant(self.alice, pinned=True)
        self.registry = NetworkFileRegistry(self.writer.path, self.authority.public, chain=CHAIN)
        self.publish()

    def publish(self) -> None:
        """Write the network file and let the node read it."""
        self.writer.write()
        self.registry.load(self.now_ms)

    def clock_ms(self) -> int:
        return self.now_ms

    def wait(self, ms: int) -> None:
        """Time passes; the node goes on reading its network file."""
        self.now_ms += ms
        self.registry.refresh(self.now_ms)

    def grant(
        self, owner: Person, *, count: int = 40, epoch: int = 1, lifetime_max_ms: int = 10 * DAY_MS, pinned: bool = False,
        nonce: bytes = b"",
    ) -> GrantKit:  # fmt: skip
        """`nonce`: who is assigned to which index follows from it; empty: a new one."""
        nonce = nonce or os.urandom(32)
        tree = ruid_tree(owner.ruid_key, nonce, count)
        offer = GrantOffer(tree.root, count, 2)
        licence = bytes(16) if pinned else None
        made = self.writer.grant(offer, owner.id, lifetime_max_ms=lifetime_max_ms, epoch=epoch, pinned=licence)
        return GrantKit(made, owner, list(ruids(owner.ruid_key, nonce, count)), tree)

    def shelf(self, count: int) -> Shelf:
        """`count` units of one attested batch made for `node`."""
        shelf = Shelf()
        made = [(os.urandom(MATERIAL_BYTES), os.urandom(SCATTER_BYTES)) for _ in range(count)]
        first = 1000 * self._batches
        self._batches += 1
        root, proofs = build_batch([(self.node.id, first + n, hashlib.sha256(m).digest()) for n, (m, _) in enumerate(made)])
        signed = self.qrng.sign_noun("attestation", self.attestation(root, count))
        for (material, scatter), proof in zip(made, proofs, strict=True):
            leaf = leaf_hash(self.node.id, proof.sequence, material)
            shelf.units.append(PooledUnit(material, scatter, signed, proof, leaf, self.now_ms + DAY_MS))
        return shelf

    def attestation(self, root: bytes, leaves: int) -> Attestation:
        return Attestation(
            chain=CHAIN,
            server=self.qrng.id,
            batch=self._batches,
            device=DeviceDescriptor("emulator", "urandom", "1", 8, 8000, 0, True, True, ""),
            health=HealthReport(1024, 1, 0, 5, 13, 512, (40, 60)),
            conditioning=Conditioning("cbc-mac", 32, 16, 1000),
            start_ms=self.now_ms - 1000,
            end_ms=self.now_ms,
            expires_ms=self.now_ms + DAY_MS,
            root=root,
            leaves=leaves,
        )

    # -- requests -------------------------------------------------------------------------------------------------------

    def peer(self, device: Device, channel: int = 1) -> Peer:
        """The device's end of its `channel`-th connection."""
        hello = Hello(1, 1, CHAIN, (Role.DEVICE,), (), 0, bytes(64))
        return Peer(device.key.id, device.key.public, hello, self.exporter(channel))

    def exporter(self, channel: int) -> bytes:
        return channel.to_bytes(32, "big")

    def binding(self, person: Person, device: Device, **changes: Any) -> Binding:
        binding = Binding(
            chain=CHAIN,
            node=self.node.id,
            epoch=self.registry.epoch(self.now_ms).number,
            expires_ms=self.now_ms + 60_000,
            exporter=self.exporter(1),
            user=person.id,
            certificate=device.certificate,
        )
        return replace(binding, **changes)

    def key_body(self, at: int, seed: bytes, /, *, kit: GrantKit | None = None, device: Device | None = None, **changes: Any) -> KeyBody:
        kit = kit or self.alices
        device = device or (kit.owner.phone, kit.owner.laptop)[at % 2]
        binding = {name: changes.pop(name) for name in Binding.__struct_fields__ if name in changes}
        body = KeyBody(
            binding=self.binding(kit.owner, device, **binding),
            grant=kit.grant.grant,
            index=at,
            ruid=kit.ruids[at],
            path=kit.tree.path(at),
            recipients=(self.bob.id,),
            lifetime_ms=DAY_MS,
            seed_hash=hashlib.sha256(seed).digest(),
        )
        return replace(body, **changes)

    def key(self, at: int, seed: bytes, /, *, device: Device | None = None, **changes: Any) -> bytes:
        """A signed request for index `at` of Alice's grant (or of `kit`), by the device of its stripe; `changes` come before signing."""
        device = device or (self.alice.phone, self.alice.laptop)[at % 2]
        return self.sign(self.key_body(at, seed, device=device, **changes), device, seed)

    def collect(self, person: Person, device: Device, index: int, **changes: Any) -> bytes:
        return self.sign(CollectBody(self.binding(person, device, **changes), self.alices.grant.grant, index), device)

    def acknowledge(self, person: Person, device: Device, index: int, *, collected: bool) -> bytes:
        return self.sign(AcknowledgeBody(self.binding(person, device), self.alices.grant.grant, index, collected), device)

    def revoke(self, person: Person, device: Device, index: int) -> bytes:
        return self.sign(RevokeBody(self.binding(person, device), self.alices.grant.grant, index), device)

    def alerts(self, person: Person, device: Device, since_ms: int = 0) -> bytes:
        return self.sign(AlertsBody(self.binding(person, device), since_ms), device)

    def sign(self, body: Any, device: Device, seed: bytes = b"") -> bytes:
        plain = encode(body)
        return encode(DeviceRequest(plain, device.key.sign("device-request", plain), seed))
