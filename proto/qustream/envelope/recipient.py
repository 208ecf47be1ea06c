"""Opening a header: who sent it, the secrets sealed to one recipient, the content key (`proto/spec/envelope.md`, "Opening")."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product

from qustream.envelope.content import ClassSecrets, ContentKey, derive, share_of
from qustream.envelope.header import CLASSES, CLIENT_SECRET_BYTES, HEADER_PURPOSE, BlockReference, Header, seal_info
from qustream.envelope.keys import wipe
from qustream.errors import QuStreamError, fault
from qustream.identity.hpke import HpkeKey
from qustream.identity.signing import open_signed, verify
from qustream.model.keys import DeviceCertificate, PublicKey
from qustream.model.network import NodeClass
from qustream.sharing import POINTS, THRESHOLD, fits, secret
from qustream.wire.keys import BLOCK_SEED_BYTES

__all__ = ["Blocks", "ClientSecrets", "VerifiedSender", "content_key", "unseal", "verify_sender"]

# How far the sender's clock may be ahead of ours.
CLOCK_SKEW_MS = 300_000

Blocks = Mapping[bytes, tuple[bytes | bytearray, bytes]]  # node id -> (material, salt)


@dataclass(frozen=True, slots=True)
class VerifiedSender:
    """Who signed. Whether the device was revoked since is the registry's word: look `device` up there."""

    user: bytes
    device: bytes
    label: str


@dataclass(frozen=True, slots=True, repr=False)
class ClientSecrets:
    """What was sealed to one recipient: the client secret (32 bytes) and the seed of each node's block (126 bytes)."""

    client_secret: bytearray
    seeds: Mapping[bytes, bytes]

    def wipe(self) -> None:
        """Overwrite the client secret; the seeds are immutable and are left to the interpreter."""
        wipe(self.client_secret)

    def __repr__(self) -> str:
        return "<ClientSecrets>"


def verify_sender(header: Header, master: PublicKey, at_ms: int) -> VerifiedSender:
    """Check that a device of the user with this master key signed the header. `at_ms`: now, Unix ms.

    The certificate must have been valid when the envelope says it was made, and that must not be in the future. `E-ENVELOPE-SENDER` if not.
    """
    core, certificate = header.core, header.certificate
    if master.id != core.sender:
        raise fault("E-ENVELOPE-SENDER", "the master key is not the one of the sender the envelope names")
    if not verify(certificate.device_key, HEADER_PURPOSE, header.body, header.signature):
        raise fault("E-ENVELOPE-SENDER", "the signature on the header does not hold")
    try:
        open_signed(core.certificate, DeviceCertificate, master, "device-certificate")
    except QuStreamError:
        raise fault("E-ENVELOPE-SENDER", "the sender's master key did not sign this device's certificate") from None
    if certificate.user != core.sender:
        raise fault("E-ENVELOPE-SENDER", "the device certificate was made for another user")
    if not certificate.issued_ms <= core.created_ms < certificate.expires_ms:
        raise fault("E-ENVELOPE-SENDER", "the device's certificate was not valid when the envelope was made")
    if core.created_ms > at_ms + CLOCK_SKEW_MS:
        raise fault("E-ENVELOPE-SENDER", "the envelope says that it was made in the future; check the clocks")
    return VerifiedSender(core.sender, certificate.device_key.id, certificate.label)


def unseal(header: Header, user: bytes, hpke: HpkeKey) -> ClientSecrets:
    """Open the seal made for `user`. Errors: `E-NOT-RECIPIENT` if he is not named, `E-ENVELOPE-TAMPERED` if his seal does not open."""
    if user not in header.core.recipients:
        raise fault("E-NOT-RECIPIENT", "the envelope does not name this user as a recipient")
    sealed = header.seals[header.core.recipients.index(user)]
    try:
        plain = hpke.open(sealed, seal_info(header.core_hash, user))
    except QuStreamError:
        raise fault("E-ENVELOPE-TAMPERED", "the seal for this recipient does not open with the recipient's key") from None
    starts = range(CLIENT_SECRET_BYTES, len(plain), BLOCK_SEED_BYTES)
    seeds = {block.node: plain[at : at + BLOCK_SEED_BYTES] for block, at in zip(header.core.blocks, starts, strict=True)}
    return ClientSecrets(bytearray(plain[:CLIENT_SECRET_BYTES]), seeds)


def content_key(header: Header, client_secret: bytes | bytearray, blocks: Blocks) -> ContentKey:
    """Rebuild the content key, or in pad mode the pad, from two or three opened blocks of each class; check it by the commitment.

    With three blocks of a class that disagree every pair is tried; the odd one out is named in `ContentKey.inconsistent`.
    The caller has compared SHA-256(R' ‖ salt) with each `block_hash` before. Errors: `E-CLASS-SHORT` naming the class,
    `E-CLASS-MIX` (a block of a node the header does not name), `E-ENVELOPE-TAMPERED` if no choice of blocks fits.
    """
    if not set(blocks) <= {block.node for block in header.core.blocks}:
        raise fault("E-CLASS-MIX", "there is a block of a node that the envelope does not name")
    for node_class in CLASSES:
        have = sum(block.node in blocks for block in header.blocks_of(node_class))
        if have < THRESHOLD:
            name = node_class.name.lower()
            raise fault("E-CLASS-SHORT", f"{have} of the {name} blocks could be had, {THRESHOLD} are needed")
    choices = [list(_candidates(header, node_class, blocks)) for node_class in CLASSES]
    for (foundation, odd_f), (community, odd_c) in product(*choices):
        secrets = ClassSecrets(bytearray(client_secret), foundation, community)
        key, commitment = derive(secrets, header.core_hash, pad_bytes=header.pad_bytes)
        wipe(secrets.client)
        if hmac.compare_digest(commitment, header.commitment):
            return ContentKey(key, header.hash, tuple(node for node in (odd_f, odd_c) if node is not None))
        wipe(key)
    raise fault("E-ENVELOPE-TAMPERED", "these blocks do not give the key the envelope commits to; try other nodes' blocks")


def _candidates(header: Header, node_class: NodeClass, blocks: Blocks) -> Iterator[tuple[bytes, bytes | None]]:
    """Each secret the blocks of a class give, and which node then is left out because it disagrees."""
    references = dict(zip(POINTS, header.blocks_of(node_class), strict=True))
    shares = {point: _share(header, block, blocks) for point, block in references.items() if block.node in blocks}
    moved = header.corrections[CLASSES.index(node_class)]
    if len(shares) == THRESHOLD or fits(shares, moved):
        yield secret(dict(list(shares.items())[:THRESHOLD]), moved), None
    else:
        for pair in combinations(POINTS, THRESHOLD):
            (odd,) = set(POINTS) - set(pair)
            yield secret({point: shares[point] for point in pair}, moved), references[odd].node
    wipe(*shares.values())


def _share(header: Header, block: BlockReference, blocks: Blocks) -> bytearray:
    material, salt = blocks[block.node]
    core = header.core
    return share_of(material, salt, node=block.node, grant=core.grant, index=core.index, pad_bytes=header.pad_bytes)
