"""Units under one attestation, before and after it is signed (`proto/spec/entropy-feed.md`, "Units, attestations").

A batch closes at `BATCH_UNITS` units or `BATCH_OPEN_MS` after its first, or sooner when nobody can be given another unit and
waiting would only make nodes wait. Nothing of it leaves before its attestation is signed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from qrngd.pipeline import Measurement
from qrngd.stock import ReadyUnit, Span
from qustream.entropy import build_batch, leaf_data_of_hash
from qustream.model.base import Signed
from qustream.model.entropy import Attestation, Conditioning, HealthReport, LeafProof

__all__ = ["BATCH_OPEN_MS", "BATCH_UNITS", "Batch", "CutUnit", "SealedBatch", "Statement", "seal"]

# Protocol parameters: a full batch is 67 MB of units waiting for one signature, and no unit waits longer than two seconds for its.
BATCH_UNITS = 256
BATCH_OPEN_MS = 2_000
_Owner = TypeVar("_Owner")


@dataclass(slots=True)
class CutUnit(Generic[_Owner]):
    """One unit made for one node. `owner`: the session it goes to; `unit`: where it lies, with the digest of its material."""

    owner: _Owner
    node: bytes
    sequence: int
    unit: ReadyUnit

    @property
    def span(self) -> Span:
        """What stands behind it."""
        return self.unit.span

    def wipe(self) -> None:
        """Overwrite the randomness and give its memory back; harmless when repeated."""
        self.unit.release()

    def __repr__(self) -> str:
        return f"<CutUnit {self.sequence} for {self.node.hex()[:12]}>"


@dataclass(slots=True)
class Batch(Generic[_Owner]):
    """The batch that is open now."""

    units: list[CutUnit[_Owner]] = field(default_factory=list)
    first_ms: int = 0
    last_ms: int = 0
    closed: bool = False

    def add(self, unit: CutUnit[_Owner], now_ms: int) -> None:
        assert self.takes(unit.span), "a batch that is full, or of another device, is closed first"
        if not self.units:
            self.first_ms = now_ms
        self.last_ms = now_ms
        self.units.append(unit)

    @property
    def room(self) -> int:
        """How many more units fit."""
        return 0 if self.closed else BATCH_UNITS - len(self.units)

    def close(self) -> None:
        """Take no more, however much room there is."""
        self.closed = True

    def takes(self, span: Span) -> bool:
        """Whether a unit with this span may join: an attestation speaks of one device."""
        return bool(self.room) and (not self.units or self.units[0].span.device == span.device)

    @property
    def due_ms(self) -> int:
        """When it must close at the latest."""
        return self.first_ms + BATCH_OPEN_MS

    @property
    def span(self) -> Span:
        """What stands behind all of it; units are cut in the order of the stream."""
        return self.units[0].span.joined(self.units[-1].span)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a server says in every attestation about one of its devices, besides figures of the batch."""

    chain: str
    server: bytes
    conditioning: Conditioning
    lifetime_ms: int
    health_report: Callable[[Measurement], HealthReport]


@dataclass(frozen=True, slots=True)
class SealedBatch(Generic[_Owner]):
    """A batch whose attestation is signed: `proofs[i]` and `leaves[i]` (72 bytes) belong to `units[i]`."""

    attestation: Signed
    root: bytes
    leaves: list[bytes]
    units: list[CutUnit[_Owner]]
    proofs: list[LeafProof]


def seal(batch: Batch[_Owner], number: int, statement: Statement, sign: Callable[[Attestation], Signed]) -> SealedBatch[_Owner]:
    """Build the tree over `batch`, which has at least one unit, and have its attestation signed. `number`: the batch's, never repeated."""
    root, proofs = build_batch([(unit.node, unit.sequence, unit.unit.digest) for unit in batch.units])
    leaves = [leaf_data_of_hash(unit.node, unit.sequence, unit.unit.digest) for unit in batch.units]
    span = batch.span
    attestation = Attestation(
        chain=statement.chain,
        server=statement.server,
        batch=number,
        device=span.device,
        health=statement.health_report(span.after.since(span.before)),
        conditioning=statement.conditioning,
        start_ms=span.start_ms,
        end_ms=span.end_ms,
        expires_ms=span.end_ms + statement.lifetime_ms,
        root=root,
        leaves=len(batch.units),
    )
    return SealedBatch(sign(attestation), root, leaves, batch.units, proofs)
