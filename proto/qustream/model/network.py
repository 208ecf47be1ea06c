"""What the registry knows: nodes, QRNG servers, users, grants, epochs (`proto/spec/registry.md`)."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta

from qustream.model.base import U63, Bytes16, Bytes32, Bytes64, Label, Noun, Signed, Text
from qustream.model.keys import PublicKey

__all__ = ["AddressRecord", "DeviceEntry", "Epoch", "Grant", "NodeClass", "NodeRecord", "QrngServerRecord", "UserRecord"]


class NodeClass(IntEnum):
    """Who runs a node: the network's own staff, or anybody with a licence."""

    FOUNDATION = 1
    COMMUNITY = 2


Addresses = Annotated[tuple[Text, ...], Meta(max_length=8)]


class NodeRecord(Noun, frozen=True):
    """A licensed node. `operator`: the licence's owner; for a foundation licence its recorded site. Addresses are `host:port`."""

    key: PublicKey
    node_class: NodeClass
    operator: Label
    licence: Bytes16
    addresses: Addresses
    weight: Annotated[int, Meta(ge=1, le=1_000_000)]
    active: bool


class AddressRecord(Noun, frozen=True):
    """Where `node` says it is reached; signed by it with purpose `address` (`proto/spec/peers.md`, §1)."""

    chain: Label
    node: Bytes32
    issued_ms: U63
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=128)], ...], Meta(min_length=1, max_length=8)]


class QrngServerRecord(Noun, frozen=True):
    """A registered QRNG server. `emulated`: its device may say that it is an emulator (test networks only).

    `device_authorities`: makers' P-256 keys (x ‖ y); if there are any, its devices must prove that one of them certified them."""

    key: PublicKey
    name: Label
    emulated: bool
    active: bool
    device_authorities: Annotated[tuple[Bytes64, ...], Meta(max_length=4)] = ()


class DeviceEntry(Noun, frozen=True):
    """A device the registry lists for a user; a revoked one stays listed, so that its refusal can say why."""

    device: Bytes32
    revoked: bool


class UserRecord(Noun, frozen=True):
    """A user: master key, the HPKE key it signed (`HpkeKeyStatement`), its devices."""

    master: PublicKey
    hpke: Signed
    devices: Annotated[tuple[DeviceEntry, ...], Meta(max_length=256)]


class Grant(Noun, frozen=True):
    """N bought requests.

    `root`: RFC 6962 root over rUID_0 … rUID_(count-1); `stripes`: number of devices sharing the indices; `epoch`: at whose
    boundary the assignment of nodes is frozen; `pinned`: a licence that is always rank 1 of its class.
    """

    grant: Bytes32
    owner: Bytes32
    root: Bytes32
    count: Annotated[int, Meta(ge=1, le=1 << 20)]
    stripes: Annotated[int, Meta(ge=1, le=256)]
    epoch: U63
    lifetime_max_ms: U63
    pinned: Bytes16 | None


class Epoch(Noun, frozen=True):
    """An epoch: its number, the time of its first instant (Unix ms), its seed, its length."""

    number: U63
    boundary_ms: U63
    seed: Bytes32
    length_ms: U63
