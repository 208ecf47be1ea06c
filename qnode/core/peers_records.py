"""Whether an address record is worth the verifying of its signature (`proto/spec/peers.md`, §1)."""

from __future__ import annotations

from collections.abc import Container

from qnode.core.gossip_events import Verdict
from qnode.core.peers_limits import AHEAD_MAX_MS, RECORD_EPOCHS, RECORD_EVERY_MS
from qustream.model.network import AddressRecord
from qustream.rules.peering import is_address

__all__ = ["check_record", "records_from_ms"]


def records_from_ms(boundary_ms: int, epoch_ms: int) -> int:
    """Before which moment a record must not have been issued. `boundary_ms`: when this epoch began; `epoch_ms`: its length."""
    return max(0, boundary_ms - RECORD_EPOCHS * epoch_ms)


def check_record(
    record: AddressRecord, known: Container[bytes], newest_ms: int | None, *, chain: str, now_ms: int, from_ms: int
) -> Verdict:  # fmt: skip
    """What a record that decodes is, its signature left aside. `newest_ms`: when the one we have of its node was issued, None if we have
    none; `from_ms`: what `records_from_ms` said. What its signer alone can have done is bad; what may be the fault of a clock, of the way
    it took or of the registry we have is useless."""
    if record.chain != chain or not all(map(is_address, record.addresses)):
        return Verdict.BAD
    is_late = newest_ms is not None and record.issued_ms < newest_ms + RECORD_EVERY_MS
    if record.node not in known or is_late or not from_ms <= record.issued_ms <= now_ms + AHEAD_MAX_MS:
        return Verdict.USELESS
    return Verdict.GOOD
