"""Blocks as built, against the naive implementation; what build refuses."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream import block
from qustream.block.build import build
from qustream.errors import PeerFault, Unavailable


def random_bytes(label: str, size: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(size)


materials = st.one_of(
    st.integers(0, 2**32).map(lambda n: random_bytes(f"material {n}", block.MATERIAL_BYTES)),
    st.sampled_from([bytes(block.MATERIAL_BYTES), b"\xff" * block.MATERIAL_BYTES]),
)
# Mostly layouts that come to an end; now and then bytes that hypothesis likes, whose locations repeat.
scatters = st.one_of(
    st.integers(0, 2**32).map(lambda n: random_bytes(f"scatter {n}", block.SCATTER_BYTES)),
    st.binary(min_size=block.SCATTER_BYTES, max_size=block.SCATTER_BYTES),
)
seeds = st.binary(min_size=block.SEED_BYTES, max_size=block.SEED_BYTES)


@settings(max_examples=12, deadline=None)
@given(materials, scatters, seeds)
def test_equals_the_naive_block_and_opens(naive: Any, material: bytes, scatter: bytes, seed: bytes) -> None:
    try:
        wanted = naive.build(material, scatter, seed)["block"]
    except naive.Refused:  # the sizes are right, so the scatter ran out
        with pytest.raises(Unavailable, match="E-SCATTER-SHORT"):
            build(material, scatter, seed)
        return
    assert build(material, scatter, seed) == wanted
    assert block.open(wanted, seed) == material


def test_example(example: Any) -> None:
    assert build(example.material, example.scatter, example.seed) == example.block
    assert len(example.block) == block.BLOCK_BYTES == 262_504


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("delta", [-1, 1])
def test_wrong_sizes(example: Any, which: int, delta: int) -> None:
    inputs = [example.material, example.scatter, example.seed]
    inputs[which] = inputs[which][:-1] if delta < 0 else inputs[which] + b"\0"
    with pytest.raises(PeerFault, match="E-BLOCK-SIZE"):
        build(*inputs)


def with_second_reading(naive: Any, material: bytes, scatter: bytes, seed: bytes) -> bytes:
    """Return material of which the first layout of `scatter` makes a block with two readings."""
    spec = {"material": {"hex": material.hex()}, "scatter": {"hex": scatter.hex()}, "block_seed": {"hex": seed.hex()}}
    return bytes(naive.edit(material, naive.again(spec)))


def test_two_readings_draw_the_locations_again(naive: Any, example: Any) -> None:
    material = with_second_reading(naive, example.material, example.scatter, example.seed)
    built = build(material, example.scatter, example.seed)
    wanted = naive.build(material, example.scatter, example.seed)
    assert wanted["draws"] == 2
    assert wanted["sizes"] == example.sizes
    assert wanted["locations"] != example.locations
    assert built == wanted["block"]
    assert block.open(built, example.seed) == material


def test_two_readings_and_no_scatter_left(naive: Any, example: Any) -> None:
    scatter = b"\xff" * 4 + example.scatter[:124]  # a first draw of 75 bytes leaves 53, a second takes 54
    material = with_second_reading(naive, example.material, scatter, example.seed)
    with pytest.raises(Unavailable, match="E-SCATTER-SHORT"):
        build(material, scatter, example.seed)


def test_excess_of_markers_in_the_material_draws_again_as_well(naive: Any, example: Any) -> None:
    """R that holds 47 markers of this seed exceeds the limit wherever the pieces go: refused, never returned."""
    writes = [[at, naive.marker(example.seed, 0)] for at in range(2_050_000, 2_050_000 + 47 * 100, 100)]
    assert not any(2_050_000 <= location < 2_055_000 for location in example.locations)
    material = naive.edit(example.material, writes)
    with pytest.raises(Unavailable, match="E-SCATTER-SHORT"):
        build(material, example.scatter, example.seed)


def test_without_reading_back_the_bytes_are_the_same() -> None:
    material, scatter, seed = (random_bytes("read back", size) for size in (block.MATERIAL_BYTES, block.SCATTER_BYTES, block.SEED_BYTES))
    assert build(material, scatter, seed, read_back=False) == build(material, scatter, seed)
