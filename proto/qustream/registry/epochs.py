"""When epochs begin and which seed each has on a network without a chain (`proto/spec/registry.md`, "Epochs")."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from qustream.errors import fault
from qustream.model.network import Epoch

__all__ = ["EpochClock"]

# 2^63 - 1: what every language's signed integer holds (`U63`).
TIME_MAX_MS = 0x7FFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class EpochClock:
    """Epoch E begins at `genesis_ms` + E × `length_ms`.

    Its seed is SHA-256("qustream/1/epoch-seed" ‖ chain ‖ seed ‖ E (8 bytes, big endian)). The last two parts have fixed
    lengths, so no two inputs run together.
    """

    chain: str
    genesis_ms: int
    length_ms: int
    seed: bytes

    def at(self, number: int) -> Epoch:
        """Epoch `number`. Errors: `E-REGISTRY-UNKNOWN` for a number that no clock reaches."""
        boundary_ms = self.genesis_ms + number * self.length_ms
        if number < 0 or boundary_ms > TIME_MAX_MS:
            raise fault("E-REGISTRY-UNKNOWN", f"there is no epoch {number}")
        message = b"qustream/1/epoch-seed" + self.chain.encode() + self.seed + number.to_bytes(8, "big")
        return Epoch(number, boundary_ms, hashlib.sha256(message).digest(), self.length_ms)

    def of(self, now_ms: int) -> Epoch:
        """The epoch in which `now_ms` lies. Errors: `E-CHAIN-STALE` before genesis (or this clock is wrong)."""
        if now_ms < self.genesis_ms:
            raise fault("E-CHAIN-STALE", f"this clock is {self.genesis_ms - now_ms} ms before the network's genesis")
        return self.at((now_ms - self.genesis_ms) // self.length_ms)
