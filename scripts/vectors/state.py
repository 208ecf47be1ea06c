#!/usr/bin/env python3
"""Write `proto/vectors/state.json`: roots of state trees, proofs that hold, and proofs that do not (`proto/spec/state.md`).

Everything is made here by the words of the specification, with the standard library and `msgpack`; nothing comes from the library.

    scripts/vectors/state.py            write the file (always the same one)
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgpack

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/state.json"
BUCKET_MAX = 16
Pairs = list[tuple[bytes, bytes]]
Batch = dict[bytes, bytes | None]


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def bucket(pairs: Pairs) -> bytes:
    return b"".join(path + value for path, value in pairs)


def split(pairs: Pairs, depth: int) -> list[Pairs]:
    return [[pair for pair in pairs if int(pair[0].hex()[depth], 16) == number] for number in range(16)]


def node(pairs: Pairs, depth: int) -> bytes:
    """The bytes of an inner node."""
    groups = split(pairs, depth)
    here = "".join("1" if group else "0" for group in groups)
    deeper = "".join("1" if len(group) > BUCKET_MAX else "0" for group in groups)
    hashes = [tree_hash(group, depth + 1) for group in groups if group]
    return int(here, 2).to_bytes(2, "big") + int(deeper, 2).to_bytes(2, "big") + b"".join(hashes)


def tree_hash(pairs: Pairs, depth: int = 0) -> bytes:
    return sha256(b"\x01", bucket(pairs)) if len(pairs) <= BUCKET_MAX else sha256(b"\x02", node(pairs, depth))


def pairs_of(entries: dict[bytes, bytes]) -> Pairs:
    return sorted((sha256(key), sha256(b"\x00", value)) for key, value in entries.items())


def proof(entries: dict[bytes, bytes], key: bytes) -> tuple[list[bytes], bytes]:
    pairs, depth, inner = pairs_of(entries), 0, []
    while len(pairs) > BUCKET_MAX:
        inner.append(node(pairs, depth))
        pairs = split(pairs, depth)[int(sha256(key).hex()[depth], 16)]
        depth += 1
    return inner, bucket(pairs)


def packed(inner: list[bytes], leaf: bytes) -> str:
    return bytes(msgpack.packb([inner, leaf])).hex()


def stated(entries: dict[bytes, bytes], key: bytes) -> dict[str, Any]:
    value = entries.get(key)
    return {"key": key.hex(), "value": None if value is None else value.hex(), "proof": packed(*proof(entries, key))}


def case(name: str, batches: list[Batch], asked: list[bytes]) -> dict[str, Any]:
    entries: dict[bytes, bytes] = {}
    for batch in batches:
        for key, value in batch.items():
            entries.pop(key, None)
            if value is not None:
                entries[key] = value
    shown = [[[key.hex(), None if value is None else value.hex()] for key, value in batch.items()] for batch in batches]
    root = tree_hash(pairs_of(entries)).hex()
    return {"name": name, "batches": shown, "root": root, "proofs": [stated(entries, key) for key in asked]}


def numbered(count: int, start: int = 0) -> Batch:
    return {b"\x05account %d" % number: b"amount %d" % number for number in range(start, start + count)}


def beneath(digits: str, count: int) -> list[bytes]:
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        key = b"%d" % number
        if sha256(key).hex().startswith(digits):
            found.append(key)
        number += 1
    return found


def refused() -> list[dict[str, Any]]:
    """All under one root; the value claimed beside each."""
    entries = {key: value for key, value in numbered(200).items() if value is not None}
    key, absent = b"\x05account 7", b"\x05account 700"
    inner, leaf = proof(entries, key)
    other_inner, other_leaf = proof(entries, b"\x05account 8")
    value, root = entries[key].hex(), tree_hash(pairs_of(entries)).hex()
    flipped = bytearray(leaf)
    flipped[-1] ^= 1
    paths = [leaf[at : at + 64] for at in range(0, len(leaf), 64)]
    where = next(at for at, pair in enumerate(paths) if pair[:32] == sha256(key))
    cases = [
        ("another value", key, b"amount 8".hex(), packed(inner, leaf)),
        ("said to be absent", key, None, packed(inner, leaf)),
        ("absent, said to be there", absent, value, packed(*proof(entries, absent))),
        ("a bit of the bucket", key, value, packed(inner, bytes(flipped))),
        ("the bucket left out", key, None, packed(inner, b"")),
        ("its pair left out", key, None, packed(inner, b"".join(paths[:where] + paths[where + 1 :]))),
        ("another key's proof", key, None, packed(other_inner, other_leaf)),
        ("an inner node twice", key, value, packed([inner[0], *inner], leaf)),
        ("an inner node missing", key, value, packed(inner[:-1], leaf)),
        ("no inner node", key, value, packed([], leaf)),
        ("pairs in falling order", key, value, packed(inner, b"".join(reversed(paths)) + paths[0])),
    ]
    return [{"name": name, "root": root, "key": key.hex(), "value": value, "proof": text} for name, key, value, text in cases]


def main() -> None:
    full = beneath("ab", 17)
    filled: Batch = dict.fromkeys(full, b"x")
    trees = [
        case("no entry", [{}], [b"\x01"]),
        case("one entry", [{b"\x01": b"v"}], [b"\x01", b"\x02"]),
        case("an empty value is a value", [{b"\x01": b""}], [b"\x01", b"\x02"]),
        case("a full bucket", [numbered(16)], [b"\x05account 3", b"\x05account 16"]),
        case("split", [numbered(17)], [b"\x05account 3", b"\x05account 17"]),
        case("split and one again", [numbered(17), {b"\x05account 3": None}], [b"\x05account 3", b"\x05account 4"]),
        case("seventeen that begin alike", [filled], [full[0], b"\x01"]),
        case("sixteen of them", [filled, {full[5]: None}], [full[0], full[5]]),
        case("two hundred, in two steps", [numbered(120), numbered(100, 100)], [b"\x05account 150", b"\x05account 201"]),
        case("many taken out", [numbered(200), dict.fromkeys(numbered(190))], [b"\x05account 195", b"\x05account 0"]),
    ]
    FILE.write_text(json.dumps({"empty_root": tree_hash([]).hex(), "trees": trees, "refused": refused()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
