#!/usr/bin/env python3
"""Write `proto/vectors/frames.json`: frames, what is refused, small messages, Hellos, a certificate (`proto/spec/transport.md`).

Frames are cut here, messages packed by `msgpack`, the Hello's statement is put together here and signed by PyNaCl; from the library
come the key, its id and the certificate.

    scripts/vectors/frames.py              write the file (the certificate's signature is hedged: a new one every time)
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import msgpack
import nacl.signing
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding

from qustream.identity.signing import SigningKey
from qustream.transport.certificate import make_certificate

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/frames.json"
PIECE = 65536
SEED = hashlib.sha256(b"qustream vectors: transport").digest()
EXPORTER = hashlib.sha256(b"qustream vectors: exporter").digest()
KEY = SigningKey(SEED)

# channel, size, first byte
MESSAGES = [
    (0, 1, 0), (0, 16384, 1), (1, 2, 7), (1, 65536, 3), (2, 5, 9), (2, 65537, 4), (2, 270000, 5), (2, 614400, 6), (3, 1024, 8),
    (3, 262144, 2), (4, 65536, 0), (4, 131072, 1), (4, 131073, 2), (4, 266494, 3), (4, 614400, 4),
]  # fmt: skip
REFUSED = [
    ("channel 5 does not exist", 1, 5, "E-WIRE-MALFORMED"),
    ("channel 127 with more", PIECE, 0xFF, "E-WIRE-MALFORMED"),
    ("an empty frame", 0, 4, "E-WIRE-MALFORMED"),
    ("an empty frame with more", 0, 0x84, "E-WIRE-MALFORMED"),
    ("a piece of 1 byte with more", 1, 0x84, "E-WIRE-MALFORMED"),
    ("a piece of 65,535 bytes with more", PIECE - 1, 0x84, "E-WIRE-MALFORMED"),
    ("a piece of 65,537 bytes", PIECE + 1, 4, "E-WIRE-MALFORMED"),
    ("control of 16,385 bytes", 16385, 0, "E-WIRE-OVERSIZE"),
    ("control with more: it cannot end within 16 KiB", PIECE, 0x80, "E-WIRE-OVERSIZE"),
    ("consensus of 64 KiB with more", PIECE, 0x81, "E-WIRE-OVERSIZE"),
    ("the largest length there is", 0xFFFFFFFF, 4, "E-WIRE-OVERSIZE"),
]
CONTROL = [
    ("ping", [2, 4294967295]),
    ("pong", [3, 0]),
    ("goodbye in order", [4, "", ""]),
    ("goodbye with a code", [4, "E-PEER-LIMIT", "too many"]),
]
RPC = [
    ("request", [10, 7, 5000, b"\x01\x02\x03"]),
    ("response", [11, 7, b"\x04\x05"]),
    ("refusal", [12, 7, "E-NODE-FULL", "no room", 1500]),
]
HELLOS: list[tuple[str, list[Any]]] = [
    ("client", [1, 1, "vectors", [1], [], 0]),
    ("server", [1, 3, "vectors", [2, 4], ["192.0.2.1:7400", "[2001:db8::1]:7400"], 1234567]),
]


def cut(channel: int, body: bytes) -> bytes:
    frames = b""
    while len(body) > PIECE:
        frames += struct.pack(">IB", PIECE, channel | 0x80) + body[:PIECE]
        body = body[PIECE:]
    return frames + struct.pack(">IB", len(body), channel) + body


def filled(size: int, first: int) -> bytes:
    return bytes((first + at) % 251 for at in range(size))


def packed(channel: int, about: str, fields: list[Any]) -> dict[str, str]:
    message: bytes = msgpack.packb(fields, use_bin_type=True)
    return {"about": about, "message": message.hex(), "frame": cut(channel, message).hex()}


def message(channel: int, size: int, first: int) -> dict[str, Any]:
    frames = cut(channel, filled(size, first))
    small = {"frames": frames.hex()} if len(frames) <= 64 else {}
    digest = hashlib.sha256(frames).hexdigest()
    return {"channel": channel, "size": size, "first": first, **small, "frames_bytes": len(frames), "frames_sha256": digest}


def interleaved() -> dict[str, Any]:
    block, vote, news = cut(4, filled(70000, 1)), cut(1, b"vote"), cut(3, b"news")
    first = 5 + PIECE
    return {
        "about": "a vote and news between the two pieces of a block: the vote arrives first, then the news, then the block",
        "parts": [
            {"of": "block", "from": 0, "to": first},
            {"of": "vote", "from": 0, "to": len(vote)},
            {"of": "news", "from": 0, "to": len(news)},
            {"of": "block", "from": first, "to": len(block)},
        ],
        "block": {"channel": 4, "size": 70000, "first": 1},
        "vote": {"channel": 1, "body": b"vote".hex()},
        "news": {"channel": 3, "body": b"news".hex()},
        "sha256": hashlib.sha256(block[:first] + vote + news + block[first:]).hexdigest(),
    }


def statement(role: str) -> bytes:
    purpose = b"qustream/1/hello"
    return bytes([len(purpose)]) + purpose + KEY.public.ed25519 + KEY.public.mldsa + role.encode() + EXPORTER


def hello(role: str, fields: list[Any]) -> dict[str, Any]:
    half = HKDF(SHA512(), 64, None, b"qustream/1/signing-key").derive(SEED)[:32]
    proof = nacl.signing.SigningKey(half).sign(statement(role)).signature
    whole = packed(0, role, [1, *fields, proof])
    return {"role": role, "fields": fields, "proof": proof.hex(), "message": whole["message"], "frame": whole["frame"]}


def main() -> None:
    vectors = {
        "about": "Transport (proto/spec/transport.md). Body byte i of a message is (first + i) mod 251. Frames were cut by other code "
        "than the library's and messages packed by another codec. ML-DSA signatures are hedged: the certificate is for verifying only.",
        "messages": [message(*row) for row in MESSAGES],
        "interleaved": interleaved(),
        "refused": [{"about": about, "bytes": struct.pack(">IB", size, tag).hex(), "code": code} for about, size, tag, code in REFUSED],
        "control": [packed(0, *row) for row in CONTROL],
        "rpc": [packed(2, *row) for row in RPC],
        "identity": {
            "seed": SEED.hex(),
            "id": KEY.id.hex(),
            "ed25519": KEY.public.ed25519.hex(),
            "exporter": EXPORTER.hex(),
            "statement_sha256": {role: hashlib.sha256(statement(role)).hexdigest() for role, _ in HELLOS},
        },
        "hellos": [hello(*row) for row in HELLOS],
        "certificate": make_certificate(KEY).public_bytes(Encoding.DER).hex(),
    }
    FILE.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
