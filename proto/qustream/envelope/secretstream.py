"""libsodium's secretstream, XChaCha20-Poly1305, on OpenSSL's ChaCha20 and Poly1305 (`proto/spec/envelope.md`, "Content").

The construction and every byte are libsodium's `crypto_secretstream_xchacha20poly1305` without additional data (F. Denis,
doc.libsodium.org, "Encrypting a set of related messages"); the tests open libsodium's streams with this module and this module's with
libsodium. OpenSSL's vector code takes half the time of libsodium's, and writes into the buffer it is given; that time pays for the hash
that keeps recipients from forging to each other (`proto/spec/adr/0003-secretstream-on-openssl.md`).

A chunk of n bytes under counter i (from 1): keystream blocks 0, 1, 2… of ChaCha20(key, nonce = i ‖ inonce) give the Poly1305 key, the
encrypted tag with its block, and the ciphertext. The MAC covers block ‖ ciphertext ‖ padding ‖ lengths, and is folded into the next inonce.
"""

from __future__ import annotations

import os
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

from qustream.errors import fault

__all__ = ["FINAL", "MESSAGE", "START_BYTES", "TAG_BYTES", "Opener", "Sealer", "TamperedError"]

MESSAGE, FINAL = 0, 3  # libsodium's tags; the other two, and going on after FINAL, ask for a new key and are not for files
KEY_BYTES = 32  # ChaCha20's
START_BYTES = 24  # XChaCha20's nonce: 16 bytes for HChaCha20, 8 for the inonce
MAC_BYTES = 16  # Poly1305's
TAG_BYTES = 1 + MAC_BYTES
BLOCK_BYTES = 64  # ChaCha20's
# The counter has 32 bits and libsodium takes a new key when it turns over; at 64 KiB a chunk that is 281 TB, which is refused instead.
COUNTER_MAX = (1 << 32) - 1


class TamperedError(Exception):
    """A chunk whose MAC does not hold."""


def hchacha20(key: bytes | bytearray, nonce: bytes) -> bytes:
    """HChaCha20 (draft-irtf-cfrg-xchacha §2.2) of a 16-byte nonce: a ChaCha20 block without its last addition, which is taken back."""
    words = struct.unpack("<16I", Cipher(ChaCha20(bytes(key), nonce), mode=None).encryptor().update(bytes(BLOCK_BYTES)))
    added = struct.unpack("<8I", b"expand 32-byte k" + nonce)
    kept = words[:4] + words[12:]
    return struct.pack("<8I", *((word - plus) & 0xFFFFFFFF for word, plus in zip(kept, added, strict=True)))


class _Stream:
    """Key, counter and inonce; what both directions share."""

    __slots__ = ("_counter", "_inonce", "_key")

    def __init__(self, key: bytes | bytearray, start: bytes) -> None:
        if len(key) != KEY_BYTES or len(start) != START_BYTES:
            raise ValueError(f"a key is {KEY_BYTES} bytes and a start {START_BYTES}")
        self._key = hchacha20(key, start[:16])
        self._inonce = int.from_bytes(start[16:], "little")
        self._counter = 1

    def _begin(self) -> tuple[CipherContext, bytes]:
        """The cipher of the next chunk, standing at the ciphertext, and keystream blocks 0 and 1."""
        if self._counter > COUNTER_MAX:
            raise fault("E-ENVELOPE-FORMAT", f"more than {COUNTER_MAX} chunks")
        nonce = struct.pack("<IIQ", 0, self._counter, self._inonce)
        cipher = Cipher(ChaCha20(self._key, nonce), mode=None).encryptor()
        return cipher, cipher.update(bytes(2 * BLOCK_BYTES))

    @staticmethod
    def _mac(blocks: bytes, sealed_tag: int, ciphertext: bytes | memoryview) -> Poly1305:
        mac = Poly1305(blocks[:KEY_BYTES])
        mac.update(bytes([sealed_tag]) + blocks[BLOCK_BYTES + 1 :])
        mac.update(ciphertext)
        # Padding as libsodium has it: length mod 16 zero bytes, not up to the next 16. The lengths that follow keep it unambiguous.
        mac.update(bytes(len(ciphertext) % MAC_BYTES) + struct.pack("<QQ", 0, BLOCK_BYTES + len(ciphertext)))
        return mac

    def _advance(self, mac: bytes | memoryview) -> None:
        self._inonce ^= int.from_bytes(mac[:8], "little")
        self._counter += 1


class Sealer(_Stream):
    """Encrypts a stream. `start`: 24 random bytes that stand before the chunks."""

    __slots__ = ("start",)

    def __init__(self, key: bytes | bytearray) -> None:
        self.start = os.urandom(START_BYTES)
        super().__init__(key, self.start)

    def seal(self, piece: bytes, out: memoryview, tag: int) -> None:
        """Write the chunk of `piece` into `out`, which is 17 bytes longer."""
        cipher, blocks = self._begin()
        sealed_tag = tag ^ blocks[BLOCK_BYTES]
        out[0] = sealed_tag
        ciphertext = out[1:-MAC_BYTES]
        cipher.update_into(piece, ciphertext)
        mac = self._mac(blocks, sealed_tag, ciphertext).finalize()
        out[-MAC_BYTES:] = mac
        self._advance(mac)


class Opener(_Stream):
    """Decrypts a stream."""

    __slots__ = ()

    def open(self, chunk: bytes, out: memoryview) -> int:
        """Verify `chunk`, of at least 17 bytes, then decrypt it into `out`, which is 17 shorter; return its tag.

        `TamperedError` if the MAC does not hold; `out` is untouched then.
        """
        cipher, blocks = self._begin()
        view = memoryview(chunk)
        ciphertext, mac = view[1:-MAC_BYTES], view[-MAC_BYTES:]
        try:
            self._mac(blocks, chunk[0], ciphertext).verify(bytes(mac))
        except InvalidSignature:
            raise TamperedError from None
        cipher.update_into(ciphertext, out)
        self._advance(mac)
        return chunk[0] ^ blocks[BLOCK_BYTES]
