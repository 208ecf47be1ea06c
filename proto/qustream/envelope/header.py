"""The front of an envelope: its nouns, and reading it from hostile bytes (`proto/spec/envelope.md`, "Layout", "Header")."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, BinaryIO, TypeVar

from msgspec import Meta

from qustream.errors import QuStreamError, fault
from qustream.identity.hpke import HPKE_OVERHEAD_BYTES
from qustream.identity.signing import purpose_text
from qustream.model.base import U63, Bytes32, Bytes64, Count32, HybridSignature, Label, Noun, Signed
from qustream.model.keys import DeviceCertificate
from qustream.model.network import NodeClass
from qustream.rules.assignment import PER_CLASS
from qustream.wire.codec import Message, decode
from qustream.wire.keys import BLOCK_SEED_BYTES

__all__ = [
    "BLOCKS",
    "CLASSES",
    "CLIENT_SECRET_BYTES",
    "HEADER_MAX_BYTES",
    "HEADER_PURPOSE",
    "MAGIC",
    "PAD_MAX_BYTES",
    "PAD_SPARE_BYTES",
    "RECIPIENTS_MAX",
    "VERSION",
    "BlockReference",
    "EnvelopeCore",
    "EnvelopeHeader",
    "Header",
    "HeaderBody",
    "PadContent",
    "StreamContent",
    "check_blocks",
    "preamble",
    "read_exactly",
    "read_header",
    "seal_info",
]

_T = TypeVar("_T", bound=Noun)

MAGIC = b"QUSTREAM"
HEADER_PURPOSE = "envelope-header"
VERSION = 1
PREAMBLE_BYTES = len(MAGIC) + 2 + 4
CLASSES = (NodeClass.FOUNDATION, NodeClass.COMMUNITY)
BLOCKS = PER_CLASS * len(CLASSES)
# What a node names in a key request: 64 seals of 1.9 KB are most of a header.
RECIPIENTS_MAX = 64
CLIENT_SECRET_BYTES = 32
SECRETS_BYTES = CLIENT_SECRET_BYTES + BLOCKS * BLOCK_SEED_BYTES
SEAL_BYTES = SECRETS_BYTES + HPKE_OVERHEAD_BYTES
# 64 seals are 123 KB, a core at most 24, the signature 3.4: 151 KB. The rest is room for a larger KEM.
HEADER_MAX_BYTES = 262_144
CORE_MAX_BYTES = 24_576
# Three quarters of R: what stays unused keeps the pad close to uniform although hashes of the whole block are public.
PAD_MAX_BYTES = 196_608
# Before the pad proper: 32 bytes of Poly1305 key and 64 that hide the pad inside the commitment. Never used as pad.
PAD_SPARE_BYTES = 96


class BlockReference(Noun, frozen=True):
    """One of the six blocks behind an envelope. `block_hash`: SHA-256(R' ‖ salt), as in the node's receipt."""

    node: Bytes32
    node_class: NodeClass
    block_hash: Bytes32


class StreamContent(Message, frozen=True, tag=60):
    """Suite 1: secretstream. The two classes' corrections of share 3."""

    foundation_correction: Bytes64
    community_correction: Bytes64


class PadContent(Message, frozen=True, tag=61):
    """Suite 2: one-time pad of `size_bytes`. The corrections, 96 + size bytes a class, foundation first, stand after the header;
    `corrections_hash` is SHA-256 over both."""

    size_bytes: Annotated[int, Meta(ge=0, le=PAD_MAX_BYTES)]
    corrections_hash: Bytes32


class EnvelopeCore(Noun, frozen=True):
    """Everything the content key is bound to.

    `blocks`: foundation first, in each class in the order of the shares 1, 2, 3; all six are index `index` of `grant`.
    `certificate`: of the device that signs, by the sender's master key. `expires_ms`: when the nodes erase the blocks (Unix ms).
    """

    chain: Label
    sender: Bytes32
    certificate: Signed
    recipients: Annotated[tuple[Bytes32, ...], Meta(max_length=RECIPIENTS_MAX)]
    grant: Bytes32
    index: Count32
    blocks: Annotated[tuple[BlockReference, ...], Meta(max_length=16)]
    content: StreamContent | PadContent
    created_ms: U63
    expires_ms: U63


class HeaderBody(Noun, frozen=True):
    """What the sender's device signs. `core`: canonical bytes of an `EnvelopeCore`; `commitment` to the content key (to the pad);
    `seals`: one a recipient, in the order of `recipients`."""

    core: Annotated[bytes, Meta(max_length=CORE_MAX_BYTES)]
    commitment: Bytes32
    seals: Annotated[tuple[Annotated[bytes, Meta(min_length=SEAL_BYTES, max_length=SEAL_BYTES)], ...], Meta(max_length=RECIPIENTS_MAX)]


class EnvelopeHeader(Noun, frozen=True):
    """Canonical bytes of a `HeaderBody` and the device's signature over them, purpose `qustream/1/envelope-header`."""

    body: Annotated[bytes, Meta(max_length=HEADER_MAX_BYTES)]
    signature: HybridSignature


@dataclass(frozen=True, slots=True, repr=False)
class Header:
    """A header that stood all structural checks. Nothing in it is proven before `verify_sender`.

    `raw`: every byte of the envelope before its content (preamble, header, in pad mode the corrections);
    `hash`: SHA-256 of `raw`; `core_hash`: SHA-256 of the core; `body`, `signature`: what the device signed, and how;
    `certificate`: the device's, decoded but not verified; `corrections`: by class, in the order of `CLASSES`.
    """

    raw: bytes
    hash: bytes
    core: EnvelopeCore
    core_hash: bytes
    commitment: bytes
    seals: tuple[bytes, ...]
    body: bytes
    signature: bytes
    certificate: DeviceCertificate
    corrections: tuple[bytes, bytes]

    @property
    def pad_bytes(self) -> int | None:
        """The size of the content in pad mode, else None."""
        content = self.core.content
        return content.size_bytes if isinstance(content, PadContent) else None

    def blocks_of(self, node_class: NodeClass) -> tuple[BlockReference, ...]:
        """The three blocks of a class, in the order of their shares."""
        return tuple(block for block in self.core.blocks if block.node_class == node_class)

    def __repr__(self) -> str:
        return f"<Header {self.hash.hex()[:12]} to {len(self.core.recipients)}>"


def preamble(header: bytes) -> bytes:
    """Magic, version and length: the 14 bytes before `header`."""
    return MAGIC + VERSION.to_bytes(2, "big") + len(header).to_bytes(4, "big")


def seal_info(core_hash: bytes, user: bytes) -> bytes:
    """The HPKE info that binds a seal to its envelope and its recipient."""
    return purpose_text("envelope-seal") + core_hash + user


def read_exactly(stream: BinaryIO, size_bytes: int) -> bytes:
    """Read `size_bytes` bytes, fewer only at the end of the stream; copes with the short reads of pipes and raw files."""
    data = stream.read(size_bytes)
    if len(data) == size_bytes or not data:
        return data
    parts, missing = [data], size_bytes - len(data)
    while missing and (data := stream.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _need(stream: BinaryIO, size_bytes: int, what: str) -> bytes:
    data = read_exactly(stream, size_bytes)
    if len(data) < size_bytes:
        raise fault("E-ENVELOPE-TRUNCATED", f"the envelope ends inside its {what}")
    return data


def _read_raw(stream: BinaryIO) -> tuple[bytes, bytes]:
    """Preamble and header, within bounds."""
    start = read_exactly(stream, PREAMBLE_BYTES)
    if not MAGIC.startswith(start[: len(MAGIC)]):
        raise fault("E-ENVELOPE-FORMAT", "this file does not begin like a QuStream envelope")
    if len(start) < PREAMBLE_BYTES:
        raise fault("E-ENVELOPE-TRUNCATED", "the envelope ends inside its first 14 bytes")
    version, length = int.from_bytes(start[8:10], "big"), int.from_bytes(start[10:14], "big")
    if version != VERSION:
        raise fault("E-ENVELOPE-FORMAT", f"the envelope has version {version}, this program reads version {VERSION}")
    if not 0 < length <= HEADER_MAX_BYTES:
        raise fault("E-ENVELOPE-FORMAT", f"a header of {length} bytes, where 1 to {HEADER_MAX_BYTES} may stand")
    return start, _need(stream, length, "header")


def _decode(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        return decode(data, kind, max_bytes=HEADER_MAX_BYTES)
    except QuStreamError as error:
        raise fault("E-ENVELOPE-FORMAT", f"the {what} of the envelope is malformed: {error.detail}") from None


def check_blocks(blocks: Sequence[BlockReference]) -> None:
    """Three blocks of each class, foundation first, by six different nodes. Errors: `E-CLASS-MIX`."""
    counts = {node_class: sum(block.node_class == node_class for block in blocks) for node_class in CLASSES}
    if any(count != PER_CLASS for count in counts.values()):
        have = " and ".join(f"{count} {node_class.name.lower()}" for node_class, count in counts.items())
        raise fault("E-CLASS-MIX", f"the envelope names {have} blocks, where {PER_CLASS} of each class must stand")
    if len({block.node for block in blocks}) != BLOCKS:
        raise fault("E-CLASS-MIX", "the envelope names the same node twice")
    if [block.node_class for block in blocks] != sorted(block.node_class for block in blocks):
        raise fault("E-CLASS-MIX", "the foundation blocks must stand before the community blocks")


def _check_core(core: EnvelopeCore, seals: tuple[bytes, ...]) -> None:
    check_blocks(core.blocks)
    if not core.recipients or len(set(core.recipients)) != len(core.recipients):
        raise fault("E-ENVELOPE-FORMAT", "an envelope names at least one recipient, each once")
    if len(seals) != len(core.recipients):
        raise fault("E-ENVELOPE-FORMAT", f"{len(seals)} seals for {len(core.recipients)} recipients")
    if core.expires_ms <= core.created_ms:
        raise fault("E-ENVELOPE-FORMAT", "the envelope expires before it is made")


def _corrections(stream: BinaryIO, content: StreamContent | PadContent) -> tuple[bytes, bytes, bytes]:
    """Both corrections, and the bytes that stood after the header."""
    if isinstance(content, StreamContent):
        return content.foundation_correction, content.community_correction, b""
    size = PAD_SPARE_BYTES + content.size_bytes
    section = _need(stream, 2 * size, "corrections")
    if hashlib.sha256(section).digest() != content.corrections_hash:
        raise fault("E-ENVELOPE-TAMPERED", "the corrections are not the ones the header names")
    return section[:size], section[size:], section


def read_header(stream: BinaryIO) -> Header:
    """Read and check everything before the content; `stream` then stands at the content.

    Reads at most 14 bytes + 256 KiB, in pad mode 385 KiB more. All checks are structural: who sent it is for `verify_sender`.
    Errors: `E-ENVELOPE-FORMAT`, `E-ENVELOPE-TRUNCATED`, `E-CLASS-MIX`, `E-ENVELOPE-TAMPERED` (pad mode's corrections).
    """
    start, data = _read_raw(stream)
    outer = _decode(data, EnvelopeHeader, "header")
    body = _decode(outer.body, HeaderBody, "header")
    core = _decode(body.core, EnvelopeCore, "core")
    certificate = _decode(core.certificate.body, DeviceCertificate, "device certificate")
    _check_core(core, body.seals)
    foundation, community, section = _corrections(stream, core.content)
    raw = start + data + section
    return Header(
        raw=raw,
        hash=hashlib.sha256(raw).digest(),
        core=core,
        core_hash=hashlib.sha256(body.core).digest(),
        commitment=body.commitment,
        seals=body.seals,
        body=outer.body,
        signature=outer.signature,
        certificate=certificate,
        corrections=(foundation, community),
    )
