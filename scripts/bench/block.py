"""Bench `block`: building and opening a QuStream block against SHA-256 of 256 KiB.

"build" is what an application of the library gets: the block is read back before it is returned. "build, not read back" leaves that
out: it is the cost of making the bytes. One layout may be cheaper than another (a stretch of R that moves by whole bytes is only copied),
so every call takes the next of 16 units.
"""

from __future__ import annotations

import hashlib
from itertools import cycle

from report import compare, emit, measure

from qustream import block
from qustream.block.build import assemble
from qustream.block.layout import Scatter, draw_locations, draw_sizes, pieces_of
from qustream.block.segment import SegmentKeys

ROUNDS = 9
UNITS = 16
AGAINST = "SHA-256 of 256 KiB"


def unit(number: int) -> tuple[bytes, bytes, bytes]:
    """Return material, scatter and block seed, the same in every run."""
    sizes = (block.MATERIAL_BYTES, block.SCATTER_BYTES, block.SEED_BYTES)
    material, scatter, seed = (hashlib.shake_256(f"bench/{number}/{size}".encode()).digest(size) for size in sizes)
    return material, scatter, seed


def only_assemble(material: bytes, scatter: bytes, block_seed: bytes) -> bytes:
    """Everything `block.build` does except reading the block back."""
    keys, draws = SegmentKeys(block_seed), Scatter(scatter)
    sizes = draw_sizes(draws)
    return assemble(material, keys, pieces_of(sizes, draw_locations(draws)))


def main() -> None:
    units = [unit(number) for number in range(UNITS)]
    blocks = [(block.build(*parts), parts[2]) for parts in units]
    quarter = units[0][0][: block.R_BYTES]
    next_unit, next_block = cycle(units), cycle(blocks)
    sides = {
        "build": (lambda: block.build(*next(next_unit)), 3),
        "build, not read back": (lambda: only_assemble(*next(next_unit)), 3),
        "open": (lambda: block.open(*next(next_block)), 25),
    }
    rows = []
    for name, (ours, at_most) in sides.items():
        times = measure(ours, lambda: hashlib.sha256(quarter).digest(), ROUNDS)
        rows.append(compare(name, times.ours_ms, times.theirs_ms, unit="ms", against=AGAINST, at_most=at_most, cpu_s=times.cpu_s))
    emit("block", rows, ROUNDS)


if __name__ == "__main__":
    main()
