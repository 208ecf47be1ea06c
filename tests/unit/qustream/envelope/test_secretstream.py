"""Our secretstream against libsodium's, in both directions."""

from __future__ import annotations

import os

import nacl.bindings as sodium
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.envelope.secretstream import FINAL, MESSAGE, START_BYTES, TAG_BYTES, Opener, Sealer, TamperedError, hchacha20
from qustream.errors import QuStreamError

KEY = bytes(range(32))
SIZES = [0, 1, 2, 15, 16, 17, 31, 32, 33, 62, 63, 64, 65, 127, 128, 129, 1000, 65_535, 65_536, 65_537]


class Sodium:
    """libsodium's side of a stream."""

    def __init__(self, start: bytes | None = None) -> None:
        self.state = sodium.crypto_secretstream_xchacha20poly1305_state()
        if start is None:
            self.start = sodium.crypto_secretstream_xchacha20poly1305_init_push(self.state, KEY)
        else:
            sodium.crypto_secretstream_xchacha20poly1305_init_pull(self.state, start, KEY)

    def push(self, piece: bytes, tag: int) -> bytes:
        return sodium.crypto_secretstream_xchacha20poly1305_push(self.state, piece, None, tag)

    def pull(self, chunk: bytes) -> tuple[bytes, int]:
        return sodium.crypto_secretstream_xchacha20poly1305_pull(self.state, chunk)


def sealed(sealer: Sealer, piece: bytes, tag: int = MESSAGE) -> bytes:
    out = bytearray(len(piece) + TAG_BYTES)
    sealer.seal(piece, memoryview(out), tag)
    return bytes(out)


def opened(opener: Opener, chunk: bytes) -> tuple[bytes, int]:
    out = bytearray(len(chunk) - TAG_BYTES)
    tag = opener.open(chunk, memoryview(out))
    return bytes(out), tag


def test_the_constants_are_libsodiums() -> None:
    assert sodium.crypto_secretstream_xchacha20poly1305_ABYTES == TAG_BYTES
    assert sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES == START_BYTES
    assert sodium.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE == MESSAGE
    assert sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL == FINAL


def test_hchacha20_is_the_drafts() -> None:
    # draft-irtf-cfrg-xchacha-03, section 2.2.1.
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    expected = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    assert hchacha20(bytes(range(32)), nonce).hex() == expected


@pytest.mark.parametrize("size", SIZES)
def test_libsodium_opens_ours_and_we_open_libsodiums(size: int) -> None:
    piece = os.urandom(size)
    sealer = Sealer(KEY)
    assert Sodium(sealer.start).pull(sealed(sealer, piece, FINAL)) == (piece, FINAL)
    theirs = Sodium()
    assert opened(Opener(KEY, theirs.start), theirs.push(piece, FINAL)) == (piece, FINAL)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=12))
def test_streams_of_many_chunks(pieces: list[bytes]) -> None:
    tags = [MESSAGE] * (len(pieces) - 1) + [FINAL]
    sealer, theirs = Sealer(KEY), Sodium()
    ours_at_theirs, theirs_at_ours = Sodium(sealer.start), Opener(KEY, theirs.start)
    for piece, tag in zip(pieces, tags, strict=True):
        assert ours_at_theirs.pull(sealed(sealer, piece, tag)) == (piece, tag)
        assert opened(theirs_at_ours, theirs.push(piece, tag)) == (piece, tag)


def test_every_changed_bit_is_found_and_nothing_is_written() -> None:
    theirs = Sodium()
    chunk = theirs.push(b"forty bytes of plaintext, more or less..", MESSAGE)
    for bit in range(8 * len(chunk)):
        changed = bytearray(chunk)
        changed[bit // 8] ^= 1 << bit % 8
        out = bytearray(len(chunk) - TAG_BYTES)
        with pytest.raises(TamperedError):
            Opener(KEY, theirs.start).open(bytes(changed), memoryview(out))
        assert out == bytes(len(out))


def test_chunks_out_of_order_twice_or_under_another_key_do_not_open() -> None:
    theirs = Sodium()
    first, second = theirs.push(b"first", MESSAGE), theirs.push(b"second", MESSAGE)
    with pytest.raises(TamperedError):
        opened(Opener(KEY, theirs.start), second)
    opener = Opener(KEY, theirs.start)
    opened(opener, first)
    with pytest.raises(TamperedError):
        opened(opener, first)
    with pytest.raises(TamperedError):
        opened(Opener(KEY[::-1], theirs.start), first)
    with pytest.raises(TamperedError):
        opened(Opener(KEY, theirs.start[::-1]), first)


def test_no_two_streams_begin_alike() -> None:
    assert len({Sealer(KEY).start for _ in range(100)}) == 100


def test_a_bytearray_is_a_key_too() -> None:
    sealer = Sealer(bytearray(KEY))
    assert Sodium(sealer.start).pull(sealed(sealer, b"x")) == (b"x", MESSAGE)


@pytest.mark.parametrize(("key", "start"), [(KEY[1:], bytes(24)), (KEY + b"x", bytes(24)), (KEY, bytes(23)), (KEY, bytes(25)), (b"", b"")])
def test_wrong_lengths(key: bytes, start: bytes) -> None:
    with pytest.raises(ValueError, match="a key is 32 bytes"):
        Opener(key, start)


def test_the_last_counter_serves_and_the_next_is_refused() -> None:
    sealer = Sealer(KEY)
    sealer._counter = (1 << 32) - 1
    sealed(sealer, b"last")
    with pytest.raises(QuStreamError, match=r"E-ENVELOPE-FORMAT.*4294967295 chunks"):
        sealed(sealer, b"one too many")
