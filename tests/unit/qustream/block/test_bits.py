"""Runs of bits against strings of '0' and '1'."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.block import bits
from qustream.block.bits import BitJoiner, read_bits


def text(data: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in data)


@settings(deadline=None)
@given(st.binary(max_size=40), st.data())
def test_read_bits_is_a_slice(source: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, 8 * len(source)))
    count = data.draw(st.integers(0, 8 * len(source) - start))
    assert read_bits(source, start, count) == int(text(source)[start : start + count] or "0", 2)


def test_read_bits_outside_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        read_bits(b"ab", 10, 7)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=60), st.lists(st.tuples(st.booleans(), st.integers(0, 480), st.integers(0, 480)), max_size=12))
@pytest.mark.parametrize("run_bytes", [1, 2, 7, 32_768])
def test_joined_runs_are_concatenated(run_bytes: int, source: bytes, runs: list[tuple[bool, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bits, "_RUN_BYTES", run_bytes)  # so that one run takes many steps
        wanted = ""
        calls: list[tuple[bool, int, int]] = []
        for short, a, b in runs:
            start, end = sorted((a % (8 * len(source) + 1), b % (8 * len(source) + 1)))
            calls.append((short, start, end))
            wanted += text(source)[start:end]
        wanted += "0" * (-len(wanted) % 8)
        if not wanted:
            return
        joiner = BitJoiner(len(wanted) // 8)
        for short, start, end in calls:
            if short:
                joiner.put(read_bits(source, start, end - start), end - start)
            else:
                joiner.copy(source, start, end)
        joiner.put(0, -sum(end - start for _, start, end in calls) % 8)
        assert text(joiner.finish()) == wanted


def test_finish_wants_exactly_the_promised_size() -> None:
    for count in (7, 15, 17):
        joiner = BitJoiner(2)
        joiner.put(0, count)
        with pytest.raises(AssertionError):
            joiner.finish()
