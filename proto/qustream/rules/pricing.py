"""What requests cost (`proto/spec/ledger.md`, §3): for the chain that takes the money and for who wants to know before."""

from __future__ import annotations

from qustream.model.state import Parameters

__all__ = ["grant_price", "roll_over_price"]

# A request keeps so many bytes on the nodes: two blocks on each of three.
COPIES, BLOCK_BYTES = 6, 262_504
MEGABYTE_DAY = 10**6 * 86_400_000
BASIS = 10_000


def grant_price(parameters: Parameters, count: int, lifetime_ms: int) -> int:
    """What so many requests cost whose keys live so long, in units."""
    kept = -(-parameters.price_megabyte_day * COPIES * BLOCK_BYTES * lifetime_ms // MEGABYTE_DAY)
    return count * (parameters.price_request + kept)


def roll_over_price(parameters: Parameters, count: int, lifetime_ms: int) -> int:
    """What the same cost in exchange for others, rounded up."""
    return -(-grant_price(parameters, count, lifetime_ms) * parameters.roll_over_bp // BASIS)
