"""Widths from 1 to 16 bits: how many bytes a window takes, and what stands in them."""

from __future__ import annotations

import numpy as np
import pytest

from qrngd.health.samples import Layout
from qustream.errors import OperatorFault


@pytest.mark.parametrize(
    ("width", "stored", "samples", "size"),
    [(1, 1, 131_072, 16_384), (2, 8, 65_536, 65_536), (8, 8, 65_536, 65_536), (9, 16, 65_536, 131_072), (16, 16, 65_536, 131_072)],
)
def test_sizes(width: int, stored: int, samples: int, size: int) -> None:
    layout = Layout(width)
    assert (layout.stored_bits, layout.window_samples, layout.window_bytes) == (stored, samples, size)


def test_bits_come_most_significant_first() -> None:
    assert Layout(1).samples(np.array([0b1010_0001], dtype=np.uint8)).tolist() == [1, 0, 1, 0, 0, 0, 0, 1]


def test_wide_samples_are_little_endian() -> None:
    assert Layout(12).samples(np.array([0x34, 0x02], dtype=np.uint8)).tolist() == [0x234]


@pytest.mark.parametrize(("width", "raw"), [(7, [0x80]), (2, [1, 4]), (12, [0, 0x10]), (15, [0xFF, 0xFF])])
def test_bits_above_the_width_are_refused(width: int, raw: list[int]) -> None:
    with pytest.raises(OperatorFault) as caught:
        Layout(width).samples(np.array(raw, dtype=np.uint8))
    assert caught.value.code == "E-DEV-READ"
