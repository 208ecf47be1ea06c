"""Batches for leaf logs, signed and whole or with something wrong about them, for tests."""

from __future__ import annotations

import hashlib
from typing import Any

from qustream.entropy import build_batch, leaf_data_of_hash
from qustream.identity.signing import SigningKey
from qustream.leaflog.segment import FIRST_PREVIOUS, record
from qustream.model.base import Signed
from qustream.model.entropy import Attestation, Conditioning, DeviceDescriptor, HealthReport, LeafLogEntry, LeafLogHeader
from qustream.model.network import QrngServerRecord

__all__ = ["CHAIN", "Unit", "Writer", "unit"]

CHAIN = "log-test"
Unit = tuple[bytes, int, bytes]  # node, sequence, SHA-256 of the material
DEVICE = DeviceDescriptor("chardev", "model", "1", 8, 8000, 0, False, False, "")


def unit(name: str, sequence: int = 0, node: int = 0) -> Unit:
    """A unit whose material is known by its name."""
    return node.to_bytes(32, "big"), sequence, hashlib.sha256(name.encode()).digest()


class Writer:
    """A QRNG server that makes batches of units of a name each; sequences rise."""

    def __init__(self, seed: bytes = b"\x07" * 32) -> None:
        self.key = SigningKey(seed)
        self.record = QrngServerRecord(self.key.public, "lab", emulated=False, active=True)
        self._sequence = 0

    def attestation(self, batch: int, units: list[Unit], device: DeviceDescriptor = DEVICE) -> Attestation:
        return Attestation(
            chain=CHAIN,
            server=self.key.id,
            batch=batch,
            device=device,
            health=HealthReport(1024, 2, 0, 5, 13, 512, (40, 60)),
            conditioning=Conditioning("cbc-mac", 32, 16, 1000),
            start_ms=1,
            end_ms=2,
            expires_ms=3,
            root=build_batch(units)[0],
            leaves=len(units),
        )

    def units(self, *names: str) -> list[Unit]:
        self._sequence += len(names)
        return [unit(name, self._sequence + place) for place, name in enumerate(names)]

    def batch(self, number: int, units: list[Unit] | None = None, **options: Any) -> tuple[Signed, list[bytes]]:
        """What `LeafLog.append` takes; without `units` one whose material nobody else has."""
        units = units or self.units(f"{self.key.id.hex()} {number}")
        signed = self.key.sign_noun("attestation", self.attestation(number, units, **options))
        return signed, [leaf_data_of_hash(*each) for each in units]

    def entry(self, number: int, units: list[Unit] | None = None, **options: Any) -> bytes:
        """The record of such a batch."""
        signed, leaves = self.batch(number, units, **options)
        return record(LeafLogEntry(signed, b"".join(leaves)))

    def header(self, number: int = 0, previous: bytes = FIRST_PREVIOUS) -> bytes:
        return record(LeafLogHeader(CHAIN, self.key.id, number, previous))
