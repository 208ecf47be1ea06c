"""Chance for a core that has none: a stream of numbers that follows from the 64 random bits of the last tick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Chance"]

_T = TypeVar("_T")
# The multiplier of Knuth's 64-bit linear congruential generator (MMIX), as gossip's `shuffled` has it.
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

    def about(self, value_ms: int) -> int:
        """`value_ms`, a quarter more or less."""
        return value_ms - value_ms // 4 + self.below(value_ms // 2 + 1)
