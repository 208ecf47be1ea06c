"""What happens while a node gets the chain from others, and what follows from it (`proto/spec/sync.md`): plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from qnode.core.consensus_events import Final
from qustream.wire.consensus import Certificate, ChainHeader
from qustream.wire.sync import BlocksAnswer, BodyAnswer

__all__ = [
    "AskBlocks", "AskBody", "BlocksTold", "BodyTold", "Charge", "Effect", "Event", "Finalise", "Found", "Head", "Keep",
    "Kept", "Look", "Moved", "NotFinalised", "PeerFound", "PeerLost", "Refused", "Ticked", "Verified", "Verify",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """The last final block here. `rotation`: of the block that comes next, and `weights`: of its validators, by number; both follow from
    executed state. `is_validator`: consensus brings the blocks as long as it can."""

    height: int
    digest: bytes
    rotation: int
    weights: tuple[int, ...]
    is_validator: bool = False


# ---------------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Moved:
    """The chain here is so far, whoever brought it there."""

    head: Head


@dataclass(frozen=True, slots=True)
class PeerFound:
    """Somebody can be asked."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class PeerLost:
    """Nobody can be asked any more under this name; nothing more comes of what was."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class BlocksTold:
    """The answer to an `AskBlocks`; its form has been checked, nothing else."""

    peer: bytes
    ask: int
    answer: BlocksAnswer


@dataclass(frozen=True, slots=True)
class BodyTold:
    """The answer to an `AskBody`; `names`: the ids of its transactions as their bytes say."""

    peer: bytes
    ask: int
    answer: BodyAnswer
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """No answer: a refusal, or none in time. `is_lie`: what came was no message. `after_ms`: when to ask again, as it says."""

    peer: bytes
    ask: int
    is_lie: bool = False
    after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Verified:
    """The answer to a `Verify`."""

    run: int
    good: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a `Look`: the numbers of the transactions that are not here."""

    height: int
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a `Keep`: these are on disk."""

    height: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NotFinalised:
    """A `Finalise` could not be performed."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed. `draw`: 64 random bits."""

    draw: int


Event: TypeAlias = Moved | PeerFound | PeerLost | BlocksTold | BodyTold | Refused | Verified | Found | Kept | NotFinalised | Ticked

# --------------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class AskBlocks:
    """Send a `BlocksAsk`; exactly one of `BlocksTold` and `Refused` comes of it, at the latest at the end of `within_ms`."""

    peer: bytes
    ask: int
    above: int
    most: int
    wait_ms: int
    within_ms: int


@dataclass(frozen=True, slots=True)
class AskBody:
    """Send a `BodyAsk`; exactly one of `BodyTold` and `Refused` comes of it."""

    peer: bytes
    ask: int
    height: int
    first: int
    count: int
    within_ms: int


@dataclass(frozen=True, slots=True)
class Verify:
    """Check the signatures of a certificate under the vote keys of its rotation; the answer comes as `Verified`."""

    run: int
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Look:
    """Which of these transactions are not here? The answer comes as `Found`."""

    height: int
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """Put these transactions on disk; the answer comes as `Kept`. `numbers`: their places in the block."""

    height: int
    numbers: tuple[int, ...]
    ids: tuple[bytes, ...]
    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Finalise:
    """These are final, in order, and all of their transactions are here. What comes of it is `Moved`, or `NotFinalised`. `tail`: what
    stands between the last of them and the block of the certificate, if they end a rotation: it proves the end to others."""

    blocks: tuple[Final, ...]
    certificate: Certificate
    tail: tuple[ChainHeader, ...]


@dataclass(frozen=True, slots=True)
class Charge:
    """This peer has told what nobody tells who obeys the rules."""

    peer: bytes
    why: str


Effect: TypeAlias = AskBlocks | AskBody | Verify | Look | Keep | Finalise | Charge
