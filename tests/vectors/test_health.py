"""The known answers of `proto/vectors/health.json`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qrngd.health.continuous import ContinuousTests
from qrngd.health.cutoffs import cutoffs_for, proportion_cutoff, repetition_cutoff
from qrngd.health.samples import Bytes

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/health.json").read_text())


@pytest.mark.parametrize("row", VECTORS["cutoffs"], ids=lambda row: f"{row['sample_bits']}-{row['min_entropy_millibits']}")
def test_cutoffs(row: dict[str, Any]) -> None:
    millibits, window = row["min_entropy_millibits"], row["window"]
    for exponent, pair in row["cutoffs"].items():
        assert [
            repetition_cutoff(millibits, int(exponent)),
            proportion_cutoff(millibits, window, int(exponent)),
        ] == pair
    both = cutoffs_for(millibits, row["sample_bits"])
    assert both.window_samples == window
    assert list(zip(both.repetition, both.proportion, strict=True)) == [tuple(row["cutoffs"][level]) for level in ("40", "60")]


def raw_bytes(case: dict[str, Any]) -> Bytes:
    size, width = case["size"], case["sample_bits"]
    blocks = [hashlib.sha256(case["text"].encode() + number.to_bytes(8, "big")).digest() for number in range(-(-size // 32))]
    raw = np.frombuffer(bytearray(b"".join(blocks)[:size]), dtype=np.uint8)
    if 1 < width < 8:
        raw &= (1 << width) - 1
    elif 8 < width < 16:
        raw[1::2] &= (1 << (width - 8)) - 1
    for offset, pattern, length in case["patches"]:
        raw[offset : offset + length] = np.resize(np.frombuffer(bytes.fromhex(pattern), dtype=np.uint8), length)
    assert hashlib.sha256(raw.tobytes()).hexdigest() == case["sha256"]
    return raw


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_verdicts(case: dict[str, Any]) -> None:
    tests = ContinuousTests(cutoffs_for(case["min_entropy_millibits"], case["sample_bits"]))
    verdicts = tests.judge(raw_bytes(case))
    assert [verdict.grade for verdict in verdicts] == [window["grade"] for window in case["windows"]]
    found = [[list(finding) for finding in verdict.findings] for verdict in verdicts]
    assert found == [window["findings"] for window in case["windows"]]
