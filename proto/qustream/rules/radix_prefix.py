"""Prefixes of paths in the state's tree: strings of nibbles, one a byte, the high one of a byte first (`proto/spec/state.md` §1)."""

from __future__ import annotations

from bisect import bisect_right

from qustream.rules.radix import HASH_BYTES, Pair

__all__ = ["DIGITS", "groups", "prefix_of", "prefix_range"]

# What a prefix is made longer with.
DIGITS = [bytes((number,)) for number in range(16)]
_NIBBLES = [bytes((number >> 4, number & 15)) for number in range(256)]
_LAST = b"\xff" * HASH_BYTES


def prefix_of(path: bytes, depth: int) -> bytes:
    """The first `depth` nibbles of a path."""
    return b"".join([_NIBBLES[byte] for byte in path[: (depth + 1) >> 1]])[:depth]


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """Below the least path beneath a prefix there is nothing of it (the first), nor above the greatest (the second)."""
    digits = prefix.hex()[1::2]
    if len(digits) & 1:
        return bytes.fromhex(digits + "0"), (bytes.fromhex(digits + "f") + _LAST)[:HASH_BYTES]
    low = bytes.fromhex(digits)
    return low, (low + _LAST)[:HASH_BYTES]


def groups(pairs: list[Pair], depth: int) -> list[tuple[int, list[Pair]]]:
    """Rising pairs by the nibble at `depth`: (nibble, its pairs)."""
    at, shift = depth >> 1, 0 if depth & 1 else 4
    found, low = [], 0
    numbers = [pair[at] >> shift & 15 for pair in pairs]
    while low < len(numbers):
        high = bisect_right(numbers, numbers[low], low)  # they rise
        found.append((numbers[low], pairs[low:high]))
        low = high
    return found
