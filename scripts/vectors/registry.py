#!/usr/bin/env python3
"""Write `proto/vectors/registry.json`: epochs, grant ids, a network file, files to refuse (`proto/spec/registry.md`).

The text of the file is put together line by line and hashes are taken here; from the library come keys, signatures and the text of ids,
which have vectors of their own (`identity.json`, `ids.json`).

    scripts/vectors/registry.py            write the file (signatures are hedged: new ones every time)
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import msgpack

from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, licence_text, to_text

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/registry.json"
CHAIN, GENESIS_MS, LENGTH_MS, SEED = "qustream-test", 1_700_000_000_000, 259_200_000, bytes(range(32))
NETWORK, STRANGER, MASTER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32), SigningKey(b"\x03" * 32)
NODE, SERVER = SigningKey(b"\x04" * 32), SigningKey(b"\x05" * 32)
DEVICES = [bytes([0xD0 + i]) * 32 for i in range(2)]
LICENCE = bytes(range(16))
ROOT = b"\x66" * 32
# The public key of RFC 6979 A.2.5.
MAKER = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"


def base64_text(*parts: bytes) -> str:
    return base64.b64encode(b"".join(parts)).decode()


def key_text(key: SigningKey) -> str:
    return base64_text(key.public.ed25519, key.public.mldsa)


def epoch_seed(number: int) -> bytes:
    return hashlib.sha256(b"qustream/1/epoch-seed" + CHAIN.encode() + SEED + number.to_bytes(8, "big")).digest()


def grant_id(owner: bytes, root: bytes, epoch: int) -> bytes:
    return hashlib.sha256(b"qustream/1/grant-id" + CHAIN.encode() + owner + root + epoch.to_bytes(8, "big")).digest()


def text() -> str:
    return network_text() + user_text()


def network_text() -> str:
    return f"""# A network file as another program might write it.
format = 1
chain = "{CHAIN}"
version = 5
genesis_ms = {GENESIS_MS:_}
epoch_length_ms = {LENGTH_MS}
seed = "{SEED.hex()}"

[[nodes]]
id = "{to_text(IdKind.NODE, NODE.id)}"
class = "community"
operator = "somebody"
licence = "{licence_text(LICENCE)}"
addresses = ["127.1.0.1:7400", "[::1]:7400"]
weight = 1000
active = true
since_epoch = 2
key = "{key_text(NODE)}"

[[qrng_servers]]
id = "{to_text(IdKind.QRNG, SERVER.id)}"
name = "first light"
emulated = false
active = true
key = "{key_text(SERVER)}"
device_authorities = ["{MAKER}"]
"""


def user_text() -> str:
    hpke = msgpack.packb([MASTER.id, b"\x48" * 1216])
    user = to_text(IdKind.USER, MASTER.id)
    return f"""
[[users]]
id = "{user}"
label = "alice"
master = "{key_text(MASTER)}"
hpke = "{base64_text(hpke)}"
hpke_signature = "{base64_text(MASTER.sign("hpke-key", hpke))}"

[[users.devices]]
id = "{to_text(IdKind.DEVICE, DEVICES[0])}"
revoked = false

[[users.devices]]
id = "{to_text(IdKind.DEVICE, DEVICES[1])}"
revoked = true

