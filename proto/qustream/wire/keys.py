"""Key requests, collection, revocation, alerts (`proto/spec/keys.md`). Tags 20-39.

A device's request is `DeviceRequest`: the canonical bytes of one of the bodies below, the device's hybrid signature over them
(purpose `qustream/1/device-request`), and, for a `KeyBody` alone, the block seed, which the signature covers by its hash.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from qustream.block.layout import BLOCK_BYTES
from qustream.block.layout import SEED_BYTES as BLOCK_SEED_BYTES
from qustream.model.base import U63, Bytes32, Count32, HybridSignature, Label, Noun, Path, Signed
from qustream.model.entropy import LeafProof
from qustream.wire.codec import Message

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_SEED_BYTES",
    "REQUEST_MAX_BYTES",
    "AcknowledgeBody",
    "Acknowledged",
    "Alert",
    "AlertsAnswer",
    "AlertsBody",
    "Binding",
    "CollectBody",
    "DeviceRequest",
    "Erasure",
    "KeyAnswer",
    "KeyBody",
    "Receipt",
    "RequestBody",
    "RevokeAnswer",
    "RevokeBody",
]

# Certificate ~5.6 KB, signature 3.4 KB, 64 recipients 2.2 KB, path 1.1 KB.
REQUEST_MAX_BYTES = 32_768

Recipients = Annotated[tuple[Bytes32, ...], Meta(max_length=64)]


class Binding(Noun, frozen=True):
    """What ties a request to one network, node, channel and moment, and to the device that signs it.

    `exporter`: 32 bytes, TLS exporter label `EXPORTER-qustream-1`; `certificate`: the device's, signed by the user's master."""

    chain: Label
    node: Bytes32
    epoch: U63
    expires_ms: U63
    exporter: Bytes32
    user: Bytes32
    certificate: Signed


class KeyBody(Message, frozen=True, tag=20):
    """Asks for index `index` of `grant`. `ruid`, `path`: the rotating identifier and its Merkle path to the grant's root;
    `seed_hash`: SHA-256 of the block seed; `recipients`: users who may collect the block; `lifetime_ms`: how long it is held."""

    binding: Binding
    grant: Bytes32
    index: Count32
    ruid: Bytes32
    path: Path
    recipients: Recipients
    lifetime_ms: U63
    seed_hash: Bytes32


class CollectBody(Message, frozen=True, tag=21):
    """A recipient asks for a held block."""

    binding: Binding
    grant: Bytes32
    index: Count32


class AcknowledgeBody(Message, frozen=True, tag=22):
    """The asker (`collected` false) or a recipient (true) has its copy safe; the node need not hand it out to him again."""

    binding: Binding
    grant: Bytes32
    index: Count32
    collected: bool


class RevokeBody(Message, frozen=True, tag=23):
    """The asker of a block wants it erased at once."""

    binding: Binding
    grant: Bytes32
    index: Count32


class AlertsBody(Message, frozen=True, tag=24):
    """A device asks what this node has noticed about its user since `since_ms` (exclusive)."""

    binding: Binding
    since_ms: U63


RequestBody = KeyBody | CollectBody | AcknowledgeBody | RevokeBody | AlertsBody


class DeviceRequest(Message, frozen=True, tag=25):
    """A signed request. `seed`: the block seed (126 bytes) with a `KeyBody`, empty with all others."""

    body: Annotated[bytes, Meta(max_length=REQUEST_MAX_BYTES)]
    signature: HybridSignature
    seed: Annotated[bytes, Meta(max_length=BLOCK_SEED_BYTES)]


class Receipt(Noun, frozen=True):
    """A node's statement of what it handed out; travels as `Signed`, purpose `qustream/1/receipt`.

    `block_hash`: SHA-256(R' ‖ salt); `leaf`: RFC 6962 leaf hash of the unit; times in Unix ms."""

    chain: Label
    node: Bytes32
    grant: Bytes32
    index: Count32
    seed_hash: Bytes32
    block_hash: Bytes32
    leaf: Bytes32
    issued_ms: U63
    expires_ms: U63


class KeyAnswer(Message, frozen=True, tag=30):
    """The block and what proves it: the answer to a `KeyBody` and to a `CollectBody`, the same bytes every time."""

    block: Annotated[bytes, Meta(min_length=BLOCK_BYTES, max_length=BLOCK_BYTES)]
    salt: Bytes32
    attestation: Signed
    proof: LeafProof
    receipt: Signed


class Acknowledged(Message, frozen=True, tag=31):
    """The answer to an `AcknowledgeBody`. `erased`: nobody is left to collect, the block is gone."""

    erased: bool


class Erasure(Noun, frozen=True):
    """A node's statement that a block's seal key is overwritten; travels as `Signed`, purpose `qustream/1/erasure`."""

    chain: Label
    node: Bytes32
    grant: Bytes32
    index: Count32
    erased_ms: U63


class RevokeAnswer(Message, frozen=True, tag=32):
    """The answer to a `RevokeBody`; the same receipt every time."""

    erasure: Signed


class Alert(Noun, frozen=True):
    """Something a user should know: `code` of the refusal, id of the unknown or revoked device, when (Unix ms), how often."""

    code: Label
    device: Bytes32
    at_ms: U63
    times: Count32


class AlertsAnswer(Message, frozen=True, tag=33):
    """The newest alerts, oldest first."""

    alerts: Annotated[tuple[Alert, ...], Meta(max_length=64)]


KeysAnswer = KeyAnswer | Acknowledged | RevokeAnswer | AlertsAnswer
