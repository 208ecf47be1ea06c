"""What happens while a node gets the chain from others, and what follows from it (`proto/spec/sync.md`): plain data."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from qnode.core.consensus_events import Final
from qustream.wire.consensus import Certificate, ChainHeader
from qustream.wire.sync import BlocksAnswer, BodyAnswer

__all__ = [
    "AskBlocks", "AskBody", "BlocksTold", "BodyTold", "Charge", "Effect", "Event", "Finalise", "Found", "Head", "Keep",
    "Kept", "Look", "Moved", "NotFinalised", "PeerFound", "PeerLost", "Refused", "Ticked", "Verified", "Verify",
]  # fmt: skip


class Head(Struct, frozen=True):
    """The last final block here. `rotation`: of the block that comes next, and `weights`: of its validators, by number; both follow from
    executed state. `is_validator`: consensus brings the blocks as long as it can."""

    height: int
    digest: bytes
    rotation: int
    weights: tuple[int, ...]
    is_validator: bool = False


# ---------------------------------------------------------------------------------------------------------------- events


class Moved(Struct, frozen=True):
    """The chain here is so far, whoever brought it there."""

    head: Head


class PeerFound(Struct, frozen=True):
    """Somebody can be asked."""

    peer: bytes


class PeerLost(Struct, frozen=True):
    """Nobody can be asked any more under this name; nothing more comes of what was."""

    peer: bytes


class BlocksTold(Struct, frozen=True):
    """The answer to an `AskBlocks`; its form has been checked, nothing else."""

    peer: bytes
    ask: int
    answer: BlocksAnswer


class BodyTold(Struct, frozen=True):
    """The answer to an `AskBody`; `names`: the ids of its transactions as their bytes say."""

    peer: bytes
    ask: int
    answer: BodyAnswer
    names: tuple[bytes, ...]


class Refused(Struct, frozen=True):
    """No answer: a refusal, or none in time. `is_lie`: what came was no message. `after_ms`: when to ask again, as it says."""

    peer: bytes
    ask: int
    is_lie: bool = False
    after_ms: int = 0


class Verified(Struct, frozen=True):
    """The answer to a `Verify`."""

    run: int
    good: bool


class Found(Struct, frozen=True):
    """The answer to a `Look`: the numbers of the transactions that are not here."""

    height: int
    missing: tuple[int, ...]


class Kept(Struct, frozen=True):
    """The answer to a `Keep`: these are on disk."""

    height: int
    numbers: tuple[int, ...]


class NotFinalised(Struct, frozen=True):
    """A `Finalise` could not be performed."""


class Ticked(Struct, frozen=True):
    """Time has passed. `draw`: 64 random bits."""

    draw: int


Event: TypeAlias = Moved | PeerFound | PeerLost | BlocksTold | BodyTold | Refused | Verified | Found | Kept | NotFinalised | Ticked

# --------------------------------------------------------------------------------------------------------------- effects


class AskBlocks(Struct, frozen=True):
    """Send a `BlocksAsk`; exactly one of `BlocksTold` and `Refused` comes of it, at the latest at the end of `within_ms`."""

    peer: bytes
    ask: int
    above: int
    most: int
    wait_ms: int
    within_ms: int


class AskBody(Struct, frozen=True):
    """Send a `BodyAsk`; exactly one of `BodyTold` and `Refused` comes of it."""

    peer: bytes
    ask: int
    height: int
    first: int
    count: int
    within_ms: int


class Verify(Struct, frozen=True):
    """Check the signatures of a certificate under the vote keys of its rotation; the answer comes as `Verified`."""

    run: int
    certificate: Certificate


class Look(Struct, frozen=True):
    """Which of these transactions are not here? The answer comes as `Found`."""

    height: int
    ids: tuple[bytes, ...]


class Keep(Struct, frozen=True):
    """Put these transactions on disk; the answer comes as `Kept`. `numbers`: their places in the block."""

    height: int
    numbers: tuple[int, ...]
    ids: tuple[bytes, ...]
    transactions: tuple[bytes, ...]


class Finalise(Struct, frozen=True):
    """These are final, in order, and all of their transactions are here. What comes of it is `Moved`, or `NotFinalised`. `tail`: what
    stands between the last of them and the block of the certificate, if they end a rotation: it proves the end to others."""

    blocks: tuple[Final, ...]
    certificate: Certificate
    tail: tuple[ChainHeader, ...]


class Charge(Struct, frozen=True):
    """This peer has told what nobody tells who obeys the rules."""

    peer: bytes
    why: str


Effect: TypeAlias = AskBlocks | AskBody | Verify | Look | Keep | Finalise | Charge
