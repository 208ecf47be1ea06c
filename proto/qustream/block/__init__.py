"""The QuStream block: 18 segments of a key generator hidden in 2,097,152 random bits (`proto/spec/block.md`).

`build(material, scatter, block_seed) -> bytes` makes a block, `open(block, block_seed) -> bytes` gives the material back.
Whoever holds the 126-byte block seed finds the segments; to everybody else a block is 262,504 random bytes. What that is worth,
and what it is not, stands in the spec. Pure: nothing here draws randomness, waits, or remembers.

Secrets in memory: material, seed, block and every value derived from them are `bytes` and `int`, which Python can neither
overwrite nor keep from being copied. Nothing here can therefore erase them; they last until the interpreter reuses the memory.
Neither function runs in time that is independent of its secrets. Use both where nobody else can read memory or time the process.
"""

from qustream.block.build import build
from qustream.block.layout import BLOCK_BYTES, KGEN_BYTES, MATERIAL_BYTES, R_BYTES, SCATTER_BYTES, SEED_BYTES
from qustream.block.open import open  # noqa: A004 - the protocol's word; always written block.open

__all__ = [
    "BLOCK_BYTES",
    "KGEN_BYTES",
    "MATERIAL_BYTES",
    "R_BYTES",
    "SCATTER_BYTES",
    "SEED_BYTES",
    "build",
    "open",
]
