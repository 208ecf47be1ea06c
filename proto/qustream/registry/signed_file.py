"""The signed envelope of a network file: authenticated before anything in it is parsed (`proto/spec/registry.md`, "Signature").

The last two lines are comments of fixed length: the network's public key, and its signature over every byte before that line.
"""

from __future__ import annotations

import base64
import binascii
import re

from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey, verify
from qustream.model.keys import PublicKey
from qustream.registry.rows import key_from_text, key_text

__all__ = ["FILE_MAX_BYTES", "PURPOSE", "open_file", "seal_file"]

PURPOSE = "network-file"
# 4,732 nodes with ML-DSA keys are 15 MB, 4,096 users 37 MB, 16,384 grants 6 MB: the most a file within its limits can hold fits.
FILE_MAX_BYTES = 64 << 20
KEY_LINE = re.compile(rb'# network_key = "([A-Za-z0-9+/]{2646}==)"\n')
SIGNATURE_LINE = re.compile(rb'# signature = "([A-Za-z0-9+/]{4498}==)"\n')
KEY_LINE_BYTES = 2667  # the two lines have one length each, so they are found without searching
SIGNATURE_LINE_BYTES = 4517  # 4,500 of base64 for 3,373 bytes of signature


def seal_file(text: str, key: SigningKey) -> bytes:
    """The bytes of the file: `text` (ends with a newline), the key line, the signature line."""
    signed = text.encode() + f'# network_key = "{key_text(key.public)}"\n'.encode()
    signature = base64.b64encode(key.sign(PURPOSE, signed))
    return signed + b'# signature = "' + signature + b'"\n'


def open_file(data: bytes, network_key: bytes) -> str:
    """Check the signature of a file's bytes against the pinned key id (32 bytes); return its text.

    Errors: `E-REGISTRY-SIGNATURE`, `E-REGISTRY-FORMAT` (signed bytes that are not UTF-8).
    """
    signed, line = data[:-SIGNATURE_LINE_BYTES], data[-SIGNATURE_LINE_BYTES:]
    signature = SIGNATURE_LINE.fullmatch(line)
    key_line = KEY_LINE.fullmatch(signed[-KEY_LINE_BYTES:])
    if not signature or not key_line:
        raise fault("E-REGISTRY-SIGNATURE", "the file does not end with the network's key and signature: unsigned, or torn")
    key = _key(key_line[1].decode("ascii"))
    if key.id != network_key:
        raise fault("E-REGISTRY-SIGNATURE", "the file is signed by another key than the pinned one")
    if not verify(key, PURPOSE, signed, _decoded(signature[1])):
        raise fault("E-REGISTRY-SIGNATURE", "the signature does not hold: the file was changed after it was signed")
    try:
        return signed.decode()
    except UnicodeDecodeError:
        raise fault("E-REGISTRY-FORMAT", "the file is not UTF-8") from None


def _key(text: str) -> PublicKey:
    try:
        return key_from_text("network_key", text)
    except QuStreamError as error:
        raise fault("E-REGISTRY-SIGNATURE", error.detail) from None


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""  # no signature at all, and refused as one that does not hold
