"""The known answers of `proto/vectors/keys.json`."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qustream.envelope.keys import block_key, chacha20, pad_share

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/keys.json").read_text())


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["material_label"])
def test_block_key_and_pad_share(case: dict[str, Any]) -> None:
    material = hashlib.shake_256(case["material_label"].encode()).digest(262_270)
    salt, node, grant = (bytes.fromhex(case[name]) for name in ("salt", "node", "grant"))
    expected = bytes.fromhex(case["pad_share"])
    assert block_key(material, salt, node=node, grant=grant, index=case["index"]).hex() == case["block_key"]
    assert pad_share(material, salt, node=node, grant=grant, index=case["index"], size_bytes=len(expected)) == expected


def test_the_second_implementation_agrees() -> None:
    """Of `sharing.json` as well."""
    script = Path(__file__).parents[2] / "scripts/vectors/keys.py"
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0


def test_the_keystream() -> None:
    vector = VECTORS["chacha20"]
    assert chacha20(bytes.fromhex(vector["key"]), bytes(80)).hex() == vector["keystream"]
