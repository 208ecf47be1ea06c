"""Device evidence against the published vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qustream.errors import QuStreamError
from qustream.identity.device_evidence import check_evidence
from qustream.model.entropy import DeviceDescriptor, DeviceEvidence

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/device-evidence.json").read_text())
BYTES = ("authority", "key", "certificate", "sample", "signature")


def evidence(changes: dict[str, Any] | None) -> DeviceEvidence | None:
    if changes is None:
        return None
    fields = VECTORS["evidence"] | changes
    return DeviceEvidence(**fields | {name: bytes.fromhex(fields[name]) for name in BYTES} | {"hardware": tuple(fields["hardware"])})


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["why"])
def test_cases(case):
    serial = case.get("serial", VECTORS["serial"])
    device = DeviceDescriptor("serial", "QCicada", serial, 8, 8000, 0, False, False, "", evidence(case.get("evidence", {})))
    authorities = [bytes.fromhex(key) for key in case.get("authorities", [])]
    if case["holds"]:
        check_evidence(device, authorities)
        return
    with pytest.raises(QuStreamError) as caught:
        check_evidence(device, authorities)
    assert caught.value.code == "E-ATTESTATION-EVIDENCE"
    assert caught.value.detail
