"""Chance for a core that has none: a stream of numbers that follows from the 64 random bits of the last tick. Where others must come to
the same order it is made of hashes (`qustream.rules`); this decides only what one node does by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Chance"]

_T = TypeVar("_T")
# Knuth's 64-bit linear congruential generator (MMIX): good enough to deal cards by, and the same everywhere.
_MULTIPLIER, _INCREMENT, _MASK = 6364136223846793005, 1442695040888963407, (1 << 64) - 1


class Chance:
    """Fresh with every `feed`; between two of them it goes on from where it is."""

    __slots__ = ("_state",)

    def __init__(self, draw: int = 0) -> None:
        self._state = draw & _MASK

    def feed(self, draw: int) -> None:
        """Take new random bits in."""
        self._state = (self._state ^ draw) & _MASK

    def below(self, count: int) -> int:
        """A number from 0 to `count` − 1; `count` is below 2^31."""
        self._state = (self._state * _MULTIPLIER + _INCREMENT) & _MASK
        return (self._state >> 33) % count

    def choice(self, items: Sequence[_T]) -> _T:
        """One of `items`, of which there is one at least."""
        return items[self.below(len(items))]

    def dealt(self, items: Sequence[_T], count: int) -> list[_T]:
        """`count` of `items`, or all if there are fewer, none of them twice, in an order that is all chance."""
        out = list(items)
        count = min(count, len(out))
        for place in range(count):
            other = place + self.below(len(out) - place)
            out[place], out[other] = out[other], out[place]
        return out[:count]

    def about(self, value_ms: int) -> int:
        """`value_ms`, a quarter more or less."""
        return value_ms - value_ms // 4 + self.below(value_ms // 2 + 1)
