"""Units under one attestation: what is signed, and that every proof leads to it."""

from __future__ import annotations

import hashlib
import random

import pytest

from qrngd.feed.batch import BATCH_OPEN_MS, BATCH_UNITS, Batch, CutUnit, Statement, seal
from qrngd.pipeline import Measurement, Pipeline
from qrngd.slots import SlotMemory
from qrngd.stock import Span, Stock
from qustream.entropy import check_attestation, check_leaf, leaf_data_of_hash
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.base import Signed
from qustream.model.entropy import MATERIAL_BYTES, UNIT_BYTES, Attestation, DeviceDescriptor
from qustream.model.network import QrngServerRecord

DEVICE = DeviceDescriptor("chardev", "model", "serial", 8, 7000, 0, False, False, "")
KEY = SigningKey(bytes(32))
PIPELINE = Pipeline(DEVICE, draw=bytes, reseed=lambda _: None)
STATEMENT = Statement("chain", KEY.id, PIPELINE.conditioning_report(), 3_600_000, PIPELINE.health_report)


STOCK = Stock(SlotMemory.create(40), 39)
GIVEN = list(STOCK.due())


def cut(number: int, device: DeviceDescriptor = DEVICE) -> CutUnit[None]:
    data = random.Random(number).randbytes(UNIT_BYTES)
    before = Measurement(samples=1000 * number, windows=10 * number, windows_discarded=number // 2)
    after = Measurement(samples=1000 * number + 1000, windows=10 * number + 10, windows_discarded=(number + 1) // 2)
    STOCK.put(
        slot := GIVEN.pop(), hashlib.sha256(data[:MATERIAL_BYTES]).digest(), Span(device, before, after, 50 * number, 50 * number + 50)
    )
    unit = STOCK.take()
    assert unit.slot == slot
    unit.data[:] = data
    return CutUnit(None, bytes([number % 3]) * 32, 100 + number, unit)


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
        check_leaf(attestation, unit.node, bytes(unit.unit.data[:MATERIAL_BYTES]), proof)
    assert sealed.leaves == [leaf_data_of_hash(unit.node, unit.sequence, unit.unit.digest) for unit in sealed.units]


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


def test_a_closed_batch_takes_no_more() -> None:
    batch: Batch[None] = Batch()
    batch.add(unit := cut(0), 0)
    batch.close()
    assert batch.room == 0
    assert not batch.takes(unit.span)


def test_units_are_wiped_and_never_shown() -> None:
    unit = cut(0)
    data = unit.unit.data
    assert bytes(data[:4]).hex() not in repr(unit)
    unit.wipe()
    assert data == bytes(UNIT_BYTES)
