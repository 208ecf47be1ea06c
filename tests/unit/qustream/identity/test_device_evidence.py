"""The chain from a maker to a read of a device: real keys, hostile bytes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.maker import Maker

from qustream.errors import QuStreamError
from qustream.identity.device_evidence import certificate_message, check_evidence, serial_text

MAKER, OTHER = Maker(), Maker("other")
EVIDENCE = MAKER.device(77).evidence()
DEVICE = MAKER.device(77).descriptor()


def refusal(device, authorities=()) -> str:
    with pytest.raises(QuStreamError) as caught:
        check_evidence(device, authorities)
    assert caught.value.code == "E-ATTESTATION-EVIDENCE"
    return caught.value.detail


def test_a_certified_device_holds_and_each_link_is_needed():
    check_evidence(DEVICE, ())
    check_evidence(DEVICE, (OTHER.public, MAKER.public))
    assert "another maker" in refusal(DEVICE, (OTHER.public,))
    assert "no maker's certificate" in refusal(replace(DEVICE, evidence=None), (MAKER.public,))
    other = OTHER.device(77).evidence()
    assert "certificate does not hold" in refusal(replace(DEVICE, evidence=replace(DEVICE.evidence, certificate=other.certificate)))
    assert "delivered does not hold" in refusal(replace(DEVICE, evidence=replace(DEVICE.evidence, signature=other.signature)))
    assert "another serial number" in refusal(replace(DEVICE, serial=serial_text(78)))
    assert "scheme" in refusal(replace(DEVICE, evidence=replace(DEVICE.evidence, scheme="")))


def test_what_a_maker_signs():
    assert certificate_message((1, 2), 0x01020304, b"k" * 64) == b"\0\0\1\2\4\3\2\1" + b"k" * 64
    assert serial_text(0) == "QC0000000000"
    assert serial_text(0xFFFFFFFF) == "QC4294967295"
