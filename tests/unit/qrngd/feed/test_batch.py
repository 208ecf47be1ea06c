"""Units under one attestation: what is signed, and that every proof leads to it."""

from __future__ import annotations

import hashlib
import random

import pytest

from qrngd.feed.batch import BATCH_OPEN_MS, BATCH_UNITS, Batch, CutUnit, Statement, material_digest, seal
from qrngd.pipeline import Measurement, Pipeline
from qrngd.stock import Span
from qustream.entropy import check_attestation, check_leaf
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.base import Signed
from qustream.model.entropy import MATERIAL_BYTES, UNIT_BYTES, Attestation, DeviceDescriptor
from qustream.model.network import QrngServerRecord

DEVICE = DeviceDescriptor("chardev", "model", "serial", 8, 7000, 0, False, False, "")
KEY = SigningKey(bytes(32))
PIPELINE = Pipeline(DEVICE, draw=bytes, reseed=lambda _: None)
STATEMENT = Statement("chain", KEY.id, PIPELINE.conditioning_report(), 3_600_000, PIPELINE.health_report)


def cut(number: int, device: DeviceDescriptor = DEVICE) -> CutUnit[None]:
    node = bytes([number % 3]) * 32
    unit = memoryview(bytearray(random.Random(number).randbytes(UNIT_BYTES)))
    pieces = (unit[:1000], unit[1000:MATERIAL_BYTES], unit[MATERIAL_BYTES:]) if number % 2 else (unit,)
    before = Measurement(samples=1000 * number, windows=10 * number, windows_discarded=number // 2)
    after = Measurement(samples=1000 * number + 1000, windows=10 * number + 10, windows_discarded=(number + 1) // 2)
    return CutUnit(None, node, 100 + number, pieces, material_digest(pieces), Span(device, before, after, 50 * number, 50 * number + 50))


def signed(attestation: Attestation) -> Signed:
    return KEY.sign_noun("attestation", attestation)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_unit_is_proven_by_the_attestation(count: int) -> None:
    batch: Batch[None] = Batch()
    for number in range(count):
        batch.add(cut(number), 10 + number)
    sealed = seal(batch, 42, STATEMENT, signed)
    attestation = open_signed(sealed.attestation, Attestation, KEY.public, "attestation")
    check_attestation(attestation, chain="chain", server=QrngServerRecord(KEY.public, "test", emulated=False, active=True), at_ms=1000)
    assert (attestation.batch, attestation.leaves, attestation.root) == (42, count, sealed.root)
    assert (attestation.start_ms, attestation.end_ms, attestation.expires_ms) == (0, 50 * count, 50 * count + 3_600_000)
    assert (attestation.health.samples, attestation.health.windows) == (1000 * count, 10 * count)
    assert attestation.health.windows_failed == count // 2
    for unit, proof in zip(sealed.units, sealed.proofs, strict=True):
        assert proof.sequence == unit.sequence
        check_leaf(attestation, unit.node, b"".join(unit.pieces)[:MATERIAL_BYTES], proof)


def test_scatter_is_outside_the_leaf() -> None:
    unit = cut(1)
    changed = bytearray().join(unit.pieces)
    assert hashlib.sha256(changed[:MATERIAL_BYTES]).digest() == unit.digest
    changed[-1] ^= 1
    assert material_digest([memoryview(changed)]) == unit.digest
    changed[MATERIAL_BYTES - 1] ^= 1
    assert material_digest([memoryview(changed)]) != unit.digest


def test_a_batch_has_its_bounds() -> None:
    batch: Batch[None] = Batch()
    unit = cut(0)
    batch.add(unit, 1000)
    assert batch.due_ms == 1000 + BATCH_OPEN_MS
    assert batch.room == BATCH_UNITS - 1
    for _ in range(BATCH_UNITS - 1):
        batch.add(unit, 2000)
    assert batch.due_ms == 1000 + BATCH_OPEN_MS  # the first unit's time counts
    assert not batch.takes(unit.span)


def test_a_batch_speaks_of_one_device() -> None:
    batch: Batch[None] = Batch()
    other = cut(1, DeviceDescriptor("chardev", "another", "serial", 8, 7000, 0, False, False, ""))
    assert batch.takes(other.span)
    batch.add(cut(0), 0)
    assert not batch.takes(other.span)


def test_units_are_wiped_and_never_shown() -> None:
    unit = cut(0)
    assert bytes(unit.pieces[0][:4]).hex() not in repr(unit)
    unit.wipe()
    assert b"".join(unit.pieces) == bytes(UNIT_BYTES)
