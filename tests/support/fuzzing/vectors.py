"""The known answers of `proto/vectors`, from which fuzzing starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["vectors"]

_VECTORS = Path(__file__).resolve().parents[3] / "proto" / "vectors"


def vectors(name: str) -> dict[str, Any]:
    found = json.loads((_VECTORS / f"{name}.json").read_text())
    assert isinstance(found, dict)
    return found
