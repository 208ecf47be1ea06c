#!/usr/bin/env python3
"""Write or check `proto/vectors/envelope.json`: whole envelopes, what opens them, and edits to refuse (`proto/spec/envelope.md`).

Seals and signatures are randomised, so the file cannot be written twice alike: the library makes the envelopes, and `--check` opens
them with a second, naive implementation that takes only the hybrid signature and HPKE, which have vectors of their own, from the library.

    scripts/vectors/envelope.py            write the file anew
    scripts/vectors/envelope.py --check    exit 1 unless every envelope opens here to what the file says
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import msgpack
from keys import block_key, chacha20, chacha_rounds, chacha_state, drawn, hkdf, line, pad_share, where, xor

from qustream import envelope as library
from qustream.identity.hpke import HpkeKey
from qustream.identity.signing import SigningKey, verify
from qustream.model.keys import DeviceCertificate, PublicKey
from qustream.model.network import NodeClass

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/envelope.json"
CREATED_MS, DAY_MS = 1_800_000_000_000, 86_400_000
GRANT, INDEX = drawn("envelope grant", 32), 70_000
MASTER, DEVICE = SigningKey(drawn("envelope sender master", 32)), SigningKey(drawn("envelope sender device", 32))
RECIPIENTS = [(drawn(f"envelope recipient {n}", 32), HpkeKey(drawn(f"envelope recipient hpke {n}", 32))) for n in range(2)]
TRAILER_BYTES, SPARE_BYTES, CHUNK_BYTES = 3381, 96, 65_536  # proto/spec/envelope.md


def node(n: int) -> dict[str, Any]:
    """What a recipient has of node n's block after opening it, and what the sender knew."""
    parts = {name: drawn(f"envelope {name} {n}", size) for name, size in (("node", 32), ("salt", 32), ("seed", 126), ("block_hash", 32))}
    return {"class": 1 + n // 3, "material_label": f"envelope material {n}", **{name: value.hex() for name, value in parts.items()}}


NODES = [node(n) for n in range(6)]


# --- writing, by the library


def held() -> list[library.HeldBlock]:
    return [
        library.HeldBlock(
            node_class=NodeClass(each["class"]),
            material=drawn(each["material_label"], 262_270),
            grant=GRANT,
            index=INDEX,
            **{name: bytes.fromhex(each[name]) for name in ("node", "salt", "seed", "block_hash")},
        )
        for each in NODES
    ]


def make(plaintext: bytes, pad: bool) -> bytes:
    certificate = DeviceCertificate(MASTER.id, DEVICE.public, 0, "vectors", CREATED_MS - DAY_MS, CREATED_MS + 90 * DAY_MS)
    sender = (MASTER.id, DEVICE, MASTER.sign_noun("device-certificate", certificate))
    named = [(user, key.public) for user, key in RECIPIENTS]
    times = {"created_ms": CREATED_MS, "expires_ms": CREATED_MS + DAY_MS}
    if pad:
        return library.seal_pad(held(), plaintext, sender=sender, recipients=named, chain="vectors", **times)
    header, key = library.make_header(held(), sender=sender, recipients=named, chain="vectors", **times)
    sink = BytesIO()
    library.encrypt_stream(BytesIO(plaintext), sink, header, key, DEVICE)
    return sink.getvalue()


# --- opening, by the specification


def poly1305(key: bytes, data: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at : at + 16] + b"\x01", "little")) * r % ((1 << 130) - 5)
    return ((total + int.from_bytes(key[16:], "little")) & ((1 << 128) - 1)).to_bytes(16, "little")


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    words = chacha_rounds(chacha_state(key, nonce))
    return struct.pack("<8I", *words[:4], *words[12:])


class SecretStream:
    """The pulling side of libsodium's crypto_secretstream_xchacha20poly1305."""

    def __init__(self, key: bytes, start: bytes) -> None:
        self.key, self.nonce, self.counter = hchacha20(key, start[:16]), start[16:], 1

    def pull(self, sealed: bytes) -> tuple[bytes, int]:
        nonce = struct.pack("<I", self.counter) + self.nonce
        first, body, mac = sealed[:1], sealed[1:-16], sealed[-16:]
        block = chacha20(self.key, first + bytes(63), 1, nonce)
        hashed = first + block[1:] + body
        hashed += bytes((16 - 64 + len(body)) % 16) + struct.pack("<QQ", 0, 64 + len(body))
        assert poly1305(chacha20(self.key, bytes(32), 0, nonce), hashed) == mac, "a chunk's MAC"
        self.nonce = xor(self.nonce, mac[:8])
        self.counter += 1
        return chacha20(self.key, body, 2, nonce), block[0]


