"""The known answers of `proto/vectors/sharing.json`."""

import json
from pathlib import Path

import pytest

from qustream.sharing import correction, fits, secret

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/sharing.json").read_text())


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_shares_correction_and_secret(case: dict[str, str]) -> None:
    shares = {point: bytes.fromhex(case[f"share{point}"]) for point in (1, 2, 3)}
    moved = bytes.fromhex(case["correction"])
    assert correction(shares[1], shares[2], shares[3]) == moved
    assert fits(shares, moved)
    for i, j in [(1, 2), (1, 3), (2, 3)]:
        assert secret({i: shares[i], j: shares[j]}, moved) == bytes.fromhex(case["secret"])
