"""The short form of `scripts/soak kill`."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.chain_soak import soak

pytestmark = [pytest.mark.e2e]


def test_what_is_final_outlives_any_deaths_under_load(tmp_path: Path) -> None:
    done = soak(tmp_path, rounds=2, seed=7)
    assert done["kills"]
    assert done["transactions"]
