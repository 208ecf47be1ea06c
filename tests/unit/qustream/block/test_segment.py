"""Markers, masks and suffixes against the definition."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.block.segment import SegmentKeys

seeds = st.binary(min_size=126, max_size=126)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_markers_and_masks(naive: Any, seed: bytes) -> None:
    keys = SegmentKeys(seed)
    assert [f"{marker:064b}" for marker in keys.markers] == [naive.marker(seed, i) for i in range(18)]
    assert [f"{mask:040b}" for mask in keys.masks] == [naive.mask(seed, i) for i in range(18)]


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(0, 17), st.integers(40, 72), st.integers(0, 2**21 - 1))
def test_suffix_and_its_location(naive: Any, seed: bytes, segment: int, size: int, location: int) -> None:
    keys = SegmentKeys(seed)
    suffix = keys.suffix(segment, size, location)
    assert f"{suffix:040b}" == naive.suffix(seed, segment, location, size)
    assert keys.claimed_location(segment, suffix) == location


def test_no_repr_shows_the_seed() -> None:
    seed = bytes(range(126))
    keys = SegmentKeys(seed)
    assert seed.hex()[:16] not in repr(keys)
    assert f"{keys.markers[0]}" not in repr(keys)