def parse(data: bytes) -> dict[str, Any]:
    """Everything before the content, by the tables of the specification."""
    assert data[:10] == b"QUSTREAM\x00\x01"
    at = 14 + int.from_bytes(data[10:14], "big")
    body, signature = msgpack.unpackb(data[14:at])
    core_bytes, commitment, seals = msgpack.unpackb(body)
    core = msgpack.unpackb(core_bytes)
    assert msgpack.packb([msgpack.packb([msgpack.packb(core), commitment, seals]), signature]) == data[14:at]
    tag, *content = core[7]
    corrections = content
    if tag == 61:
        size = SPARE_BYTES + content[0]
        corrections = [data[at : at + size], data[at + size : at + 2 * size]]
        at += 2 * size
        assert hashlib.sha256(b"".join(corrections)).digest() == content[1]
    found = {"core": core, "core_hash": hashlib.sha256(core_bytes).digest(), "commitment": commitment, "seals": seals}
    rest = {"body": body, "signature": signature, "corrections": corrections, "raw": data[:at], "content": data[at:-TRAILER_BYTES]}
    return {**found, **rest, "pad_bytes": content[0] if tag == 61 else None, "trailer": data[-TRAILER_BYTES:]}


def check_signatures(found: dict[str, Any]) -> None:
    _, sender, (certificate, by_master), *_ = found["core"]
    user, device, *_ = msgpack.unpackb(certificate)
    key = PublicKey(*device)
    assert user == sender == MASTER.id
    assert verify(MASTER.public, "device-certificate", certificate, by_master)
    assert verify(key, "envelope-header", found["body"], found["signature"])
    statement = hashlib.sha256(found["raw"]).digest() + hashlib.sha256(found["content"]).digest()
    assert verify(key, "envelope-content", statement, found["trailer"][:-8])
    assert found["trailer"][-8:] == b"QUST-END"


def class_secrets(found: dict[str, Any]) -> list[bytes]:
    """f(0) of either class, from shares 1 and 2; share 3 must agree by its correction."""
    _, _, _, _, grant, index, blocks, *_ = found["core"]
    shares = []
    for named, each in zip(blocks, NODES, strict=True):
        assert named == [bytes.fromhex(each["node"]), each["class"], bytes.fromhex(each["block_hash"])]
        material, salt, place = drawn(each["material_label"], 262_270), bytes.fromhex(each["salt"]), where(named[0], grant, index)
        pad = found["pad_bytes"]
        shares.append(block_key(material, salt, place) if pad is None else pad_share(material, salt, place, SPARE_BYTES + pad))
    secrets = []
    for (one, two, three), correction in zip((shares[:3], shares[3:]), found["corrections"], strict=True):
        secret, third = line(one, two)
        assert xor(three, third) == correction
        secrets.append(secret)
    return secrets


def open_stream(found: dict[str, Any], secret: bytes) -> tuple[bytes, bytes]:
    out = hkdf(secret, b"qustream/1/envelope-key", 64, found["core_hash"])
    assert out[32:] == found["commitment"]
    stream, at, plaintext, tag = SecretStream(out[:32], found["content"][:24]), 24, b"", 0
    while at < len(found["content"]):
        assert tag == 0
        message, tag = stream.pull(found["content"][at : at + CHUNK_BYTES + 17])
        plaintext += message
        at += CHUNK_BYTES + 17
    assert tag == 3
    return plaintext, out[:32]


def open_pad(found: dict[str, Any], client: bytes, secrets: list[bytes]) -> tuple[bytes, bytes]:
    pad = chacha20(hkdf(client, b"qustream/1/pad-client", 32, found["core_hash"]), xor(*secrets))
    assert hashlib.sha256(b"qustream/1/pad-commitment" + found["core_hash"] + pad).digest() == found["commitment"]
    ciphertext, mac = found["content"][:-16], found["content"][-16:]
    assert poly1305(pad[:32], found["raw"] + ciphertext) == mac
    return xor(ciphertext, pad[SPARE_BYTES:]), pad


def opened(data: bytes) -> dict[str, str]:
    """Open an envelope and return the values on the way."""
    found = parse(data)
    check_signatures(found)
    sealed = {
        key.open(found["seals"][n], b"qustream/1/envelope-seal" + found["core_hash"] + user) for n, (user, key) in enumerate(RECIPIENTS)
    }
    (plain,) = sealed
    assert plain[32:] == b"".join(bytes.fromhex(each["seed"]) for each in NODES)
    client, secrets = plain[:32], class_secrets(found)
    if found["pad_bytes"] is None:
        plaintext, key = open_stream(found, client + b"".join(secrets))
    else:
        plaintext, key = open_pad(found, client, secrets)
    values = {"core_hash": found["core_hash"], "commitment": found["commitment"], "client_secret": client, "content_key": key}
    more = {"header_hash": hashlib.sha256(found["raw"]).digest(), "plaintext_sha256": hashlib.sha256(plaintext).digest()}
    return {name: value.hex() for name, value in {**values, **more}.items()}


# --- the file


SAMPLES = {"empty": (0, False), "short": (100, False), "two chunks": (CHUNK_BYTES + 1, False), "pad": (100, True), "empty pad": (0, True)}


