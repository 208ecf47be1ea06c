"""Making a header: six blocks become a content key, sealed to the recipients and signed (`proto/spec/envelope.md`)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from qustream.envelope.content import ClassSecrets, ContentKey, derive, share_of
from qustream.envelope.header import (
    CLASSES,
    CLIENT_SECRET_BYTES,
    HEADER_PURPOSE,
    RECIPIENTS_MAX,
    BlockReference,
    EnvelopeCore,
    EnvelopeHeader,
    HeaderBody,
    PadContent,
    StreamContent,
    check_blocks,
    preamble,
    seal_info,
)
from qustream.envelope.keys import wipe
from qustream.errors import fault
from qustream.identity.hpke import hpke_seal
from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.network import NodeClass
from qustream.sharing import correction, secret
from qustream.wire.codec import encode
from qustream.wire.keys import BLOCK_SEED_BYTES

__all__ = ["HeldBlock", "Recipients", "Sender", "make_header"]

Sender = tuple[bytes, SigningKey, Signed]  # user id, device key, device certificate by the user's master
Recipients = Sequence[tuple[bytes, bytes]]  # user id, HPKE public key


@dataclass(slots=True, kw_only=True, repr=False)
class HeldBlock:
    """A block the sender has from a node and has opened; good for one envelope.

    `material`: R ‖ kGen; give a `bytearray` and it is overwritten when the envelope is made. `block_hash`: SHA-256(R' ‖ salt);
    `seed`: the 126 bytes the block was built with.
    """

    node: bytes
    node_class: NodeClass
    material: bytes | bytearray
    salt: bytes
    block_hash: bytes
    seed: bytes
    grant: bytes
    index: int

    @property
    def spent(self) -> bool:
        """Whether an envelope was made of it."""
        return not self.material

    def share(self, pad_bytes: int | None) -> bytearray:
        """This block's share of its class secret, for content of the given mode."""
        return share_of(self.material, self.salt, node=self.node, grant=self.grant, index=self.index, pad_bytes=pad_bytes)

    def spend(self) -> None:
        """Drop the material, overwriting it where that is possible."""
        if isinstance(self.material, bytearray):
            wipe(self.material)
        self.material = b""

    def __repr__(self) -> str:
        return f"<HeldBlock of {self.node.hex()[:12]}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Order:
    """What an envelope is made from, checked. `blocks`: foundation first, in the order of their shares."""

    blocks: tuple[HeldBlock, ...]
    sender: Sender
    recipients: Recipients
    chain: str
    created_ms: int
    expires_ms: int

    @classmethod
    def checked(
        cls,
        blocks: Sequence[HeldBlock],
        *,
        sender: Sender,
        recipients: Recipients,
        chain: str,
        created_ms: int,
        expires_ms: int,
    ) -> Order:
        """Errors: `E-CLASS-MIX`, `E-GRANT-SPENT` (a block used before), `E-REQUEST-INVALID` (recipients, times)."""
        ordered = tuple(block for node_class in CLASSES for block in blocks if block.node_class == node_class)
        check_blocks([_reference(block) for block in ordered])
        if len({(block.grant, block.index) for block in ordered}) != 1:
            raise fault("E-CLASS-MIX", "the six blocks are not all of one index of one grant")
        if any(block.spent for block in ordered):
            raise fault("E-GRANT-SPENT", "an envelope was made of these blocks already; every envelope takes new ones")
        if any(len(block.seed) != BLOCK_SEED_BYTES for block in ordered):
            raise ValueError(f"a block seed is {BLOCK_SEED_BYTES} bytes")
        if not 1 <= len(recipients) <= RECIPIENTS_MAX or len({user for user, _ in recipients}) != len(recipients):
            raise fault("E-REQUEST-INVALID", f"an envelope has 1 to {RECIPIENTS_MAX} recipients, each named once")
        if expires_ms <= created_ms:
            raise fault("E-REQUEST-INVALID", "the envelope would expire before it is made")
        return cls(
            blocks=ordered,
            sender=sender,
            recipients=recipients,
            chain=chain,
            created_ms=created_ms,
            expires_ms=expires_ms,
        )


def _reference(block: HeldBlock) -> BlockReference:
    return BlockReference(node=block.node, node_class=block.node_class, block_hash=block.block_hash)


def make_secrets(order: Order, pad_bytes: int | None) -> tuple[ClassSecrets, tuple[bytes, bytes]]:
    """Draw a client secret and turn the blocks into class secrets and corrections; the blocks are spent."""
    secrets, corrections = [], []
    for node_class in CLASSES:
        shares = []
        for block in (block for block in order.blocks if block.node_class == node_class):
            shares.append(block.share(pad_bytes))
            block.spend()
        moved = correction(*shares)
        secrets.append(secret({1: shares[0], 2: shares[1]}, moved))
        corrections.append(moved)
        wipe(*shares)
    client = bytearray(os.urandom(CLIENT_SECRET_BYTES))
    return ClassSecrets(client, secrets[0], secrets[1]), (corrections[0], corrections[1])


def write_header(
    order: Order, secrets: ClassSecrets, corrections: tuple[bytes, bytes], *, pad_bytes: int | None
) -> tuple[bytes, ContentKey]:
    """Return every byte before the content, and the content key."""
    section = b"" if pad_bytes is None else b"".join(corrections)
    content = StreamContent(*corrections) if pad_bytes is None else PadContent(pad_bytes, hashlib.sha256(section).digest())
    core = encode(_core(order, content))
    core_hash = hashlib.sha256(core).digest()
    key, commitment = derive(secrets, core_hash, pad_bytes=pad_bytes)
    body = encode(HeaderBody(core, commitment, _seal(order, secrets.client, core_hash)))
    _, device, _ = order.sender
    header = encode(EnvelopeHeader(body, device.sign(HEADER_PURPOSE, body)))
    raw = preamble(header) + header + section
    return raw, ContentKey(key, hashlib.sha256(raw).digest())


def _core(order: Order, content: StreamContent | PadContent) -> EnvelopeCore:
    user, _, certificate = order.sender
    return EnvelopeCore(
        chain=order.chain,
        sender=user,
        certificate=certificate,
        recipients=tuple(recipient for recipient, _ in order.recipients),
        grant=order.blocks[0].grant,
        index=order.blocks[0].index,
        blocks=tuple(_reference(block) for block in order.blocks),
        content=content,
        created_ms=order.created_ms,
        expires_ms=order.expires_ms,
    )


def _seal(order: Order, client_secret: bytes | bytearray, core_hash: bytes) -> tuple[bytes, ...]:
    """Client secret ‖ six seeds, once for each recipient."""
    plain = bytes(client_secret) + b"".join(block.seed for block in order.blocks)
    return tuple(hpke_seal(public, plain, seal_info(core_hash, user)) for user, public in order.recipients)


def make_header(
    blocks: Sequence[HeldBlock],
    *,
    sender: Sender,
    recipients: Recipients,
    chain: str,
    created_ms: int,
    expires_ms: int,
) -> tuple[bytes, ContentKey]:
    """Turn six blocks into the front of an envelope and its content key; the blocks are spent, whatever happens after.

    The class secrets are 2-of-3 in the order of `blocks` within each class. Nobody checks here that user, certificate and device
    key belong together: `verify_sender` refuses the envelope if they do not. Errors: `E-CLASS-MIX`, `E-GRANT-SPENT`,
    `E-REQUEST-INVALID`, `E-WIRE-MALFORMED` (a recipient's key).
    """
    order = Order.checked(blocks, sender=sender, recipients=recipients, chain=chain, created_ms=created_ms, expires_ms=expires_ms)
    secrets, corrections = make_secrets(order, None)
    try:
        return write_header(order, secrets, corrections, pad_bytes=None)
    finally:
        wipe(secrets.client)
