"""Every reading of a block, and the two limits that bound the work of finding them."""

from __future__ import annotations

from typing import Any

import pytest

from qustream.block import reading
from qustream.block.layout import Piece
from qustream.block.reading import MAX_MARKERS, MAX_PIECES, Outcome, read_block
from qustream.block.segment import SegmentKeys


def over(text: str, at: int, bits: str) -> str:
    return text[:at] + bits + text[at + len(bits) :]


def in_order(example: Any) -> list[int]:
    """The segments in the order in which they stand."""
    return sorted(range(18), key=lambda i: example.offsets[i])


def outcome(naive: Any, example: Any, text: str) -> Outcome:
    """Read a changed block; where the library reads it at all, it must read what the naive implementation reads."""
    got = read_block(naive.to_bytes(text), SegmentKeys(example.seed))
    if not got.excess:
        markers = naive.occurrences(text, example.seed)
        assert got.markers_seen == len({i for _, i in markers})
        assert sorted(got.readings) == sorted(naive.readings(naive.pieces(text, example.seed, markers)))
    return got


def true_pieces(example: Any) -> tuple[Piece, ...]:
    return tuple(Piece(example.offsets[i], i, example.sizes[i], example.locations[i]) for i in in_order(example))


def gap_copies(naive: Any, example: Any, segments: list[int], copies: int) -> str:
    """Plant `copies` further pieces of each of `segments`, each consistent with all that stand elsewhere."""
    text, order = example.text, in_order(example)
    for i in segments:
        place = order.index(i)
        start = example.offsets[i] + 104 + example.sizes[i]
        end = example.offsets[order[place + 1]] if place < 17 else len(text)
        for n in range(1, copies + 1):
            at = start + 200 * n
            assert at + 200 < end
            location = example.locations[i] + at - example.offsets[i]
            text = over(text, at, naive.piece(example.seed, i, "10" * (example.sizes[i] // 2) + "1" * (example.sizes[i] % 2), location))
    return text


def test_an_honest_block_has_one_reading(naive: Any, example: Any) -> None:
    got = outcome(naive, example, example.text)
    assert got == Outcome([true_pieces(example)], 18, excess=False)


@pytest.mark.parametrize("count", range(1, 7))
def test_each_doubled_piece_doubles_the_readings(naive: Any, example: Any, count: int) -> None:
    text = gap_copies(naive, example, in_order(example)[:count], 1)
    got = outcome(naive, example, text)
    assert len(got.readings) == 2**count
    assert true_pieces(example) in got.readings
    assert len(set(got.readings)) == 2**count


def test_choices_never_multiply_beyond_the_limit(naive: Any, example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two spare pieces for each of 18 segments, the last one broken: 3^17 ways to fail, were there no limit."""
    order = in_order(example)
    text = gap_copies(naive, example, order, 2)
    text = over(text, example.offsets[order[17]] + 10, "1" if text[example.offsets[order[17]] + 10] == "0" else "0")
    tried = 0
    whether = reading._is_consistent

    def counting(pieces: tuple[Piece, ...]) -> bool:
        nonlocal tried
        tried += 1
        return whether(pieces)

    monkeypatch.setattr(reading, "_is_consistent", counting)
    assert outcome(naive, example, text).excess
    assert tried == 0
    for copies in (1, 2, 3, 6):
        tried = 0
        got = outcome(naive, example, gap_copies(naive, example, order[: 6 // copies], copies))
        assert len(got.readings) == (copies + 1) ** (6 // copies) == tried <= 64


def test_limits_are_counts_and_nothing_else(naive: Any, example: Any) -> None:
    gap = max(range(17), key=lambda n: example.offsets[in_order(example)[n + 1]] - example.offsets[in_order(example)[n]])
    start = example.offsets[in_order(example)[gap]] + 300
    text = example.text
    for extra in range(MAX_MARKERS - 18 + 1):
        got = outcome(naive, example, text) if extra % 23 == 0 else None
        assert got is None or not got.excess
        text = over(text, start + 70 * extra, naive.marker(example.seed, extra % 18))
    assert outcome(naive, example, text).excess
    text = example.text
    for extra in range(MAX_PIECES - 18 + 1):
        assert not outcome(naive, example, text).excess
        text = over(text, start + 200 * extra, naive.piece(example.seed, extra, "1" * 40, 1_000 + extra))
    assert outcome(naive, example, text).excess


def test_a_block_of_one_marker_is_refused_at_once(naive: Any, example: Any) -> None:
    marker = naive.to_bytes(naive.marker(example.seed, 5))
    assert read_block(marker * (262_504 // 8), SegmentKeys(example.seed)).excess


def test_one_marker_may_carry_two_pieces(naive: Any, example: Any) -> None:
    """A suffix for 40 bits and one for 72 overlap in eight bits, which the location of the second can be chosen to fit."""
    i = in_order(example)[0]
    at = example.offsets[i] + 1000
    short = naive.suffix(example.seed, i, 77, 40)
    fits = naive.xor(short[32:], naive.mask(example.seed, i)[:8])
    location = int(fits + "0" * 13, 2)
    long = naive.suffix(example.seed, i, location, 72)
    text = over(example.text, at, naive.marker(example.seed, i) + "0" * 40 + short[:32] + long)
    assert len(naive.pieces(text, example.seed, [(at, i)])) == 2
    assert outcome(naive, example, text).readings == [true_pieces(example)]


@pytest.mark.parametrize("size", [40, 55, 72])
@pytest.mark.parametrize("spare", [-1, 0, 1, 33])
def test_a_piece_at_the_very_end(naive: Any, example: Any, size: int, spare: int) -> None:
    """Suffixes are only looked for inside the block; the shortest piece may end with it."""
    i = 4
    bits = naive.piece(example.seed, i, "1" * size, 99)
    text = example.text[: len(example.text) - len(bits) - spare] + bits + "0" * spare
    text = text[: len(example.text)]
    keys = SegmentKeys(example.seed)
    start = len(example.text) - len(bits) - spare
    got = reading._pieces_at(naive.to_bytes(text), keys, i, start)
    assert got == ([Piece(start, i, size, 99)] if spare >= 0 else [])
    assert got == naive.pieces(text, example.seed, [(start, i)])


def test_readings_want_every_piece_in_its_place(naive: Any, example: Any) -> None:
    """Whole pieces, each true to its own claim, that do not fit together are no reading."""
    order = in_order(example)
    i, k = order[16], order[17]
    segment = example.text[example.offsets[k] + 64 : example.offsets[k] + 64 + example.sizes[k]]
    for location in (example.locations[k] - 1, example.locations[k] + 1, example.locations[i], 0, 2**21 - 1):
        text = over(example.text, example.offsets[k], naive.piece(example.seed, k, segment, location))
        got = outcome(naive, example, text)
        assert got == Outcome([], 18, excess=False)
