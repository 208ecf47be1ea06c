"""Pad mode: at most 192 KiB under a one-time pad out of six blocks (`proto/spec/envelope.md`, "Pad mode")."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import BinaryIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.poly1305 import Poly1305

from qustream.envelope.content import ContentKey
from qustream.envelope.header import PAD_MAX_BYTES, PAD_SPARE_BYTES, Header, read_exactly
from qustream.envelope.keys import wipe
from qustream.envelope.sender import HeldBlock, Order, Recipients, Sender, make_secrets, write_header
from qustream.envelope.trailer import TRAILER_BYTES, check_trailer, make_trailer
from qustream.errors import fault
from qustream.sharing import add

__all__ = ["PAD_MAX_BYTES", "open_pad", "seal_pad"]

MAC_KEY_BYTES = 32  # RFC 8439
MAC_BYTES = 16  # RFC 8439


def seal_pad(
    blocks: Sequence[HeldBlock],
    plaintext: bytes | bytearray,
    *,
    sender: Sender,
    recipients: Recipients,
    chain: str,
    created_ms: int,
    expires_ms: int,
) -> bytes:
    """Return a whole envelope in pad mode, at most 852 KB. Every buffer of share, pad and block is overwritten before it is returned.

    Recipients are fixed: there is no way to add one later. The blocks are spent even if this fails, so another try takes new ones.
    Errors: `E-PAD-SIZE`, and those of `make_header`.
    """
    if len(plaintext) > PAD_MAX_BYTES:
        raise fault("E-PAD-SIZE", f"{len(plaintext)} bytes, where pad mode takes at most {PAD_MAX_BYTES}")
    order = Order.checked(blocks, sender=sender, recipients=recipients, chain=chain, created_ms=created_ms, expires_ms=expires_ms)
    secrets, corrections = make_secrets(order, len(plaintext))
    try:
        raw, key = write_header(order, secrets, corrections, pad_bytes=len(plaintext))
    finally:
        wipe(secrets.client)
    ciphertext = _mask(plaintext, key)
    content = ciphertext + _mac(key, raw, ciphertext).finalize()
    trailer = make_trailer(sender[1], key.header_hash, hashlib.sha256(content).digest())
    key.wipe()
    return raw + content + trailer


def open_pad(source: BinaryIO, header: Header, key: ContentKey) -> bytes:
    """Return the plaintext of the content that follows `header` in `source`; the pad is wiped.

    Errors: `E-ENVELOPE-TRUNCATED`, `E-ENVELOPE-FORMAT` (bytes after the end), `E-ENVELOPE-TAMPERED`, `E-ENVELOPE-SENDER`.
    """
    size_bytes = len(key.secret) - PAD_SPARE_BYTES
    content = read_exactly(source, size_bytes + MAC_BYTES)
    trailer = read_exactly(source, TRAILER_BYTES)
    if len(trailer) < TRAILER_BYTES:
        raise fault("E-ENVELOPE-TRUNCATED", "the envelope ends inside its content")
    if source.read(1):
        raise fault("E-ENVELOPE-FORMAT", "there are bytes after the end of the envelope")
    ciphertext = content[:size_bytes]
    try:
        _mac(key, header.raw, ciphertext).verify(content[size_bytes:])
    except InvalidSignature:
        raise fault("E-ENVELOPE-TAMPERED", "the content was changed") from None
    check_trailer(trailer, header, hashlib.sha256(content).digest())
    plaintext = _mask(ciphertext, key)
    key.wipe()
    return plaintext


def _mask(data: bytes | bytearray, key: ContentKey) -> bytes:
    pad = key.secret[PAD_SPARE_BYTES:]
    try:
        return add(data, pad)
    finally:
        wipe(pad)


def _mac(key: ContentKey, raw: bytes, ciphertext: bytes) -> Poly1305:
    """Poly1305 (RFC 8439 §2.5) over every byte before the MAC, under the pad's first 32 bytes, which never mask anything."""
    mac = Poly1305(key.secret[:MAC_KEY_BYTES])
    mac.update(raw)
    mac.update(ciphertext)
    return mac
