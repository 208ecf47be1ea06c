"""The short form of `scripts/soak qrngd`."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.qrngd_soak import Soak

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("seed", [1, 4])
async def test_a_server_under_faults_for_some_seconds(tmp_path: Path, seed: int) -> None:
    report = await Soak(tmp_path, seed).run(12)
    assert report.violations == []
    assert report.units > 0
    assert sum(report.acts.values()) >= 1
