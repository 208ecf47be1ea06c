"""What a block gives: the 64-byte block key and, in pad mode, a share of pad (`proto/spec/keys.md`, "Keys of a block")."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qustream.identity.signing import purpose_text
from qustream.model.entropy import MATERIAL_BYTES, R_BYTES

__all__ = ["BLOCK_KEY_BYTES", "SALT_BYTES", "block_key", "chacha20", "hkdf", "pad_share", "wipe"]

BLOCK_KEY_BYTES = 64  # SHA-512's whole output: nothing of the 1,008 bits of kGen is cut below 512
SALT_BYTES = 32  # as in wire.keys.KeyAnswer
CHACHA20_KEY_BYTES = 32  # RFC 8439


def hkdf(secret: bytes | bytearray, *, salt: bytes | None, info: bytes, length: int) -> bytes:
    """HKDF-SHA-512 (RFC 5869), `length` bytes."""
    return HKDF(algorithm=SHA512(), length=length, salt=salt, info=info).derive(secret)


def chacha20(key: bytes, data: bytes | bytearray | memoryview) -> bytearray:
    """XOR `data` with the ChaCha20 keystream (RFC 8439 §2.4) of `key`, nonce zero, counter from zero, into a new buffer.

    The key must be used once: every key here is derived for exactly one stream.
    """
    out = bytearray(len(data))
    Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update_into(data, out)
    return out


def _info(name: str, node: bytes, grant: bytes, index: int) -> bytes:
    return purpose_text(name) + node + grant + index.to_bytes(4, "big")


def _check(material: bytes | bytearray, salt: bytes) -> None:
    if len(material) != MATERIAL_BYTES or len(salt) != SALT_BYTES:
        raise ValueError(f"material is {MATERIAL_BYTES} bytes and a node salt {SALT_BYTES}")


def block_key(material: bytes | bytearray, salt: bytes, *, node: bytes, grant: bytes, index: int) -> bytes:
    """The 64-byte key b of one block.

    `material`: R (262,144 bytes) ‖ kGen (126) as `qustream.block.open` gives it; `salt`: the node's 32 bytes.
    b = HKDF-SHA-512(kGen ‖ SHA-512(R) ‖ salt, info = `qustream/1/block-key` ‖ node ‖ grant ‖ index (4 bytes, big endian)).
    """
    _check(material, salt)
    view = memoryview(material)
    secret = bytearray(view[R_BYTES:]) + hashlib.sha512(view[:R_BYTES]).digest() + salt
    try:
        return hkdf(secret, salt=None, info=_info("block-key", node, grant, index), length=BLOCK_KEY_BYTES)
    finally:
        wipe(secret)


def pad_share(material: bytes | bytearray, salt: bytes, *, node: bytes, grant: bytes, index: int, size_bytes: int) -> bytearray:
    """The first `size_bytes` bytes of S = R ⊕ stream(salt), the block's share of a pad.

    stream(salt) is ChaCha20 under HKDF-SHA-512(salt, info = `qustream/1/pad-share` ‖ node ‖ grant ‖ index): it hides R from
    the QRNG server that made it. The caller wipes the result.
    """
    _check(material, salt)
    if not 0 <= size_bytes <= R_BYTES:
        raise ValueError(f"a block gives at most {R_BYTES} bytes of pad")
    key = hkdf(salt, salt=None, info=_info("pad-share", node, grant, index), length=CHACHA20_KEY_BYTES)
    return chacha20(key, memoryview(material)[:size_bytes])


def wipe(*buffers: bytearray) -> None:
    """Overwrite buffers with zeros. Immutable bytes and integers made on the way cannot be overwritten in Python."""
    for buffer in buffers:
        buffer[:] = bytes(len(buffer))
