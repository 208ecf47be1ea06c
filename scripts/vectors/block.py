#!/usr/bin/env python3
"""Write `proto/vectors/block.json`: a second, naive implementation of `proto/spec/block.md` on strings of '0' and '1'.

It shares no code with the library and is built differently on purpose: pieces are inserted from the right, so no offset is ever
computed; opening backtracks from left to right. The tests compare the library with it. Standard library only.

    scripts/vectors/block.py            write the file
    scripts/vectors/block.py --check    exit 1 if the file is not what this program would write
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "proto/vectors/block.json"
R_BITS = 2_097_152
R_BYTES = R_BITS // 8
Piece = tuple[int, int, int, int]  # offset, segment, size, location


class Refused(Exception):
    """A coded refusal; the code is its only argument."""


def to_bits(data: bytes) -> str:
    return f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""


def to_bytes(bits: str) -> bytes:
    assert len(bits) % 8 == 0
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def field(value: int, width: int) -> str:
    return f"{value:0{width}b}"


def digest(seed: bytes, message: bytes) -> bytes:
    return hmac.new(seed, message, hashlib.sha512).digest()


def marker(seed: bytes, i: int) -> str:
    return to_bits(digest(seed, b"qustream/1/block" + bytes([i])))[:64]


def mask(seed: bytes, i: int) -> str:
    return to_bits(digest(seed, b"qustream/1/block" + bytes([i])))[64:104]


def check_bits(seed: bytes, i: int, location: int, size: int) -> str:
    return to_bits(digest(seed, b"qustream/1/check" + bytes([i]) + location.to_bytes(3, "big") + bytes([size])))[-7:]


def xor(a: str, b: str) -> str:
    return "".join("1" if x != y else "0" for x, y in zip(a, b, strict=True))


def suffix(seed: bytes, i: int, location: int, size: int) -> str:
    plain = field(location, 21) + field(i, 5) + field(size, 7) + check_bits(seed, i, location, size)
    return xor(plain, mask(seed, i))


def piece(seed: bytes, i: int, segment: str, location: int) -> str:
    return marker(seed, i) + segment + suffix(seed, i, location, len(segment))


# --- building


def byte_stream(scatter: bytes, used: list[int]) -> Iterator[int]:
    for byte in scatter:
        used[0] += 1
        yield byte
    raise Refused("E-SCATTER-SHORT")


def uniform(stream: Iterator[int], n: int) -> int:
    for byte in stream:
        if byte < 256 // n * n:
            return byte % n
    raise AssertionError


def draw_sizes(stream: Iterator[int]) -> list[int]:
    size: dict[int, int] = {}
    while len(size) < 18:
        free = [i for i in range(18) if i not in size]
        partners = free[1:]
        partner = partners[uniform(stream, len(partners))] if len(partners) > 1 else partners[0]
        delta = uniform(stream, 33) - 16
        size[free[0]], size[partner] = 56 + delta, 56 - delta
    return [size[i] for i in range(18)]


def draw_locations(stream: Iterator[int]) -> list[int]:
    drawn: dict[int, None] = {}
    while len(drawn) < 18:
        a, b, c = next(stream), next(stream), next(stream)
        drawn.setdefault((a * 65536 + b * 256 + c) % R_BITS)
    return list(drawn)


def insert(r: str, kgen: str, seed: bytes, sizes: list[int], locations: list[int]) -> str:
    segments = [kgen[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(18)]
    block = r
    for location, i in sorted(((at, i) for i, at in enumerate(locations)), reverse=True):
        block = block[:location] + piece(seed, i, segments[i], location) + block[location:]
    return block


def build(material: bytes, scatter: bytes, seed: bytes) -> dict[str, Any]:
    """Return the block and how it came about: block, sizes, locations, draws of locations, scatter bytes used."""
    if len(material) != R_BYTES + 126 or len(scatter) != 128 or len(seed) != 126:
        raise Refused("E-BLOCK-SIZE")
    used = [0]
    stream = byte_stream(scatter, used)
    sizes = draw_sizes(stream)
    for draws in (1, 2, 3):
        locations = draw_locations(stream)
        block = to_bytes(insert(to_bits(material[:R_BYTES]), to_bits(material[R_BYTES:]), seed, sizes, locations))
        try:
            open_block(block, seed)
        except Refused:
            continue
        return {"block": block, "sizes": sizes, "locations": locations, "draws": draws, "used": used[0]}
    raise AssertionError


# --- opening


def occurrences(block: str, seed: bytes) -> list[tuple[int, int]]:
    found = []
    for i in range(18):
        at = block.find(marker(seed, i))
        while at >= 0:
            found.append((at, i))
            at = block.find(marker(seed, i), at + 1)
    return sorted(found)


def pieces(block: str, seed: bytes, markers: list[tuple[int, int]]) -> list[Piece]:
    found = []
    for offset, i in markers:
        for size in range(40, 73):
            tail = block[offset + 64 + size : offset + 104 + size]
            if len(tail) == 40:
                location = int(xor(tail, mask(seed, i))[:21], 2)
                if tail == suffix(seed, i, location, size):
                    found.append((offset, i, size, location))
    return found


def readings(all_pieces: list[Piece], chain: tuple[Piece, ...] = ()) -> Iterator[tuple[Piece, ...]]:
    """Left to right, with backtracking: whatever may stand next, stands next."""
    inserted = sum(104 + size for _, _, size, _ in chain)
    if len(chain) == 18:
        if inserted == 18 * 104 + 1008:
            yield chain
        return
    for candidate in all_pieces:
        offset, i, _, location = candidate
        later = not chain or location > chain[-1][3]
        if later and i not in [j for _, j, _, _ in chain] and location == offset - inserted:
            yield from readings(all_pieces, (*chain, candidate))


def open_block(block: bytes, seed: bytes) -> bytes:
    """Return the material, or raise `Refused(code)`."""
    if len(block) != R_BYTES + 360 or len(seed) != 126:
        raise Refused("E-BLOCK-SIZE")
    text = to_bits(block)
    markers = occurrences(text, seed)
    if len(markers) > 64:
        raise Refused("E-BLOCK-AMBIGUOUS")
    all_pieces = pieces(text, seed, markers)
    if len(all_pieces) > 24:
        raise Refused("E-BLOCK-AMBIGUOUS")
    found = list(readings(all_pieces))
    if len(found) != 1:
        raise Refused("E-BLOCK-AMBIGUOUS" if found else "E-BLOCK-OPEN")
    segments = {i: text[offset + 64 : offset + 64 + size] for offset, i, size, _ in found[0]}
    for offset, _, size, _ in reversed(found[0]):
        text = text[:offset] + text[offset + 104 + size :]
    return to_bytes(text + "".join(segments[i] for i in range(18)))


# --- the file


def edit(data: bytes, writes: list[list[Any]]) -> bytes:
    """Return `data` with each [bit offset, bits] written over it, or inverted where the bits are "~"."""
    text = to_bits(data)
    for offset, bits in writes:
        if bits == "~":
            bits = "0" if text[offset] == "1" else "1"
        text = text[:offset] + bits + text[offset + len(bits) :]
    return to_bytes(text)


def expand(spec: dict[str, Any], size: int) -> bytes:
    """Return the bytes an input of the file stands for."""
    data = b""
    if "shake256" in spec:
        data = hashlib.shake_256(spec["shake256"].encode()).digest(size)
    elif "fill" in spec:
        data = bytes.fromhex(spec["fill"]) * size
    elif "hex" in spec:
        data = bytes.fromhex(spec["hex"])
    return edit(data, spec["write"]) if "write" in spec else data


def inputs(spec: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    return expand(spec["material"], R_BYTES + 126), expand(spec["scatter"], 128), expand(spec["block_seed"], 126)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def offsets(built: dict[str, Any]) -> list[int]:
    """Return where the marker of each segment stands in the block."""
    sizes, locations = built["sizes"], built["locations"]
    return [at + sum(104 + s for s, other in zip(sizes, locations, strict=True) if other < at) for at in locations]


def known_answer(name: str, why: str, spec: dict[str, Any]) -> dict[str, Any]:
    material, scatter, seed = inputs(spec)
    built = build(material, scatter, seed)
    assert open_block(built["block"], seed) == material
    return {
        "name": name, "why": why, **spec,
        "material_sha256": sha256(material),
        "markers": [f"{int(marker(seed, i), 2):016x}" for i in range(18)],
        "masks": [f"{int(mask(seed, i), 2):010x}" for i in range(18)],
        "sizes": built["sizes"], "locations": built["locations"], "offsets": offsets(built),
        "suffixes": [
            f"{int(suffix(seed, i, built['locations'][i], built['sizes'][i]), 2):010x}" for i in range(18)
        ],
        "location_draws": built["draws"], "scatter_bytes_used": built["used"],
        "block_sha256": sha256(built["block"]),
    }  # fmt: skip


def labelled(label: str) -> dict[str, Any]:
    return {part: {"shake256": f"qustream/vector/{label}/{part}"} for part in ("material", "scatter", "block_seed")}


def edge_scatter() -> str:
    """Neighbours paired and moved apart by the most there is; locations at both ends of R and next to each other.

    Three bytes are at the limit of rejection, one location comes twice, and the three bits above each location are not zero.
    """
    sizes = [255]
    for k in range(8):
        sizes += [0, 231, 0] if k == 3 else [0, 32 if k % 2 else 0]
    sizes += [255, 230]
    last = R_BITS - 1
    places = [0, last, 0, last - 1, 1, 2, 3, 1_000_000, 1_000_001, 7, 8, 9, 15, 16, 17, 31, 32, 2_000_000, 65_536]
    text = bytes(sizes) + b"".join((place + 5 * R_BITS).to_bytes(3, "big") for place in places)
    return (text + bytes(128 - len(text))).hex()


def again(spec: dict[str, Any]) -> list[list[Any]]:
    """Return the write to R after which the first layout of this scatter has two readings: its last piece stands twice."""
    material, scatter, seed = inputs(spec)
    built = build(material, scatter, seed)
    at = max(built["locations"])
    i = built["locations"].index(at)
    size = built["sizes"][i]
    copy_at = at + 1000
    # In the other reading the true last piece is R, so the copy's location counts its length as well.
    copy = piece(seed, i, f"{'10' * 40:.{size}}", copy_at + 104 + size)
    assert built["draws"] == 1
    assert copy_at + len(copy) < R_BITS
    return [[copy_at, copy]]


def blocks() -> Iterator[dict[str, Any]]:
    for label in ("first", "second", "third"):
        yield known_answer(label, "all inputs random", labelled(label))
    edges = labelled("edges") | {"scatter": {"hex": edge_scatter()}}
    yield known_answer("edges", "sizes 40 and 72, locations at both ends of R and adjacent, rejected and repeated draws", edges)
    zeros = labelled("zeros") | {"material": {"fill": "00"}}
    yield known_answer("zeros", "material of zeros: what remains is markers, suffixes and places", zeros)
    twice = labelled("twice")
    twice["material"] = twice["material"] | {"write": again(twice)}
    yield known_answer("twice", "the first layout has two readings, so the locations are drawn a second time", twice)


def refused_builds() -> Iterator[dict[str, Any]]:
    base = labelled("first")
    yield {"name": "scatter-rejected", "why": "every byte is thrown away", **base, "scatter": {"fill": "ff"}, "code": "E-SCATTER-SHORT"}
    yield {"name": "scatter-repeats", "why": "every location is 0", **base, "scatter": {"fill": "00"}, "code": "E-SCATTER-SHORT"}
    wasteful = hashlib.shake_256(b"qustream/vector/short/scatter").hexdigest(124)
    short = labelled("short") | {"scatter": {"hex": "ffffffff" + wasteful}}
    short["material"] = short["material"] | {"write": again(short)}
    why = "the first layout has two readings, and the four bytes thrown away are missing for a second draw of 54"
    yield {"name": "scatter-short-second", "why": why, **short, "code": "E-SCATTER-SHORT"}
    for part, what in (("material", "00"), ("scatter", "00" * 127), ("block_seed", "00" * 127)):
        spec = {**base, part: {"hex": what}, "code": "E-BLOCK-SIZE"}
        yield {"name": f"size-{part.replace('_', '-')}", "why": f"the {part.replace('_', ' ')} has the wrong size", **spec}


def planted(spec: dict[str, Any], built: dict[str, Any], count: int, *, whole: bool) -> list[list[Any]]:
    """Return writes that plant `count` markers, or whole pieces with a location of their own choice, away from the true ones."""
    _, _, seed = inputs(spec)
    taken = [(at - 300, at + 300) for at in offsets(built)]
    writes: list[list[Any]] = []
    at = 5
    while len(writes) < count:
        at += 331
        if all(not low < at < high for low, high in taken):
            i = len(writes) % 18
            writes.append([at, piece(seed, i, "1" * 50, 12_345 + i) if whole else marker(seed, i)])
    return writes


def doubled(spec: dict[str, Any], built: dict[str, Any]) -> list[list[Any]]:
    """Return the write to the block that stands its last piece a second time, 1,000 bits later, where it fits as well."""
    _, _, seed = inputs(spec)
    i = built["locations"].index(max(built["locations"]))
    copy = piece(seed, i, "10" * 20 + "1" * (built["sizes"][i] - 40), built["locations"][i] + 1000)
    return [[offsets(built)[i] + 1000, copy]]


def opened() -> Iterator[dict[str, Any]]:
    """Blocks that somebody changed: what must come of each."""
    spec = labelled("first")
    built = build(*inputs(spec))
    at = offsets(built)
    after = [start + 64 + size for start, size in zip(at, built["sizes"], strict=True)]
    cases: list[tuple[str, str, list[list[Any]]]] = [
        ("flip-random", "a bit of R is inverted: opens, with another material, which the leaf then refutes", [[at[0] - 1, "~"]]),
        ("flip-segment", "a bit of a segment is inverted: opens, with another kGen", [[at[7] + 64, "~"]]),
        ("flip-marker", "one bit of one marker is inverted: that marker is missing", [[at[17] + 63, "~"]]),
        ("erase-marker", "a marker is overwritten", [[at[3], "0" * 64]]),
        *((f"flip-suffix-{what}", f"a bit of the {what} in a suffix is inverted", [[after[i] + bit, "~"]])
          for i, (what, bit) in enumerate((("location", 20), ("order", 25), ("size", 32), ("check", 39)))),
        ("marker-twice", "a marker stands twice, no suffix behind the second: one reading", planted(spec, built, 1, whole=False)),
        ("piece-twice", "the last piece stands in two places, each consistent", doubled(spec, built)),
        ("markers-64", "64 markers: at the limit", planted(spec, built, 46, whole=False)),
        ("markers-65", "65 markers: above the limit", planted(spec, built, 47, whole=False)),
        ("pieces-24", "24 pieces, one reading: at the limit", planted(spec, built, 6, whole=True)),
        ("pieces-25", "25 pieces, one reading: above the limit", planted(spec, built, 7, whole=True)),
    ]  # fmt: skip
    for name, why, writes in cases:
        yield outcome(name, why, {"of": "first", "write": writes}, edit(built["block"], writes), inputs(spec)[2])
    other = {"shake256": "qustream/vector/second/block_seed"}
    yield outcome("other-seed", "the seed of another block", {"of": "first", "block_seed": other}, built["block"], expand(other, 126))
    yield outcome("truncated", "one byte is missing", {"of": "first", "keep": 262_503}, built["block"][:-1], inputs(spec)[2])
    long = {"of": "first", "block_seed": {"hex": "00" * 127}}
    yield outcome("long-seed", "a seed of 127 bytes", long, built["block"], bytes(127))


def outcome(name: str, why: str, how: dict[str, Any], block: bytes, seed: bytes) -> dict[str, Any]:
    case = {"name": name, "why": why, **how, "block_sha256": sha256(block)}
    try:
        return {**case, "material_sha256": sha256(open_block(block, seed))}
    except Refused as refused:
        return {**case, "code": str(refused)}


def refusal(spec: dict[str, Any]) -> str | None:
    try:
        build(*inputs(spec))
    except Refused as refused:
        return str(refused)
    return None


def document() -> str:
    about = (
        "QuStream block v1 (proto/spec/block.md). An input is {shake256: label}: SHAKE-256 of the ASCII label, {fill: byte} repeated, "
        "or {hex}; then each [bit offset, bits] of `write` is written over it, where '~' inverts one bit. Lists of 18 are in order of "
        "segment. `open` cases change the block named by `of`, cut it to `keep` bytes, or open it with another seed."
    )
    refused = list(refused_builds())
    assert all(refusal(case) == case["code"] for case in refused)
    return json.dumps({"about": about, "build": list(blocks()), "build_refused": refused, "open": list(opened())}, indent=1) + "\n"


def main() -> int:
    text = document()
    if "--check" in sys.argv[1:]:
        return 0 if FILE.read_text() == text else 1
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
