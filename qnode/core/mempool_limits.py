"""Every bound of the mempool with its reason, in one place (`proto/spec/mempool.md`, §7)."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BOUNDS", "Bounds"]


class Bounds(NamedTuple):
    """How much may wait: transactions and their bytes; and of these how many behind a gap in their account's nonces, with their bytes."""

    transactions: int
    bytes: int
    parked: int
    parked_bytes: int


BOUNDS = Bounds(
    # Eight seconds of the 1,000 transactions a second that the chain is made for: beyond, whoever waits may as well be told to come again.
    transactions=8_192,
    # As many of 3.6 KiB, which is what a hybrid signature makes of a transfer, and a little room for larger ones.
    bytes=32 << 20,
    # What gossip brings out of order within a second. They pay nothing as long as the gap is there, so they may not fill the place of those
    # who do.
    parked=1_024,
    parked_bytes=4 << 20,
)
# Of one account, from its next nonce on: somebody who pays a whole office at once; nobody needs more in eight seconds.
QUEUE_MAX = 64
# Whoever takes the place of another, his own or a stranger's, pays a tenth more: from the least fee to all there is, that is done some
# 300 times, and so often at most a place is verified and passed on for nothing.
BUMP_NUMERATOR, BUMP_DENOMINATOR = 11, 10
# Fees a byte are compared as whole numbers of 2^-16 units: two that differ by less are alike.
RATE_BITS = 16
# A transaction that comes must be good for so many blocks more: one that expires without having been in any was verified and passed on
# for nothing, and its place is free for the next.
EXPIRY_LEAST = 16
# How far ahead a transaction may expire (`ledger.md` §3), and as much more as a node may be behind whoever made it.
EXPIRY_AHEAD_MAX = 14_400 + 64
# Old entries of the two heaps are thrown out when they are more than this many times those that count: then it costs nothing on average.
STALE_FACTOR = 4
