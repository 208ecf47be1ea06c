"""Which bits of a message's marks are a peer's (`proto/spec/gossip.md`, §9).

What is remembered of a peer and a message is four bits, and the marks of a message are one number: at sixteen links 64 bits, where a table
of names would take a kilobyte for each of 131,072 messages. A peer has a *seat*, four bits wide, as long as it is linked, and finds it
again if it comes back, until somebody else has needed it.
"""

from __future__ import annotations

from collections import OrderedDict

from qnode.core.gossip_limits import KEEP_MS, SEATS_MAX

__all__ = ["ASKED", "HEARD", "HEARD_ALL", "SEAT_BITS", "SERVED", "TOLD", "Seats"]

# What is remembered of one peer and one message. Any of them means: it need not be told.
TOLD = 1  # by us
HEARD = 2  # it announced or brought it
ASKED = 4  # we have pulled it from this peer
SERVED = 8  # this peer has had the body from us
SEAT_BITS = 4
# Of every seat the bit that says HEARD.
HEARD_ALL = sum(HEARD << SEAT_BITS * seat for seat in range(SEATS_MAX))


class Seats:
    """Who sits where. Nobody takes the seat of a peer that is gone as long as ids are remembered, unless all are taken."""

    __slots__ = ("_count", "_left")

    def __init__(self) -> None:
        self._count = 0
        self._left: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # peer -> seat, since when; who went first stands first

    def take(self, peer: bytes, now_ms: int) -> tuple[int, bool]:
        """The seat of a peer that is linked now, and whether somebody else's marks may still be on it."""
        if (own := self._left.pop(peer, None)) is not None:
            return own[0], False
        if self._left:
            _, (seat, left_ms) = next(iter(self._left.items()))
            if now_ms - left_ms > KEEP_MS or self._count >= SEATS_MAX:
                self._left.popitem(last=False)
                return seat, True
        self._count += 1
        return self._count - 1, False

    def leave(self, peer: bytes, seat: int, now_ms: int) -> None:
        self._left[peer] = (seat, now_ms)
