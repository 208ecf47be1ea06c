"""The known answers of `proto/vectors/block.json`, which the naive bit-string implementation in `scripts/vectors/block.py` wrote."""

import hashlib
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from qustream import block
from qustream.block.layout import MATERIAL_BYTES, SCATTER_BYTES, SEED_BYTES, Scatter, draw_locations, draw_sizes
from qustream.block.segment import SegmentKeys
from qustream.errors import QuStreamError

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "proto/vectors/block.json").read_text())
NAIVE = runpy.run_path(str(ROOT / "scripts/vectors/block.py"))
BUILT = {case["name"]: case for case in VECTORS["build"]}


def inputs(case: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    sizes = {"material": MATERIAL_BYTES, "scatter": SCATTER_BYTES, "block_seed": SEED_BYTES}
    material, scatter, seed = (NAIVE["expand"](case[part], size) for part, size in sizes.items())
    return material, scatter, seed


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("case", VECTORS["build"], ids=lambda case: case["name"])
def test_build_and_open(case: dict[str, Any]) -> None:
    material, scatter, seed = inputs(case)
    assert sha256(material) == case["material_sha256"]
    built = block.build(material, scatter, seed)
    assert sha256(built) == case["block_sha256"]
    assert block.open(built, seed) == material


@pytest.mark.parametrize("case", VECTORS["build"], ids=lambda case: case["name"])
def test_each_step(case: dict[str, Any]) -> None:
    _, scatter, seed = inputs(case)
    keys = SegmentKeys(seed)
    assert [f"{marker:016x}" for marker in keys.markers] == case["markers"]
    assert [f"{mask:010x}" for mask in keys.masks] == case["masks"]
    draws = Scatter(scatter)
    assert draw_sizes(draws) == case["sizes"]
    for _ in range(case["location_draws"]):
        locations = draw_locations(draws)
    assert locations == case["locations"]
    suffixes = [keys.suffix(i, case["sizes"][i], case["locations"][i]) for i in range(18)]
    assert [f"{suffix:010x}" for suffix in suffixes] == case["suffixes"]


@pytest.mark.parametrize("case", VECTORS["build_refused"], ids=lambda case: case["name"])
def test_build_refused(case: dict[str, Any]) -> None:
    with pytest.raises(QuStreamError) as refused:
        block.build(*inputs(case))
    assert refused.value.code == case["code"]


@pytest.mark.parametrize("case", VECTORS["open"], ids=lambda case: case["name"])
def test_open_changed(case: dict[str, Any]) -> None:
    base = BUILT[case["of"]]
    material, scatter, seed = inputs({**base, **{k: v for k, v in case.items() if k == "block_seed"}})
    changed = block.build(material, scatter, inputs(base)[2])[: case.get("keep")]
    changed = NAIVE["edit"](changed, case.get("write", []))
    assert sha256(changed) == case["block_sha256"]
    if "code" in case:
        with pytest.raises(QuStreamError) as refused:
            block.open(changed, seed)
        assert refused.value.code == case["code"]
    else:
        assert sha256(block.open(changed, seed)) == case["material_sha256"]


def test_every_code_has_a_vector() -> None:
    shown = {case["code"] for case in (*VECTORS["build_refused"], *VECTORS["open"]) if "code" in case}
    assert shown == {"E-SCATTER-SHORT", "E-BLOCK-SIZE", "E-BLOCK-OPEN", "E-BLOCK-AMBIGUOUS"}
