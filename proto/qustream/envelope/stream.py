"""The content of an envelope, streamed: encrypt and decrypt in bounded memory (`proto/spec/envelope.md`, "Content", "Trailer").

libsodium's secretstream in chunks of 64 KiB; SHA-256 over the content's bytes for the signed trailer runs in a second thread, so
authenticity between recipients costs little time where there are two cores. Memory: eight buffers of 1 MiB at
most, whatever the size of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import nacl.bindings as sodium
from nacl.exceptions import CryptoError

from qustream.envelope.behind import Behind, Sink, write_all
from qustream.envelope.content import ContentKey
from qustream.envelope.header import Header, read_exactly
from qustream.envelope.pad import open_pad
from qustream.envelope.trailer import TRAILER_BYTES, check_end, check_trailer, make_trailer
from qustream.errors import fault
from qustream.identity.signing import SigningKey

__all__ = ["CHUNK_BYTES", "Progress", "Sink", "decrypt_stream", "encrypt_stream"]

START_BYTES = sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES  # 24: the nonce secretstream begins with
TAG_BYTES = sodium.crypto_secretstream_xchacha20poly1305_ABYTES  # 17
MESSAGE = sodium.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
FINAL = sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL
State = sodium.crypto_secretstream_xchacha20poly1305_state
_push = sodium.crypto_secretstream_xchacha20poly1305_push
_pull = sodium.crypto_secretstream_xchacha20poly1305_pull

CHUNK_BYTES = 65_536  # one tag of 17 bytes a chunk is 0.03 %; a chunk is what must be held before it is believed
SEALED_BYTES = CHUNK_BYTES + TAG_BYTES
# Handed to the second thread at once: 16 chunks, half a millisecond of hashing, hides the cost of the handing.
BATCH_BYTES = START_BYTES + 16 * SEALED_BYTES

Progress = Callable[[int], None]  # bytes of plaintext done so far, about once a MiB


def _pieces(source: BinaryIO, size_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Pieces of `size_bytes` and whether each is the last; an empty source is one empty piece."""
    piece = read_exactly(source, size_bytes)
    while len(piece) == size_bytes and (following := read_exactly(source, size_bytes)):
        yield piece, False
        piece = following
    yield piece, True


def encrypt_stream(
    source: BinaryIO, sink: Sink, header: bytes, key: ContentKey, device: SigningKey, *, progress: Progress | None = None
) -> int:
    """Write a whole envelope: `header` (all bytes before the content, from `make_header`), the content of `source`, the trailer.

    Reads to the end of `source`, of any size. `device`: the key whose certificate stands in the header. Returns the bytes of plaintext.
    """
    key.check(hashlib.sha256(header).digest())
    state, done = State(), 0
    start = sodium.crypto_secretstream_xchacha20poly1305_init_push(state, bytes(key.secret))
    write_all(sink, header)
    with Behind(sink, BATCH_BYTES, write_hashed=True) as behind:
        hashed, written = behind.batch()
        hashed.add(start)
        for piece, last in _pieces(source, CHUNK_BYTES):
            hashed.add(_push(state, piece, None, FINAL if last else MESSAGE))
            done += len(piece)
            if last or hashed.filled > BATCH_BYTES - SEALED_BYTES:
                behind.submit(hashed, written)
                hashed, written = behind.batch()
                if progress:
                    progress(done)
        digest = behind.finish()
    write_all(sink, make_trailer(device, key.header_hash, digest))
    return done


class _Sealed:
    """The chunks of an envelope's content as they stand in the file; afterwards, `trailer`."""

    def __init__(self, source: BinaryIO) -> None:
        self.source = source
        self.trailer = b""

    def __iter__(self) -> Iterator[tuple[bytes, bool]]:
        """Each chunk and whether it is the last. The trailer may begin anywhere in the last two pieces that are read."""
        before = b""
        piece = read_exactly(self.source, SEALED_BYTES)
        while len(piece) == SEALED_BYTES:
            if before:
                yield before, False
            before, piece = piece, read_exactly(self.source, SEALED_BYTES)
        rest = before + piece
        check_end(rest)
        content, self.trailer = rest[:-TRAILER_BYTES], rest[-TRAILER_BYTES:]
        if len(content) > SEALED_BYTES:
            yield content[:SEALED_BYTES], False
            content = content[SEALED_BYTES:]
        if len(content) < TAG_BYTES:
            raise fault("E-ENVELOPE-TRUNCATED", "the envelope ends inside its last chunk")
        yield content, True


def _open_chunk(state: State, chunk: bytes, number: int, last: bool) -> bytes:
    try:
        message, tag = _pull(state, chunk)
    except CryptoError:
        raise fault("E-ENVELOPE-TAMPERED", f"chunk {number} of the content was changed, moved or left out") from None
    if tag != (FINAL if last else MESSAGE):
        raise fault("E-ENVELOPE-TRUNCATED", f"chunk {number} of the content does not stand where the sender put it")
    if last and not message and number:
        raise fault("E-ENVELOPE-FORMAT", "an empty last chunk after others")
    return message


def decrypt_stream(source: BinaryIO, sink: Sink, header: Header, key: ContentKey, *, progress: Progress | None = None) -> int:
    """Decrypt the content that follows `header` in `source` and verify the trailer against the device the header names.

    **What `sink` got is the sender's only when this returns**: on any error throw it away (`open_to_path` does). `verify_sender` comes
    first. In pad mode nothing is written before everything holds. Returns the bytes of plaintext. Errors: `E-ENVELOPE-TAMPERED`,
    `E-ENVELOPE-TRUNCATED`, `E-ENVELOPE-SENDER`, `E-ENVELOPE-FORMAT`.
    """
    key.check(header.hash)
    if header.pad_bytes is not None:
        plaintext = open_pad(source, header, key)
        write_all(sink, plaintext)
        return len(plaintext)
    start = read_exactly(source, START_BYTES)
    if len(start) < START_BYTES:
        raise fault("E-ENVELOPE-TRUNCATED", "the envelope ends before its content")
    state, done = State(), 0
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, start, bytes(key.secret))
    sealed = _Sealed(source)
    with Behind(sink, BATCH_BYTES, write_hashed=False) as behind:
        hashed, written = behind.batch()
        hashed.add(start)
        for number, (chunk, last) in enumerate(sealed):
            message = _open_chunk(state, chunk, number, last)
            hashed.add(chunk)
            written.add(message)
            done += len(message)
            if last or hashed.filled > BATCH_BYTES - SEALED_BYTES:
                behind.submit(hashed, written)
                hashed, written = behind.batch()
                if progress:
                    progress(done)
        digest = behind.finish()
    check_trailer(sealed.trailer, header, digest)
    return done
