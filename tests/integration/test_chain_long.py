"""A short form of `scripts/soak sync --blocks 10000`: a chain with rotations, replayed by one new node and joined by another."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import sync_soak

pytestmark = [pytest.mark.e2e]


def test_one_replays_and_one_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_soak, "ROTATION_MS", 60_000)
    found = sync_soak.soak(tmp_path, blocks=300, seed=7)
    assert found["rotations"] >= 5
    assert found["replay"]["root"] == found["snapshot"]["root"] == found["root"]
    # What it does not have it did not fetch.
    assert found["snapshot"]["bytes"] < found["replay"]["bytes"]
