#!/usr/bin/env python3
"""Write `proto/vectors/leaf-log.json`: leaf logs that hold, and what must be refused (`proto/spec/leaf-log.md`).

Records, headers, roots and hashes are made here with the `msgpack` package; from the library come signatures alone.

    scripts/vectors/leaf_log.py            write the file (signatures are hedged: new ones every time)
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import msgpack

from qustream.identity.signing import SigningKey

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/leaf-log.json"
CHAIN = "qustream-test"
SERVER, STRANGER = SigningKey(bytes(range(32))), SigningKey(b"\x02" * 32)
NODES = [bytes([0xA0 + number] * 32) for number in range(2)]
DEVICE = ["chardev", "appliance", "1", 8, 7900, 0, False, False, "", None]
HEALTH = [1 << 20, 2048, 1, 7, 24, 512, [40, 60]]
CONDITIONING = ["aes-256-cbc-mac", 32, 16, 987]
TIMES = [1_700_000_000_000, 1_700_000_002_000, 1_700_000_600_000]
Segment = list[bytes]
Leaf = tuple[int, int, str]  # number of the node, sequence, name of the material


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def leaf_data(leaf: Leaf) -> bytes:
    node, sequence, name = leaf
    return NODES[node] + sequence.to_bytes(8, "big") + sha256(name.encode())


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1."""
    if len(leaves) == 1:
        return sha256(b"\x00", leaves[0])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01", tree_hash(leaves[:split]), tree_hash(leaves[split:]))


def framed(fields: list[Any]) -> bytes:
    body = msgpack.packb(fields)
    return len(body).to_bytes(4, "big") + sha256(body) + body


def header(number: int, previous: bytes, *, server: SigningKey = SERVER, chain: str = CHAIN) -> bytes:
    return framed([chain, server.id, number, previous])


def entry(batch: int, units: list[Leaf], *, key: SigningKey = SERVER, logged: list[Leaf] | None = None, **stated: Any) -> bytes:
    """An entry; `logged`: what the log says instead of what was attested; `stated`: other fields of the attestation."""
    data = [leaf_data(leaf) for leaf in units]
    server, chain = stated.get("server", SERVER.id), stated.get("chain", CHAIN)
    body = msgpack.packb([chain, server, batch, DEVICE, HEALTH, CONDITIONING, *TIMES, tree_hash(data), stated.get("leaves", len(data))])
    return framed([[body, key.sign("attestation", body)], b"".join(map(leaf_data, logged or units))])


def chained(*segments: list[bytes]) -> list[Segment]:
    """Segments of these entries, each bound to the one before it."""
    made: list[Segment] = []
    for number, entries in enumerate(segments):
        made.append([header(number, sha256(*made[-1]) if made else bytes(32)), *entries])
    return made


def shown(segments: list[Segment], first: int = 0) -> dict[str, Any]:
    """Each segment as a list of its parts; an entry that stands in several logs by its name."""
    return {"first": first, "segments": [[NAMED.get(part, part.hex()) for part in segment] for segment in segments]}


ONE, TWO, THREE = (entry(batch, [(node, 10 * batch + node, f"unit {batch} {node}") for node in range(2)]) for batch in (5, 6, 9))
LAST = entry(10, [(0, 100, "unit 10")])
NAMED = {ONE: "one", TWO: "two", THREE: "three", LAST: "last"}


def good() -> list[dict[str, Any]]:
    log = chained([ONE], [TWO, THREE], [LAST])
    rows: list[tuple[str, list[Segment], int, dict[str, Any]]] = [
        ("three segments", log, 0, {"entries": 4, "leaves": 7, "last_batch": 10, "torn_bytes": 0}),
        ("without its beginning", log[1:], 1, {"entries": 3, "leaves": 5, "last_batch": 10, "torn_bytes": 0}),
        ("its last segment is empty", chained([ONE], []), 0, {"entries": 1, "leaves": 2, "last_batch": 5, "torn_bytes": 0}),
        ("nothing yet", chained([]), 0, {"entries": 0, "leaves": 0, "last_batch": -1, "torn_bytes": 0}),
    ]
    for why, tail in [
        ("its last entry is torn in the length", LAST[:3]),
        ("its last entry is torn in the body", LAST[:1000]),
        ("its last entry lacks a byte", LAST[:-1]),
        ("zeros where its last entry should be", bytes(len(LAST))),
        ("its last entry is torn in the length, and zeros follow", LAST[:3] + bytes(len(LAST) - 3)),
        ("its last entry is torn in the hash, and zeros follow", LAST[:20] + bytes(len(LAST) - 20)),
        ("the second half of its last entry is zeros", LAST[:2000] + bytes(len(LAST) - 2000)),
    ]:
        rows.append((why, chained([ONE, tail]), 0, {"entries": 1, "leaves": 2, "last_batch": 5, "torn_bytes": len(tail)}))
    return [{"why": why, **shown(log, first), **holds, "head": head(log, holds["torn_bytes"])} for why, log, first, holds in rows]


