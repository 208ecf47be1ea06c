"""The known answers of `proto/vectors/conditioning.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qrngd.conditioning.cbcmac import KEY_TEXT, LaneConditioner, blocks_for, conditioning_key

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/conditioning.json").read_text())


def test_key() -> None:
    assert VECTORS["key_text"].encode() == KEY_TEXT
    assert conditioning_key().hex() == VECTORS["key"]


@pytest.mark.parametrize("row", VECTORS["blocks"])
def test_blocks(row: dict[str, int]) -> None:
    assert blocks_for(row["min_entropy_millibits"], row["stored_bits"]) == row["blocks"]


@pytest.mark.parametrize("case", VECTORS["lanes"], ids=lambda case: f"{case['blocks']} blocks")
def test_lanes(case: dict[str, Any]) -> None:
    window = np.frombuffer(bytes.fromhex(case["window"]), dtype=np.uint8)
    conditioner = LaneConditioner(blocks=case["blocks"], window_bytes=window.size, windows_max=1)
    assert conditioner.condition(window).tobytes().hex() == case["out"]
