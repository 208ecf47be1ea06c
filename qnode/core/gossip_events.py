"""What happens to gossip, and what follows from it (`proto/spec/gossip.md`): plain data, recorded and replayed as it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from qustream.wire.gossip import GossipMessage, Topic

__all__ = [
    "Check", "DelayMeasured", "Effect", "Event", "Expel", "Heard", "Judged", "LinkClosed", "LinkOpened", "Published", "Send", "Ticked",
    "Verdict", "Wake",
]  # fmt: skip


class Verdict(IntEnum):
    """What the part that knows a topic says of a message."""

    GOOD = 0
    BAD = 1
    USELESS = 2


# ---------------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A licensed peer is linked. Every peer comes once, until it has closed."""

    peer: bytes
    operator: str
    ours: bool
    assigned: bool = False


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The link is gone, whoever ended it."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class DelayMeasured:
    """How far a peer is: one way, in ms, half of the smoothed round trip that the system keeps for the connection. It is told when the
    link has been opened and once every ten seconds or so; a link of which it was never told counts as far. A peer that answers late makes
    itself look farther than it is, so little follows from it: whom a body goes to first, and to whom unasked."""

    peer: bytes
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Heard:
    """A message came on the gossip channel; its form has been checked."""

    peer: bytes
    message: GossipMessage


@dataclass(frozen=True, slots=True)
class Published:
    """Our own node has something to say."""

    topic: Topic
    body: bytes


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer to a `Check`."""

    id: bytes
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Misled:
    """A linked peer has told us, elsewhere than in gossip, what is not true. It counts as a bad message."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class Ticked:
    """A second has passed, or a `Wake` is due. `draw`: 64 random bits."""

    draw: int
    is_heartbeat: bool = True


Event: TypeAlias = LinkOpened | LinkClosed | DelayMeasured | Heard | Published | Judged | Misled | Ticked

# --------------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one peer; a queue that is full may drop it."""

    peer: bytes
    message: GossipMessage


@dataclass(frozen=True, slots=True)
class Check:
    """Judge a message that is new; the answer comes as `Judged`."""

    id: bytes
    topic: Topic
    body: bytes
    peer: bytes


@dataclass(frozen=True, slots=True)
class Expel:
    """Close the link, and neither open nor accept another before `until_ms`."""

    peer: bytes
    until_ms: int


@dataclass(frozen=True, slots=True)
class Wake:
    """Send a `Ticked` that is no heartbeat at `at_ms`."""

    at_ms: int


Effect: TypeAlias = Send | Check | Expel | Wake
