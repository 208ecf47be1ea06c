"""The naive implementation on bit strings, `scripts/vectors/block.py`, and one block built by it."""

from __future__ import annotations

import hashlib
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PATH = Path(__file__).parents[4] / "scripts/vectors/block.py"


@pytest.fixture(scope="session")
def naive() -> Any:
    return SimpleNamespace(**runpy.run_path(str(PATH)))


@pytest.fixture(scope="session")
def example(naive: Any) -> Any:
    """material, scatter, seed, block; sizes, locations, offsets in order of segment; `text` is the block as bits."""
    material, scatter, seed = (hashlib.shake_256(f"unit/{n}".encode()).digest(n) for n in (262_270, 128, 126))
    built = naive.build(material, scatter, seed)
    return SimpleNamespace(
        material=material,
        scatter=scatter,
        seed=seed,
        block=built["block"],
        sizes=built["sizes"],
        locations=built["locations"],
        offsets=naive.offsets(built),
        text=naive.to_bits(built["block"]),
    )
