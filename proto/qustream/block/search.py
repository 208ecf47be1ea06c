"""Find 64-bit markers at any bit offset of a block.

A marker that begins `lead` bits (0 … 31) before a 32-bit boundary fills the whole 32-bit word behind that boundary, so 18 markers
are 18 · 32 = 576 words to look for among the 65,626 words of a block, with no shifted copy of it. Two sieves, then the proof:

1. Each of the four bytes of a word has a table of 256 bytes. Bit b of an entry says that some wanted word whose first byte begins
   with the three bits b has this byte here. The AND of the four entries is zero for all but some 900 words of random data.
   The tables are applied to the whole block at once: `bytes.translate`, and one AND of big integers.
2. What is left is looked up in a dictionary of the wanted words.
3. Where a word matches, all 64 bits are compared.

Nothing that the sieves drop can be a marker, so the answer is exact. Work is linear in the block whatever it holds: at most one
lookup for each word and one comparison for each (word, marker, lead) that agree.
"""

from __future__ import annotations

import re

from qustream.block.bits import read_bits
from qustream.block.segment import MARKER_BITS

__all__ = ["find_markers"]

_WORD_BYTES = 4  # the longest aligned word that a 64-bit marker at any offset is sure to fill: 2 · 32 - 1 < 64
_WORD_BITS = 8 * _WORD_BYTES
_LANE_OF = bytes(1 << (byte >> 5) for byte in range(256))
_NOT_ZERO = re.compile(rb"[\x01-\xff]")  # written as a range: the regex engine then skips zeros in its fast loop
_MARKER_MASK = (1 << MARKER_BITS) - 1

_Wanted = dict[bytes, list[tuple[int, int]]]


def _wanted_words(markers: list[int]) -> _Wanted:
    """Return word -> [(marker's index, lead)]."""
    wanted: _Wanted = {}
    for index, marker in enumerate(markers):
        for shift in range(8):
            moved = (marker << shift & _MARKER_MASK).to_bytes(MARKER_BITS // 8, "big")
            for skip in range(_WORD_BYTES):
                wanted.setdefault(moved[skip : skip + _WORD_BYTES], []).append((index, 8 * skip + shift))
    return wanted


def _sieve(block: bytes, wanted: _Wanted) -> bytes:
    """Return one byte for each word of `block`: zero means that it is none of `wanted`."""
    tables = [bytearray(256) for _ in range(_WORD_BYTES)]
    first, second, third, fourth = tables
    for a, b, c, d in wanted:
        lane = _LANE_OF[a]
        first[a] = lane
        second[b] |= lane
        third[c] |= lane
        fourth[d] |= lane
    left = -1
    for position, table in enumerate(tables):
        left &= int.from_bytes(block[position::_WORD_BYTES].translate(table), "big")
    return left.to_bytes(len(block) // _WORD_BYTES, "big")


def find_markers(block: bytes, markers: list[int], limit: int) -> list[tuple[int, int]] | None:
    """Return every (bit offset, index of marker) at which one of the 64-bit `markers` stands in `block`, in order of offset.

    `None` if there are more than `limit`. `block` is a whole number of 32-bit words.
    """
    assert len(block) % _WORD_BYTES == 0
    block_bits = 8 * len(block)
    wanted = _wanted_words(markers)
    found: list[tuple[int, int]] = []
    for match in _NOT_ZERO.finditer(_sieve(block, wanted)):
        word = match.start()
        for index, lead in wanted.get(block[_WORD_BYTES * word : _WORD_BYTES * (word + 1)], ()):
            offset = _WORD_BITS * word - lead
            if not 0 <= offset <= block_bits - MARKER_BITS:
                continue
            if read_bits(block, offset, MARKER_BITS) == markers[index]:
                found.append((offset, index))
                if len(found) > limit:
                    return None
    return sorted(found)
