"""Mutations where no coverage guides them: what a fuzzer does first, from a seed, for the tests of every day."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

__all__ = ["mutants"]

# Headers of MessagePack and of frames, and the edges of numbers.
_TELLING = bytes([0x00, 0x01, 0x7F, 0x80, 0x90, 0x91, 0x9F, 0xC0, 0xC1, 0xC4, 0xC6, 0xCB, 0xCF, 0xD9, 0xDD, 0xDF, 0xFF])
_RUN_MAX = 40  # bytes that one change inserts, removes or repeats: a field or two


def mutants(seeds: Sequence[bytes], count: int, chance: random.Random) -> Iterator[bytes]:
    """The seeds, then `count` of their descendants: some bytes changed, or two of them joined."""
    yield from seeds
    for _ in range(count):
        data = bytearray(chance.choice(seeds))
        if chance.random() < 0.1:
            other = chance.choice(seeds)
            data = data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]
        for _ in range(chance.randint(1, 4)):
            _change(data, chance)
        yield bytes(data)


def _change(data: bytearray, chance: random.Random) -> None:
    place = chance.randint(0, len(data))
    kind = chance.randrange(6)
    if kind == 0 and place < len(data):
        data[place] ^= 1 << chance.randrange(8)
    elif kind == 1 and place < len(data):
        data[place] = chance.choice(_TELLING)
    elif kind == 2:
        data[place:place] = chance.randbytes(chance.randint(1, _RUN_MAX))
    elif kind == 3:
        del data[place : place + chance.randint(1, _RUN_MAX)]
    elif kind == 4:
        data[place:place] = data[max(0, place - chance.randint(1, _RUN_MAX)) : place]
    else:
        del data[place:]
