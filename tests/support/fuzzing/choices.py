"""Decisions out of bytes: how an input of a fuzzer becomes a history, the same one each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Choices"]

_T = TypeVar("_T")


class Choices:
    """Reads an input from its beginning; when it is used up every number is 0 and all bytes are empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether something is left."""
        return self._at < len(self._data)

    def number(self, size: int) -> int:
        """Of `size` bytes, big-endian."""
        return int.from_bytes(self.bytes(size), "big")

    def below(self, bound: int) -> int:
        """Of one byte up to 256, else of two."""
        return self.number(1 if bound <= 256 else 2) % bound

    def one_of(self, values: Sequence[_T]) -> _T:
        return values[self.below(len(values))]

    def bytes(self, size: int) -> bytes:
        """The next `size` bytes, or what is left of them."""
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def rest(self) -> bytes:
        return self.bytes(len(self._data))