def refusals(made: dict[str, bytes]) -> list[dict[str, Any]]:
    """Edits of the envelope `of`; each offset is from its beginning, or from its end if negative."""
    front = len(parse(made["short"])["raw"])
    pad_front = len(parse(made["pad"])["raw"])
    rows: list[tuple[str, str, dict[str, Any], str]] = [
        ("another kind of file", "short", {"flip": 0}, "E-ENVELOPE-FORMAT"),
        ("another version", "short", {"flip": 9}, "E-ENVELOPE-FORMAT"),
        ("a header of 16 MB", "short", {"flip": 10}, "E-ENVELOPE-FORMAT"),
        ("nothing", "short", {"cut": 0}, "E-ENVELOPE-TRUNCATED"),
        ("cut in the header", "short", {"cut": 1000}, "E-ENVELOPE-TRUNCATED"),
        ("the sender's signature changed", "short", {"flip": front - 1}, "E-ENVELOPE-SENDER"),
        ("cut after the header", "short", {"cut": front}, "E-ENVELOPE-TRUNCATED"),
        ("cut in the content", "short", {"cut": front + 50}, "E-ENVELOPE-TRUNCATED"),
        ("the last byte missing", "short", {"cut": -1}, "E-ENVELOPE-TRUNCATED"),
        ("a byte appended", "short", {"append": "00"}, "E-ENVELOPE-TRUNCATED"),
        ("the content changed", "short", {"flip": front + 24}, "E-ENVELOPE-TAMPERED"),
        ("the stream's start changed", "short", {"flip": front}, "E-ENVELOPE-TAMPERED"),
        ("the trailer's signature changed", "short", {"flip": -9}, "E-ENVELOPE-SENDER"),
        ("the trailer of another envelope", "short", {"end_of": "empty", "bytes": TRAILER_BYTES}, "E-ENVELOPE-SENDER"),
        ("the second chunk left out", "two chunks", {"drop": [front + 24 + CHUNK_BYTES + 17, 18]}, "E-ENVELOPE-TRUNCATED"),
        ("the first chunk left out", "two chunks", {"drop": [front + 24, CHUNK_BYTES + 17]}, "E-ENVELOPE-TAMPERED"),
        ("a pad's correction changed", "pad", {"flip": pad_front - 1}, "E-ENVELOPE-TAMPERED"),
        ("a pad's ciphertext changed", "pad", {"flip": pad_front}, "E-ENVELOPE-TAMPERED"),
        ("a pad's MAC changed", "pad", {"flip": pad_front + 100}, "E-ENVELOPE-TAMPERED"),
        ("a byte after a pad", "pad", {"append": "00"}, "E-ENVELOPE-FORMAT"),
        ("one foundation block only", "short", {"nodes": [0, 3, 4, 5]}, "E-CLASS-SHORT"),
        ("no community block", "pad", {"nodes": [0, 1, 2]}, "E-CLASS-SHORT"),
        ("somebody who is not named", "short", {"user": drawn("envelope stranger", 32).hex()}, "E-NOT-RECIPIENT"),
    ]
    return [{"why": why, "of": of, **edit, "code": code} for why, of, edit, code in rows]


ABOUT = (
    "Envelopes (proto/spec/envelope.md), base64; all else hex. Each opens with `nodes` (the 262,270 bytes of material are SHAKE-256 of "
    "the ASCII label) and one of `recipients` (user id, HPKE seed), under the sender's master key (from its seed). The plaintext is the "
    "first `plaintext_bytes` of SHAKE-256 of its label. `content_key` is the whole pad in pad mode. `refusals`: `flip` inverts bit 0 of "
    "the byte at this offset, `cut` keeps what is before it, `append` adds, `drop` takes [offset, bytes] out, `end_of` replaces the last "
    "bytes by those of another envelope; `nodes` are those whose blocks can be had, `user` takes a recipient's name. Offsets below zero "
    "count from the end."
)


def vectors() -> dict[str, Any]:
    made = {name: make(drawn(f"envelope plaintext {name}", size), pad) for name, (size, pad) in SAMPLES.items()}
    samples = [
        {
            "name": name,
            "plaintext_label": f"envelope plaintext {name}",
            "plaintext_bytes": SAMPLES[name][0],
            **opened(data),
            "envelope": base64.b64encode(data).decode(),
        }
        for name, data in made.items()
    ]
    return {
        "about": ABOUT,
        "at_ms": CREATED_MS,
        "sender_master_seed": MASTER.seed.hex(),
        "recipients": [{"user": user.hex(), "hpke_seed": key.seed.hex()} for user, key in RECIPIENTS],
        "nodes": NODES,
        "envelopes": samples,
        "refusals": refusals(made),
    }


def check(held_file: dict[str, Any]) -> bool:
    for sample in held_file["envelopes"]:
        values = opened(base64.b64decode(sample["envelope"]))
        plaintext = drawn(sample["plaintext_label"], sample["plaintext_bytes"])
        if any(sample[name] != value for name, value in values.items()):
            return False
        if values["plaintext_sha256"] != hashlib.sha256(plaintext).hexdigest():
            return False
    return held_file["nodes"] == NODES and held_file["about"] == ABOUT


def main() -> int:
    if "--check" in sys.argv:
        return 0 if check(json.loads(FILE.read_text())) else 1
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
