#!/usr/bin/env python3
"""Write `proto/vectors/sharing.json` and `keys.json`: class secrets and keys of a block by the definitions of `proto/spec/keys.md`.

A second, naive implementation, byte by byte: it shares no code with the library. Standard library only; ChaCha20 and HKDF are
written out, so `scripts/vectors/envelope.py` uses them as well.

    scripts/vectors/keys.py            write the files
    scripts/vectors/keys.py --check    exit 1 if the files are not what this program would write
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "proto/vectors"
R_BYTES = 262_144


def drawn(label: str, size: int) -> bytes:
    """What stands for random bytes in the vectors: SHAKE-256 of a label."""
    return hashlib.shake_256(label.encode()).digest(size)


# --- GF(2^8)


def times(a: int, b: int) -> int:
    """Carry-less product, then long division by x^8 + x^4 + x^3 + x + 1."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def inverse(a: int) -> int:
    return next(b for b in range(256) if times(a, b) == 1)


def xor(*parts: bytes) -> bytes:
    out = bytearray(len(parts[0]))
    for part in parts:
        for at, byte in enumerate(part):
            out[at] ^= byte
    return bytes(out)


def line(share1: bytes, share2: bytes) -> tuple[bytes, bytes]:
    """Intercept f(0) and value f(3) of the line through (1, share1) and (2, share2)."""
    slope = bytes(times(a ^ b, inverse(1 ^ 2)) for a, b in zip(share1, share2, strict=True))
    intercept = xor(share1, slope)
    return intercept, bytes(c ^ times(m, 3) for c, m in zip(intercept, slope, strict=True))


# --- HKDF-SHA-512 (RFC 5869) and ChaCha20 (RFC 8439)


def hkdf(secret: bytes, info: bytes, length: int, salt: bytes = b"") -> bytes:
    key = hmac.new(salt or bytes(64), secret, hashlib.sha512).digest()
    out = block = b""
    for counter in range(1, -(-length // 64) + 1):
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha512).digest()
        out += block
    return out[:length]


ROUND = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]


def rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & 0xFFFFFFFF


def chacha_rounds(state: list[int]) -> list[int]:
    """Twenty rounds, without the final addition."""
    x = list(state)
    for _ in range(10):
        for a, b, c, d in ROUND:
            for left, right, other, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[left] = (x[left] + x[right]) & 0xFFFFFFFF
                x[other] = rotate(x[other] ^ x[left], bits)
    return x


def chacha_state(key: bytes, last: bytes) -> list[int]:
    return list(struct.unpack("<16I", b"expand 32-byte k" + key + last))


def chacha20(key: bytes, data: bytes, counter: int = 0, nonce: bytes = bytes(12)) -> bytes:
    """XOR with the keystream of RFC 8439 §2.4."""
    out = b""
    for at in range(0, len(data), 64):
        state = chacha_state(key, struct.pack("<I", counter + at // 64) + nonce)
        words = [(a + b) & 0xFFFFFFFF for a, b in zip(chacha_rounds(state), state, strict=True)]
        piece = data[at : at + 64]
        out += xor(piece, struct.pack("<16I", *words)[: len(piece)])
    return out


# --- keys of a block


def where(node: bytes, grant: bytes, index: int) -> bytes:
    return node + grant + struct.pack(">I", index)


def block_key(material: bytes, salt: bytes, place: bytes) -> bytes:
    secret = material[R_BYTES:] + hashlib.sha512(material[:R_BYTES]).digest() + salt
    return hkdf(secret, b"qustream/1/block-key" + place, 64)


def pad_share(material: bytes, salt: bytes, place: bytes, size: int) -> bytes:
    return chacha20(hkdf(salt, b"qustream/1/pad-share" + place, 32), material[:size])


# --- the vectors


def sharing_case(name: str, shares: list[bytes]) -> dict[str, str]:
    secret, third = line(shares[0], shares[1])
    named = {f"share{n}": share.hex() for n, share in enumerate(shares, 1)}
    return {"name": name, **named, "correction": xor(shares[2], third).hex(), "secret": secret.hex()}


def sharing() -> dict[str, Any]:
    about = "2-of-3 sharing over GF(2^8) (proto/spec/keys.md, Class secret). Hex. Any two of the shares and the correction give the secret."
    operands = [bytes.fromhex(text) for text in ("578313fe", "835757c1", "c1c1fe57")]  # FIPS 197 §4.2
    cases = [
        sharing_case("zeros", [bytes(4)] * 3),
        sharing_case("single bits", [b"\x01\x00\x00\x01", b"\x00\x01\x00\x01", b"\x00\x00\x01\x01"]),
        sharing_case("FIPS 197 operands", operands),
        *(sharing_case(f"{size} bytes", [drawn(f"share {n} of {size}", size) for n in (1, 2, 3)]) for size in (64, 200)),
    ]
    return {"about": about, "cases": cases}


def keys_case(number: int, index: int, pad_bytes: int) -> dict[str, Any]:
    label = f"keys material {number}"
    node, grant, salt = (drawn(f"keys {what} {number}", 32) for what in ("node", "grant", "salt"))
    material, place = drawn(label, R_BYTES + 126), where(node, grant, index)
    named = {"node": node.hex(), "grant": grant.hex(), "salt": salt.hex()}
    given = {"material_label": label, **named, "index": index}
    share = pad_share(material, salt, place, pad_bytes)
    return {**given, "block_key": block_key(material, salt, place).hex(), "pad_share": share.hex()}


def keys() -> dict[str, Any]:
    about = (
        "Keys of a block (proto/spec/keys.md). Hex. `material_label`: the 262,270 bytes of material are SHAKE-256 of this ASCII text. "
        "`pad_share`: the first bytes of S. `chacha20`: keystream of 80 bytes under the key, nonce zero, counter from 0."
    )
    cases = [keys_case(0, 0, 64), keys_case(1, 1, 300), keys_case(2, 0x01020304, 0), keys_case(3, 0xFFFFFFFF, 65)]
    key = drawn("keys chacha20", 32)
    return {"about": about, "cases": cases, "chacha20": {"key": key.hex(), "keystream": chacha20(key, bytes(80)).hex()}}


def main() -> int:
    wanted = {"sharing.json": sharing(), "keys.json": keys()}
    texts = {name: json.dumps(value, indent=1) + "\n" for name, value in wanted.items()}
    if "--check" in sys.argv:
        return 0 if all((FOLDER / name).read_text() == text for name, text in texts.items()) else 1
    for name, text in texts.items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
