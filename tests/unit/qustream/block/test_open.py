"""What open returns and refuses, against the naive implementation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream import block
from qustream.errors import PeerFault

BLOCK_BITS = 2_100_032


def expect_like_naive(naive: Any, data: bytes, seed: bytes) -> str | None:
    """Open with both; the same material or the same code. Return the code."""
    try:
        wanted, code = naive.open_block(data, seed), None
    except naive.Refused as refused:
        wanted, code = None, str(refused)
    if code is None:
        assert block.open(data, seed) == wanted
    else:
        with pytest.raises(PeerFault, match=code):
            block.open(data, seed)
    return code


def test_example(example: Any) -> None:
    assert block.open(example.block, example.seed) == example.material


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_changed_blocks(naive: Any, example: Any, data: st.DataObject) -> None:
    """Flips near and inside pieces, planted markers and pieces: never anything but the right material or the right code."""
    text = example.text
    for _ in range(data.draw(st.integers(1, 4))):
        i = data.draw(st.integers(0, 17))
        near = example.offsets[i] + data.draw(st.integers(-200, 400))
        at = min(max(near, 0), BLOCK_BITS - 176)
        what = data.draw(st.sampled_from(["flip", "marker", "piece", "zeros"]))
        if what == "flip":
            bits = "1" if text[at] == "0" else "0"
        elif what == "marker":
            bits = naive.marker(example.seed, data.draw(st.integers(0, 17)))
        elif what == "piece":
            location = (example.locations[i] + at - example.offsets[i]) % 2**21
            bits = naive.piece(example.seed, i, "01" * data.draw(st.integers(20, 36)), location)
        else:
            bits = "0" * 100
        text = text[:at] + bits + text[at + len(bits) :]
    expect_like_naive(naive, naive.to_bytes(text), example.seed)


@pytest.mark.parametrize("segment", range(18))
def test_a_flipped_bit_in_any_marker_or_suffix(naive: Any, example: Any, segment: int) -> None:
    start, size = example.offsets[segment], example.sizes[segment]
    for at in (start, start + 63, start + 64 + size, start + 104 + size - 1):
        changed = naive.edit(example.block, [[at, "~"]])
        with pytest.raises(PeerFault, match="E-BLOCK-OPEN"):
            block.open(changed, example.seed)


@pytest.mark.parametrize("shift", [1, 8])
def test_a_shifted_block_does_not_open(naive: Any, example: Any, shift: int) -> None:
    text = example.text
    moved = naive.to_bytes(text[shift:] + text[:shift])
    assert expect_like_naive(naive, moved, example.seed) == "E-BLOCK-OPEN"


def test_the_seed_of_another_block(example: Any) -> None:
    for seed in (bytes(126), example.seed[1:] + example.seed[:1], example.seed[:-1] + bytes((example.seed[-1] ^ 1,))):
        with pytest.raises(PeerFault, match=r"E-BLOCK-OPEN: .*0 of the 18 markers") as refused:
            block.open(example.block, seed)
        assert seed.hex()[:8] not in str(refused.value)


def test_constant_blocks_are_refused(example: Any) -> None:
    for byte in (b"\0", b"\xff", b"\x55"):
        with pytest.raises(PeerFault, match="E-BLOCK-OPEN"):
            block.open(byte * block.BLOCK_BYTES, example.seed)


def test_two_readings_are_refused(naive: Any, example: Any) -> None:
    i = max(range(18), key=lambda i: example.offsets[i])
    copy = naive.piece(example.seed, i, "1" * example.sizes[i], example.locations[i] + 1000)
    changed = naive.edit(example.block, [[example.offsets[i] + 1000, copy]])
    assert expect_like_naive(naive, changed, example.seed) == "E-BLOCK-AMBIGUOUS"
    with pytest.raises(PeerFault, match="2 segment layouts"):
        block.open(changed, example.seed)


def test_more_markers_than_an_honest_block_holds(naive: Any, example: Any) -> None:
    marker = naive.to_bytes(naive.marker(example.seed, 3))
    with pytest.raises(PeerFault, match="E-BLOCK-AMBIGUOUS: the block holds more than 64 markers"):
        block.open(marker * (block.BLOCK_BYTES // 8), example.seed)


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_503, 262_505])
def test_wrong_sizes(example: Any, size: int) -> None:
    with pytest.raises(PeerFault, match="E-BLOCK-SIZE"):
        block.open(bytes(size), example.seed)
    with pytest.raises(PeerFault, match="E-BLOCK-SIZE"):
        block.open(example.block, example.seed + b"\0")
