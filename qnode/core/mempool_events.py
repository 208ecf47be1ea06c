"""What happens to the mempool, and what follows from it (`proto/spec/mempool.md`): plain data, recorded and replayed as it is."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from qnode.core.mempool_limits import RATE_BITS

__all__ = ["Dropped", "Effect", "Event", "Executed", "Kept", "Offered", "Refused", "Waiting", "Why"]


class Plain(Struct, frozen=True, gc=False):
    """Cheap to make: there are some of these for every transaction."""


class Waiting(Plain, frozen=True):
    """A transaction, as far as it matters here. `size`: bytes of the whole transaction; `cost`: its fee, and at most what its action takes
    from what the sender has liquid."""

    id: bytes
    sender: bytes
    nonce: int
    expires: int
    fee: int
    cost: int
    size: int

    @property
    def rate(self) -> int:
        """The fee a byte, in 2^-16 units."""
        return (self.fee << RATE_BITS) // self.size


# ---------------------------------------------------------------------------------------------------------------- events


class Offered(Plain, frozen=True):
    """A transaction that holds and pays the least fee. `nonce`, `liquid`: its sender's, in the newest executed state."""

    waiting: Waiting
    nonce: int
    liquid: int


class Executed(Plain, frozen=True):
    """A block has been executed. `accounts`: who sent a transaction of it, with the nonce and what is liquid after it."""

    height: int
    accounts: tuple[tuple[bytes, int, int], ...]


Event: TypeAlias = Offered | Executed

# --------------------------------------------------------------------------------------------------------------- effects


class Why(StrEnum):
    """Why a transaction waits no longer."""

    EXECUTED = "executed"  # it, or another with its nonce
    REPLACED = "replaced"
    EVICTED = "evicted"
    EXPIRED = "expired"
    UNFUNDED = "unfunded"


class Kept(Plain, frozen=True):
    """It waits."""

    id: bytes


class Refused(Plain, frozen=True):
    """It does not. `code`, `detail`: for whoever offered it."""

    id: bytes
    code: str
    detail: str


class Dropped(Plain, frozen=True):
    """One that waited does so no more."""

    id: bytes
    why: Why


Effect: TypeAlias = Kept | Refused | Dropped
