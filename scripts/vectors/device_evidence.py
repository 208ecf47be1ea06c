#!/usr/bin/env python3
"""Write `proto/vectors/device-evidence.json`: from a maker to a read of a device (`proto/spec/entropy-feed.md`, "Device evidence").

ECDSA over P-256 is computed here from FIPS 186-5 and SP 800-186 with Python's integers, nonces as RFC 6979; nothing comes from the library.

    scripts/vectors/device_evidence.py            write the file
    scripts/vectors/device_evidence.py --check    exit 1 if the file is not what this program would write
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/device-evidence.json"
# SP 800-186 §3.2.1.3
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296, 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)
Point = tuple[int, int] | None
MAKER, OTHER, DEVICE = (int.from_bytes(hashlib.sha256(name).digest(), "big") % N for name in (b"maker", b"other maker", b"device"))
SERIAL, HARDWARE = 6_001_234, (1, 2)
SAMPLE = bytes(range(32))


def added(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = (3 * a[0] ** 2 - 3) * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope**2 - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(count: int, point: Point) -> Point:
    total: Point = None
    for bit in bin(count)[2:]:
        total = added(total, total)
        total = added(total, point) if bit == "1" else total
    return total


def two(first: int, second: int) -> bytes:
    return first.to_bytes(32, "big") + second.to_bytes(32, "big")


def public(secret: int) -> bytes:
    point = times(secret, G)
    assert point is not None
    assert (point[1] ** 2 - point[0] ** 3 + 3 * point[0] - B) % P == 0
    return two(*point)


def nonce(secret: int, digest: bytes) -> int:
    """RFC 6979 §3.2 with HMAC-SHA-256; the first candidate below n is taken, and there is always one here."""
    seed = secret.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    key, value = bytes(32), b"\x01" * 32
    for step in (b"\x00", b"\x01"):
        key = hmac.digest(key, value + step + seed, "sha256")
        value = hmac.digest(key, value, "sha256")
    candidate = int.from_bytes(hmac.digest(key, value, "sha256"), "big")
    assert 0 < candidate < N
    return candidate


def signed(secret: int, message: bytes) -> bytes:
    """FIPS 186-5 §6.4.1."""
    digest = hashlib.sha256(message).digest()
    k = nonce(secret, digest)
    point = times(k, G)
    assert point is not None
    r = point[0] % N
    return two(r, pow(k, -1, N) * (int.from_bytes(digest, "big") + r * secret) % N)


def certificate(secret: int, hardware: tuple[int, int], serial: int, key: bytes) -> bytes:
    return signed(secret, bytes([0, 0, *hardware]) + serial.to_bytes(4, "little") + key)


def certified_by(secret: int) -> str:
    return certificate(secret, HARDWARE, SERIAL, public(DEVICE)).hex()


def evidence() -> dict[str, Any]:
    key = public(DEVICE)
    return {
        "scheme": "qcicada-p256",
        "authority": public(MAKER).hex(),
        "key": key.hex(),
        "certificate": certified_by(MAKER),
        "hardware": list(HARDWARE),
        "serial_number": SERIAL,
        "sample": SAMPLE.hex(),
        "signature": signed(DEVICE, SAMPLE).hex(),
        "all_reads_signed": True,
    }


def flipped(text: str, at: int) -> str:
    data = bytearray.fromhex(text)
    data[at] ^= 1
    return data.hex()


def of_another_serial() -> dict[str, Any]:
    return {"serial_number": SERIAL + 1, "certificate": certificate(MAKER, HARDWARE, SERIAL + 1, public(DEVICE)).hex()}


def cases() -> list[dict[str, Any]]:
    """Changes to the evidence (null: there is none), the descriptor's serial or the accepted makers; whether it holds."""
    good, other = evidence(), public(OTHER).hex()
    key, certified, signature = good["key"], good["certificate"], good["signature"]
    long = hashlib.sha512(b"sample").digest()
    s = int.from_bytes(bytes.fromhex(signature)[32:], "big")
    rows: list[tuple[str, dict[str, Any], bool]] = [
        ("as it is, no maker pinned", {}, True),
        ("its maker is pinned", {"authorities": [good["authority"]]}, True),
        ("its maker is one of two", {"authorities": [other, good["authority"]]}, True),
        ("another maker is pinned", {"authorities": [other]}, False),
        ("no evidence, no maker pinned", {"evidence": None}, True),
        ("no evidence, a maker is pinned", {"evidence": None, "authorities": [other]}, False),
        ("a sample of 64 bytes", {"evidence": {"sample": long.hex(), "signature": signed(DEVICE, long).hex()}}, True),
        ("s replaced by n - s: ECDSA takes both", {"evidence": {"signature": signature[:64] + (N - s).to_bytes(32, "big").hex()}}, True),
        ("not every read was verified", {"evidence": {"all_reads_signed": False}}, True),
        ("a scheme nobody knows", {"evidence": {"scheme": "qcicada-p384"}}, False),
        ("a descriptor with another serial", {"serial": "QC0006001235"}, False),
        ("a serial without its zeros", {"serial": "QC6001234"}, False),
        ("a serial in lower case", {"serial": "qc0006001234"}, False),
        ("a certificate for another serial number", {"evidence": of_another_serial()}, False),
        ("another serial number, certificate as it was", {"serial": "QC0006001235", "evidence": {"serial_number": SERIAL + 1}}, False),
        ("another hardware version", {"evidence": {"hardware": [1, 3]}}, False),
        ("a bit of the certificate", {"evidence": {"certificate": flipped(certified, 63)}}, False),
        ("certified by another maker", {"evidence": {"certificate": certified_by(OTHER)}}, False),
        ("the device certifies itself", {"evidence": {"certificate": certified_by(DEVICE)}}, False),
        ("a bit of the signature", {"evidence": {"signature": flipped(signature, 0)}}, False),
        ("a bit of the sample", {"evidence": {"sample": flipped(good["sample"], 31)}}, False),
        ("signed by the maker", {"evidence": {"signature": signed(MAKER, SAMPLE).hex()}}, False),
        ("r and s in the other order", {"evidence": {"signature": signature[64:] + signature[:64]}}, False),
        ("r of zero", {"evidence": {"signature": "00" * 32 + signature[64:]}}, False),
        ("s of zero", {"evidence": {"signature": signature[:64] + "00" * 32}}, False),
        ("r and s of zero in the certificate", {"evidence": {"certificate": "00" * 64}}, False),
        ("r and s of n", {"evidence": {"signature": two(N, N).hex()}}, False),
        ("r and s of all ones", {"evidence": {"certificate": "ff" * 64}}, False),
        ("a device key that is no point", {"evidence": {"key": flipped(key, 63)}}, False),
        ("a device key of zeros", {"evidence": {"key": "00" * 64}}, False),
        ("a device key above p", {"evidence": {"key": "ff" * 64}}, False),
        ("a maker's key that is no point", {"evidence": {"authority": flipped(good["authority"], 0)}}, False),
        ("a maker's key of zeros", {"evidence": {"authority": "00" * 64}}, False),
    ]  # fmt: skip
    return [{"why": why, **changes, "holds": holds} for why, changes, holds in rows]


def main() -> int:
    # RFC 6979 A.2.5, "sample" with SHA-256: the arithmetic here is right.
    secret = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    assert signed(secret, b"sample").hex().startswith("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716")
    vectors = {
        "about": "Device evidence (proto/spec/entropy-feed.md). Hex. `cases` change fields of the evidence, the descriptor's serial, or "
        "the makers that the network accepts of the server; a case that does not hold is refused with E-ATTESTATION-EVIDENCE.",
        "serial": f"QC{SERIAL:010}",
        "evidence": evidence(),
        "cases": cases(),
    }
    text = json.dumps(vectors, indent=1) + "\n"
    if "--check" in sys.argv:
        return 0 if FILE.read_text() == text else 1
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
