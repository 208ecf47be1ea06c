"""What happens while a node gets a state from others, and what follows from it (`proto/spec/sync.md`, §7): plain data."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from msgspec import Struct

from qustream.rules.radix_plan import Chunk, Plan
from qustream.wire.snapshot import ChunkAsk, ChunkTold, Offer, SnapshotAsk, SnapshotTold

__all__ = [
    "Ask", "Began", "Begin", "Charge", "Check", "Checked", "ChunkCame", "Effect", "Event", "Finish", "Finished", "Look", "Missing",
    "PeerFound", "PeerLost", "PlanCame", "Refused", "Resumed", "Take", "Taken", "Ticked", "Verdict",
]  # fmt: skip


class Verdict(Enum):
    """What of an offer is to be thought: it is true; nobody who obeys the rules makes it; it cannot be told now."""

    TRUE = 1
    LIE = 2
    UNKNOWN = 3


# ---------------------------------------------------------------------------------------------------------------- events


class Resumed(Struct, frozen=True):
    """The state with this root is on its way, from before a restart."""

    root: bytes


class PeerFound(Struct, frozen=True):
    """Somebody can be asked."""

    peer: bytes


class PeerLost(Struct, frozen=True):
    """Nobody can be asked any more under this name; nothing more comes of what was."""

    peer: bytes


class PlanCame(Struct, frozen=True):
    """The answer to an `Ask` of a `SnapshotAsk`; its form has been checked, nothing else."""

    peer: bytes
    ask: int
    told: SnapshotTold


class ChunkCame(Struct, frozen=True):
    """The answer to an `Ask` of a `ChunkAsk`."""

    peer: bytes
    ask: int
    told: ChunkTold


class Refused(Struct, frozen=True):
    """No answer: a refusal, or none in time. `is_lie`: what came was no message; `has_not`: it says that it has not that state; `after_ms`:
    when to ask again, as it says."""

    peer: bytes
    ask: int
    is_lie: bool = False
    has_not: bool = False
    after_ms: int = 0


class Checked(Struct, frozen=True):
    """The answer to a `Check`."""

    peer: bytes
    verdict: Verdict


class Began(Struct, frozen=True):
    """The answer to a `Begin`: the plan is on the disk, or could not be put there."""

    good: bool


class Missing(Struct, frozen=True):
    """The answer to a `Look`: the first prefixes of chunks that are not here; none: all are."""

    prefixes: tuple[bytes, ...]


class Taken(Struct, frozen=True):
    """The answer to a `Take`: the chunk is on the disk; it was not what the plan says; or (UNKNOWN) the disk did not take it."""

    peer: bytes
    prefix: bytes
    verdict: Verdict


class Finished(Struct, frozen=True):
    """The answer to a `Finish`."""

    verdict: Verdict


class Ticked(Struct, frozen=True):
    """Time has passed. `draw`: 64 random bits."""

    draw: int


Event: TypeAlias = Resumed | PeerFound | PeerLost | PlanCame | ChunkCame | Refused | Checked | Began | Missing | Taken | Finished | Ticked

# --------------------------------------------------------------------------------------------------------------- effects


class Ask(Struct, frozen=True):
    """Send it; exactly one of `PlanCame` or `ChunkCame`, and `Refused` comes of it, at the latest at the end of `within_ms`."""

    peer: bytes
    ask: int
    message: SnapshotAsk | ChunkAsk
    within_ms: int


class Check(Struct, frozen=True):
    """Is the state with this root one that a quorum has, as the offer says? The answer comes as `Checked`."""

    peer: bytes
    root: bytes
    offer: Offer


class Begin(Struct, frozen=True):
    """Take this state in, in place of any other; the answer comes as `Began`."""

    root: bytes
    offer: Offer
    plan: Plan


class Look(Struct, frozen=True):
    """Which chunks are missing? The answer comes as `Missing`."""

    limit: int


class Take(Struct, frozen=True):
    """Check a chunk and put it on the disk; the answer comes as `Taken`."""

    peer: bytes
    prefix: bytes
    chunk: Chunk


class Finish(Struct, frozen=True):
    """All chunks are here; the answer comes as `Finished`."""


class Charge(Struct, frozen=True):
    """This peer has told what nobody tells who obeys the rules."""

    peer: bytes
    why: str


Effect: TypeAlias = Ask | Check | Begin | Look | Take | Finish | Charge