def head(log: list[Segment], torn: int) -> str:
    data = b"".join(log[-1])
    return sha256(data[: len(data) - torn]).hex()


def bad() -> list[dict[str, Any]]:
    log, bad_log, twice = chained([ONE], [TWO, THREE], [LAST]), "E-LEAF-LOG", "E-MATERIAL-REPEATED"
    flipped = [[*log[0][:-1], ONE[:-1] + bytes([ONE[-1] ^ 1])], *log[1:]]
    rows: list[tuple[str, list[Segment], str]] = [
        ("a segment is missing", [log[0], log[2]], bad_log),
        ("two in the wrong order", [log[1], log[0]], bad_log),
        ("a bit of a closed segment", flipped, bad_log),
        ("a closed segment is torn", chained([ONE, TWO[:100]], [THREE]), bad_log),
        ("a closed segment without an entry", chained([], [ONE]), bad_log),
        ("a byte between two entries", chained([ONE, b"\x00", TWO]), bad_log),
        ("a record longer than any entry", chained([ONE, (314_683).to_bytes(4, "big") + bytes(32) + b"\x01"]), bad_log),
        ("a bit of an entry before another", chained([ONE[:-1] + bytes([ONE[-1] ^ 1]), TWO]), bad_log),
        ("an empty record", chained([ONE, bytes(4) + sha256(), TWO]), bad_log),
        ("a record that promises four gigabytes", chained([ONE, b"\xff" * 4, TWO]), bad_log),
        ("an entry that is no entry, before another", chained([ONE, framed([1, 2]), TWO]), bad_log),
        ("leaves that are cut", chained([ONE, framed([[b"", bytes(3373)], bytes(100)]), TWO]), bad_log),
        ("no header", [[ONE]], bad_log),
        ("an empty file", [[]], bad_log),
        ("a header with another number", [[header(1, bytes(32)), ONE]], bad_log),
        ("a first segment that has one before it", [[header(0, b"\x01" * 32), ONE]], bad_log),
        ("of another network", [[header(0, bytes(32), chain="qustream-main"), ONE]], bad_log),
        ("of a server nobody knows", [[header(0, bytes(32), server=STRANGER), ONE]], bad_log),
        ("signed by somebody else", chained([entry(5, [(0, 1, "a")], key=STRANGER)]), "E-SIGNATURE"),
        ("an attestation of another network", chained([entry(5, [(0, 1, "a")], chain="qustream-main")]), bad_log),
        ("an attestation of another server", chained([entry(5, [(0, 1, "a")], server=STRANGER.id)]), bad_log),
        ("another leaf than was attested", chained([entry(5, [(0, 1, "a")], logged=[(0, 1, "b")])]), bad_log),
        ("a leaf fewer than was attested", chained([entry(5, [(0, 1, "a"), (0, 2, "b")], logged=[(0, 1, "a")])]), bad_log),
        ("a size that is not that of its leaves", chained([entry(5, [(0, 1, "a")], leaves=2)]), bad_log),
        ("a batch number that does not rise", chained([TWO, ONE]), bad_log),
        ("a batch twice", chained([ONE], [ONE]), bad_log),
        ("one material for two nodes", chained([entry(1, [(0, 1, "a"), (1, 1, "a")])]), twice),
        ("one material in two segments", chained([entry(1, [(0, 1, "a")])], [entry(2, [(0, 2, "b"), (0, 3, "a")])]), twice),
        ("one number twice for one node", chained([entry(1, [(0, 1, "a")]), entry(2, [(1, 1, "b"), (0, 1, "c")])]), bad_log),
    ]  # fmt: skip
    return [{"why": why, **shown(segments, 1 if why == "two in the wrong order" else 0), "code": code} for why, segments, code in rows]


def main() -> int:
    vectors = {
        "about": "Leaf logs (proto/spec/leaf-log.md). Hex. The server's signing key has this seed. A segment is given as the parts of its "
        "file, some of them by the name of an entry; the files of a log are numbered from `first`. `good` logs hold; `head` is SHA-256 of "
        "the last segment without what is torn. `bad` logs are refused with `code`.",
        "chain": CHAIN,
        "server_seed": SERVER.seed.hex(),
        "segment_name": "0000000000.leaves",
        "entries": {name: part.hex() for part, name in NAMED.items()},
        "good": good(),
        "bad": bad(),
    }
    FILE.write_text(json.dumps(vectors, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