[[grants]]
id = "{to_text(IdKind.GRANT, grant_id(MASTER.id, ROOT, 3))}"
owner = "{user}"
root = "{ROOT.hex()}"
count = 1024
stripes = 2
epoch = 3
lifetime_max_ms = 3600000
pinned = "{licence_text(LICENCE)}"
"""


def signed(body: str, key: SigningKey = NETWORK, purpose: str = "network-file") -> str:
    covered = body + f'# network_key = "{key_text(key)}"\n'
    return covered + f'# signature = "{base64_text(key.sign(purpose, covered.encode()))}"\n'


def refusals(good: str) -> list[dict[str, Any]]:
    """Each is a list of replacements in the text, signed again or not, and the code of the refusal."""
    rows: list[tuple[str, dict[str, Any], str]] = [
        ("edited by hand", {"replace": [["weight = 1000", "weight = 1001"]]}, "E-REGISTRY-SIGNATURE"),
        ("a line added at the end", {"append": "\n"}, "E-REGISTRY-SIGNATURE"),
        ("torn", {"keep": len(good) - 700}, "E-REGISTRY-SIGNATURE"),
        ("unsigned", {"keep": good.index("# network_key")}, "E-REGISTRY-SIGNATURE"),
        ("signed by a stranger", {"replace": [], "sign": STRANGER.seed.hex()}, "E-REGISTRY-SIGNATURE"),
        ("signed for another purpose", {"replace": [], "sign": NETWORK.seed.hex(), "purpose": "receipt"}, "E-REGISTRY-SIGNATURE"),
    ]
    wrong = [
        ("another format", "format = 1", "format = 2"),
        ("an unknown key", "weight =", "wieght ="),
        ("a missing key", "weight = 1000\n", ""),
        ("a text for a number", "weight = 1000", 'weight = "1000"'),
        ("a class nobody has", '"community"', '"guest"'),
        ("an id that is not the key's", to_text(IdKind.NODE, NODE.id), to_text(IdKind.NODE, SERVER.id)),
        ("a licence with a wrong letter", f'pinned = "{licence_text(LICENCE)}"', 'pinned = "00000-00000-00000-00000-00000-00001"'),
        ("a user's HPKE key that another signed", key_text(MASTER), key_text(STRANGER)),
        (
            "a grant whose owner is not in the file",
            f'owner = "{to_text(IdKind.USER, MASTER.id)}"',
            f'owner = "{to_text(IdKind.USER, NODE.id)}"',
        ),
        ("a version of 64 bits", "version = 5", "version = 9223372036854775808"),
        ("a float", "stripes = 2", "stripes = 2.0"),
        ("upper case in hexadecimal", f'root = "{ROOT.hex()}"', f'root = "{"AB" * 32}"'),
        ("a revoked that is no boolean", "revoked = true", "revoked = 1"),
        ("a maker's key that is no point of P-256", f"{MAKER}", f"{MAKER[:-1]}8"),
        ("a maker's key in upper case", f"{MAKER}", f"{MAKER.upper()}"),
        ("a maker's key twice", f'["{MAKER}"]', f'["{MAKER}", "{MAKER}"]'),
        ("five makers", f'["{MAKER}"]', f'["{MAKER}", "", "", "", ""]'),
        ("a key given twice", "version = 5", "version = 5\nversion = 5"),
    ]
    for why, old, new in wrong:
        assert old in good
        rows.append((why, {"replace": [[old, new]], "sign": NETWORK.seed.hex()}, "E-REGISTRY-FORMAT"))
    return [{"why": why, **changes, "code": code} for why, changes, code in rows]


def main() -> int:
    good = signed(text())
    vectors = {
        "about": "The registry (proto/spec/registry.md). Hex. `file` is good; `contents` is what it says. `refusals` change it: `keep` so "
        "many characters, `append`, or `replace`; with `sign`, the lines after the text are made anew by the key with this seed.",
        "network": {"chain": CHAIN, "genesis_ms": GENESIS_MS, "epoch_length_ms": LENGTH_MS, "seed": SEED.hex()},
        "epochs": [
            {"number": number, "boundary_ms": GENESIS_MS + number * LENGTH_MS, "seed": epoch_seed(number).hex()}
            for number in (0, 1, 2, 255, 256, 1_000_000)
        ],
        "grants": [
            {"owner": owner.hex(), "root": root.hex(), "epoch": epoch, "id": grant_id(owner, root, epoch).hex()}
            for owner, root, epoch in [(MASTER.id, ROOT, 3), (bytes(32), bytes(32), 0), (b"\xff" * 32, ROOT, (1 << 63) - 1)]
        ],
        "network_key": NETWORK.id.hex(),
        "network_key_text": to_text(IdKind.NETWORK, NETWORK.id),
        "file": good,
        "contents": {
            "version": 5,
            "nodes": [{"id": NODE.id.hex(), "class": 2, "licence": LICENCE.hex(), "weight": 1000, "since_epoch": 2}],
            "qrng_servers": [{"id": SERVER.id.hex(), "name": "first light", "device_authorities": [MAKER]}],
            "users": [{"id": MASTER.id.hex(), "devices": [[DEVICES[0].hex(), False], [DEVICES[1].hex(), True]], "hpke": "48" * 1216}],
            "grants": [{"id": grant_id(MASTER.id, ROOT, 3).hex(), "owner": MASTER.id.hex(), "count": 1024, "pinned": LICENCE.hex()}],
        },
        "refusals": refusals(good),
    }
    FILE.write_text(json.dumps(vectors, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
