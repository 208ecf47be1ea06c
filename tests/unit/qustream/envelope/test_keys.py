"""Block keys and shares of pad: the definition by the standard library, and what every input changes."""

import hashlib
import hmac
import itertools

import pytest

from qustream.envelope.keys import block_key, chacha20, pad_share, wipe

MATERIAL = hashlib.shake_256(b"material").digest(262_270)
SALT = bytes(range(32))
WHERE = {"node": b"n" * 32, "grant": b"g" * 32, "index": 0x01020304}


def hkdf_sha512(secret: bytes, info: bytes, length: int) -> bytes:
    key = hmac.new(bytes(64), secret, hashlib.sha512).digest()
    out, block = b"", b""
    for counter in itertools.count(1):
        if len(out) >= length:
            return out[:length]
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha512).digest()
        out += block
    raise AssertionError


def test_the_block_key_is_the_hkdf_of_the_specification() -> None:
    secret = MATERIAL[262_144:] + hashlib.sha512(MATERIAL[:262_144]).digest() + SALT
    info = b"qustream/1/block-key" + b"n" * 32 + b"g" * 32 + b"\x01\x02\x03\x04"
    assert block_key(MATERIAL, SALT, **WHERE) == hkdf_sha512(secret, info, 64)
    assert block_key(bytearray(MATERIAL), SALT, **WHERE) == block_key(MATERIAL, SALT, **WHERE)


def test_every_input_changes_both() -> None:
    flipped = [MATERIAL[:at] + bytes([MATERIAL[at] ^ 1]) + MATERIAL[at + 1 :] for at in (0, 262_143, 262_144, 262_269)]
    inputs = [(MATERIAL, SALT, WHERE)]
    inputs += [(material, SALT, WHERE) for material in flipped]
    inputs += [(MATERIAL, SALT[:-1] + b"x", WHERE)]
    inputs += [(MATERIAL, SALT, {**WHERE, name: value}) for name, value in [("node", b"m" * 32), ("grant", b"h" * 32), ("index", 5)]]
    assert len({block_key(m, s, **w) for m, s, w in inputs}) == len(inputs)
    shares = {bytes(pad_share(m, s, **w, size_bytes=262_144)) for m, s, w in inputs}
    assert len(shares) == len(inputs) - 2  # kGen, the last two flips, is no part of a pad


def test_the_keystream_is_rfc_8439s() -> None:
    # RFC 8439, appendix A.1, test vector 1.
    assert chacha20(bytes(32), bytes(8)) == bytearray.fromhex("76b8e0ada0f13d90")
    assert chacha20(bytes(32), b"\xff" * 4) == bytearray.fromhex("89471f52")
    assert chacha20(bytes(32), b"") == b""


def test_a_pad_share_is_r_under_the_salts_keystream() -> None:
    key = hkdf_sha512(SALT, b"qustream/1/pad-share" + b"n" * 32 + b"g" * 32 + b"\x01\x02\x03\x04", 32)
    share = pad_share(MATERIAL, SALT, **WHERE, size_bytes=1000)
    assert share == chacha20(key, MATERIAL[:1000])
    assert pad_share(MATERIAL, SALT, **WHERE, size_bytes=262_144)[:1000] == share


@pytest.mark.parametrize(("material", "salt"), [(MATERIAL[:-1], SALT), (MATERIAL + b"x", SALT), (MATERIAL, SALT[:-1]), (b"", SALT)])
def test_wrong_sizes_are_refused(material: bytes, salt: bytes) -> None:
    with pytest.raises(ValueError, match="262270 bytes"):
        block_key(material, salt, **WHERE)
    with pytest.raises(ValueError, match="262270 bytes"):
        pad_share(material, salt, **WHERE, size_bytes=1)


def test_a_block_gives_no_more_pad_than_it_has() -> None:
    with pytest.raises(ValueError, match="at most 262144"):
        pad_share(MATERIAL, SALT, **WHERE, size_bytes=262_145)


def test_wipe_overwrites() -> None:
    one, two = bytearray(b"secret"), bytearray()
    wipe(one, two)
    assert one == bytes(6)
    assert two == b""
