#!/usr/bin/env python3
"""Write `proto/vectors/gossip.json`: ids of messages, rings and assigned peers (`proto/spec/gossip.md`), from the text of the specification
alone.

    scripts/vectors/gossip.py            write the file
    scripts/vectors/gossip.py --check    exit 1 if the file is not what this program would write
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/gossip.json"


def hashed(label: str, *parts: bytes) -> bytes:
    text = label.encode()
    return hashlib.sha256(len(text).to_bytes(1, "big") + text + b"".join(parts)).digest()


def message(topic: int, fill: int, count: int) -> dict[str, Any]:
    body = bytes([fill]) * count
    return {"topic": topic, "body": {"fill": fill, "bytes": count}, "id": hashed("qustream/1/gossip", bytes([topic]), body).hex()}


def standing(seed_byte: int, count: int) -> dict[str, Any]:
    seed = bytes([seed_byte]) * 32
    nodes = [hashlib.sha256(f"node {number}".encode()).digest() for number in range(count)]
    order = sorted(nodes, key=lambda node: (hashed("qustream/1/peering", seed, node), node))
    steps: list[int] = []
    k = 0
    while len(steps) < 4 and len(steps) < count - 1:
        number = int.from_bytes(hashed("qustream/1/peering/offset", seed, k.to_bytes(4, "big"))[:8], "big") % (count - 1) + 1
        if number not in steps:
            steps.append(number)
        k += 1
    first = order.index(nodes[0])
    return {
        "seed": seed.hex(),
        "nodes": count,
        "ring_sha256": hashlib.sha256(b"".join(order)).hexdigest(),
        "offsets": steps,
        "assigned_to_node_0": [order[(first + step) % count].hex() for step in steps],
    }


def main() -> int:
    found = {
        "messages": [message(1, 0x11, 1), message(2, 0x22, 1024), message(2, 0x22, 1025), message(5, 0x00, 16_384)],
        "rings": [standing(0x01, 2), standing(0x01, 4), standing(0x01, 5), standing(0x02, 100), standing(0xFF, 4732)],
    }
    text = json.dumps(found, indent=1) + "\n"
    if "--check" in sys.argv:
        return int(not FILE.exists() or FILE.read_text() != text)
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
