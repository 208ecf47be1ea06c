#!/usr/bin/env python3
"""Write `proto/vectors/rotation.json`: quorums, orders of leaders, evidence, sets, folds, reveals, incidents (`proto/spec/consensus.md` §1,
§7, §8; `proto/spec/ledger.md` §3 to §5), from the text of the specification alone.

    scripts/vectors/rotation.py            write the file
    scripts/vectors/rotation.py --check    exit 1 if the file is not what this program would write
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import msgpack

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/rotation.json"


def hashed(label: str, *parts: bytes) -> bytes:
    text = label.encode()
    return hashlib.sha256(len(text).to_bytes(1, "big") + text + b"".join(parts)).digest()


def numbers(seed: bytes) -> Iterator[int]:
    k = 0
    while True:
        yield int.from_bytes(hashed("qustream/1/leaders", seed, k.to_bytes(4, "big"))[:8], "big")
        k += 1


def order(weights: list[int], leads: list[bool], seed: bytes) -> list[int]:
    leading = [number for number, does in enumerate(leads) if does]
    ascending = sorted(weights[number] for number in leading)
    cap = 3 * ascending[(len(ascending) - 1) // 2]
    shares = {number: min(weights[number], cap) for number in leading}
    views = max(64, 4 * len(leading))
    exact = {number: Fraction(views * share, sum(shares.values())) for number, share in shares.items()}
    dealt = {number: int(part) for number, part in exact.items()}
    left = views - sum(dealt.values())
    for number in sorted(leading, key=lambda number: (dealt[number] - exact[number], number))[:left]:
        dealt[number] += 1
    places = [number for number in leading for _ in range(dealt[number])]
    drawn = numbers(seed)
    for place in range(views - 1, 0, -1):
        while True:
            number = next(drawn)
            if number < 2**64 - 2**64 % (place + 1):
                break
        other = number % (place + 1)
        places[place], places[other] = places[other], places[place]
    return places


def leaders(weights: list[int], silent: list[int], seed_byte: int) -> dict[str, Any]:
    leads = [number not in silent for number in range(len(weights))]
    return {
        "weights": weights,
        "silent": silent,
        "seed": bytes([seed_byte]).hex() * 32,
        "order": order(weights, leads, bytes([seed_byte]) * 32),
    }


# What §7 lists: (kind, other kind, whether the digests are equal).
OFFENCES = {(1, 1, False), (2, 2, False), (4, 4, False), (3, 4, False), (2, 4, False)}


def pairs() -> list[dict[str, Any]]:
    """Every two kinds; the digest of a skip is zeros."""
    rows = []
    for one, other, equal in product((1, 2, 3, 4), (1, 2, 3, 4), (True, False)):
        if 3 in (one, other) and equal != (one == other):
            continue
        first = "00" * 32 if one == 3 else "11" * 32
        second = "00" * 32 if other == 3 else "11" * 32 if equal else "22" * 32
        is_offence = (one, other, equal) in OFFENCES or (other, one, equal) in OFFENCES
        rows.append({"kinds": [one, other], "digests": [first, second], "evidence": is_offence})
    return rows


def a_set(rotation: int, count: int) -> dict[str, Any]:
    seats = [[bytes([0x10 + n]) * 16, bytes([0x40 + n]) * 32, 200_000 * 10**9 + n, n % 3 != 2] for n in range(count)]
    seed = hashlib.sha256(b"set").digest()
    packed = msgpack.packb([rotation, seats, seed], use_bin_type=True)
    return {
        "rotation": rotation,
        "seats": [[seat[0].hex(), seat[1].hex(), seat[2], seat[3]] for seat in seats],
        "seed": seed.hex(),
        "hash": hashed("qustream/1/rotation-set", packed).hex(),
    }


def chain(links: int) -> dict[str, Any]:
    seed = bytes(range(32))
    values = [hashed("qustream/1/reveals", seed)]
    for _ in range(links):
        values.append(hashed("qustream/1/reveal", values[-1]))
    return {"seed": seed.hex(), "links": links, "anchor": values[-1].hex(), "reveals": [value.hex() for value in reversed(values[:-1])]}


def main() -> int:
    some = hashlib.sha256(b"some").digest()
    licence = bytes(range(16))
    incidents = [
        {"kind": kind, "licence": licence.hex(), "rotation": rotation,
         "id": hashed("qustream/1/incident", bytes([kind]), licence, rotation.to_bytes(8, "big")).hex()}
        for kind, rotation in ((1, 1), (2, 1), (1, 2**40))
    ]  # fmt: skip
    weights = [200_000 * 10**9] * 3 + [260_000 * 10**9, 5_000_000 * 10**9]
    found = {
        "quorums": [{"weights": each, "quorum": 2 * sum(each) // 3 + 1} for each in ([1], [1, 1, 1], [1] * 4, [5, 1, 1, 9], [10**18, 1])],
        "leaders": [
            leaders([1], [], 0), leaders([1, 1], [], 1), leaders(weights, [], 2), leaders(weights, [4], 2), leaders(weights, [0, 2], 3),
            leaders([7 + n % 5 for n in range(20)], [], 4),
        ],
        "pairs": pairs(),
        "sets": [a_set(1, 1), a_set(2**40, 7)],
        "folds": [{"fold": some.hex(), "reveal": "22" * 32, "next": hashed("qustream/1/fold", some, bytes([0x22]) * 32).hex(),
                   "leaders_seed": hashed("qustream/1/leaders-seed", some).hex()}],
        "chains": [chain(1), chain(10)],
        "incidents": incidents,
        "grants": [{"of": some.hex(), "bought": hashed("qustream/1/grant-id", some).hex(),
                    "rolled": hashed("qustream/1/grant-rolled", some).hex()}],
    }  # fmt: skip
    text = json.dumps(found) + "\n"
    if "--check" in sys.argv:
        return int(not FILE.exists() or FILE.read_text() != text)
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
