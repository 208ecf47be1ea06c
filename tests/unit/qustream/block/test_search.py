"""Markers at any bit offset, against `str.find`; and what hostile blocks make the search do."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.block import search
from qustream.block.bits import read_bits
from qustream.block.search import find_markers

EVERY = 10_000  # more than any block in these tests can show


def to_bytes(bits: str) -> bytes:
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def by_hand(bits: str, markers: list[int]) -> list[tuple[int, int]]:
    wanted = [f"{marker:064b}" for marker in markers]
    return [(at, i) for at in range(len(bits) - 63) for i, marker in enumerate(wanted) if bits.startswith(marker, at)]


markers64 = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 2**64 - 1, int("01" * 32, 2), int("0011" * 16, 2), 1, 1 << 63]))


@settings(max_examples=200, deadline=None)
@given(st.lists(markers64, min_size=1, max_size=18), st.integers(16, 40), st.data())
def test_finds_what_str_find_finds(markers: list[int], words: int, data: st.DataObject) -> None:
    length = 32 * words
    bits = f"{data.draw(st.one_of(st.just(0), st.integers(0, 2**length - 1))):0{length}b}"
    for at, which in data.draw(st.lists(st.tuples(st.integers(0, length - 64), st.integers(0, len(markers) - 1)), max_size=6)):
        bits = bits[:at] + f"{markers[which]:064b}" + bits[at + 64 :]
    assert find_markers(to_bytes(bits), markers, EVERY) == by_hand(bits, markers)


def test_every_offset_and_both_ends() -> None:
    marker = int.from_bytes(hashlib.sha256(b"marker").digest()[:8], "big")
    for at in range(257 - 64):
        bits = "0" * at + f"{marker:064b}" + "0" * (256 - 64 - at)
        assert find_markers(to_bytes(bits), [marker ^ 1, marker], EVERY) == [(at, 1)]
        cut = bits.replace(f"{marker:064b}", f"{marker ^ 1 << at % 64:064b}")
        assert find_markers(to_bytes(cut), [marker], EVERY) == []


def test_limit() -> None:
    block = bytes.fromhex("0123456789abcdef") * 9
    marker = 0x0123456789ABCDEF
    found = find_markers(block, [marker], 9)
    assert found == [(64 * i, 0) for i in range(9)]
    assert find_markers(block, [marker], 8) is None


def test_same_marker_twice_is_found_for_both() -> None:
    assert find_markers(bytes(4) + b"\xa5" * 8 + bytes(4), [0xA5A5A5A5A5A5A5A5] * 2, EVERY) == [(32, 0), (32, 1)]


def test_decoys_cost_one_comparison_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of words that all pass both sieves and yet hold no marker: as much work as a block can cause."""
    markers = [int.from_bytes(hashlib.sha256(bytes((i,))).digest()[:8], "big") for i in range(18)]
    halves = [marker >> 32 for marker in markers]
    words = 65_626
    block = b"".join(halves[n % 18].to_bytes(4, "big") for n in range(words))
    compared: Counter[int] = Counter()

    def counting(source: bytes, start: int, count: int) -> int:
        compared[start] += 1
        return read_bits(source, start, count)

    monkeypatch.setattr(search, "read_bits", counting)
    assert find_markers(block, markers, EVERY) == []
    assert 0 < sum(compared.values()) <= words
