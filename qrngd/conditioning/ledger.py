"""The entropy ledger: what may leave never exceeds what came in (`proto/spec/entropy-feed.md`, "Conditioning").

Integers only. Entropy is credited per lane of a window that passed, and taken when bytes leave, for whatever purpose. It errs on
the low side: tails of windows, start-up windows and the operating system's own seeding count nothing.
"""

from __future__ import annotations

from qrngd.conditioning.cbcmac import BLOCK_BYTES, ENTROPY_IN_BITS

__all__ = ["EntropyLedger"]


class EntropyLedger:
    """Bits credited and taken since the daemon started."""

    def __init__(self, *, samples_per_lane: int, min_entropy_millibits: int) -> None:
        assert samples_per_lane * min_entropy_millibits >= ENTROPY_IN_BITS * 1000, "a lane must hold 192 bits of min-entropy"
        self.credited_bits = 0
        self.taken_bits = 0

    @property
    def available_bits(self) -> int:
        return self.credited_bits - self.taken_bits

    def credit(self, lanes: int) -> None:
        """`lanes` lanes of windows that passed were conditioned: 128 bits each."""
        assert lanes >= 0
        self.credited_bits += lanes * 8 * BLOCK_BYTES

    def take(self, size_bytes: int) -> None:
        """`size_bytes` conditioned bytes leave. Taking more than is there is our own bug, and stops the daemon."""
        assert 0 <= 8 * size_bytes <= self.available_bits, "more entropy taken than credited"
        self.taken_bits += 8 * size_bytes
