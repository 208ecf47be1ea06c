"""What happens to gossip, and what follows from it (`proto/spec/gossip.md`): plain data, recorded and replayed as it is."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from msgspec import Struct

from qustream.wire.gossip import GossipMessage, Topic

__all__ = [
    "Check", "DelayMeasured", "Effect", "Event", "Expel", "Heard", "Judged", "LinkClosed", "LinkOpened", "Published", "Send", "Ticked",
    "Verdict", "Wake",
]  # fmt: skip


class Plain(Struct, frozen=True, gc=False):
    """Cheap to make: there are some of these for every message."""


class Verdict(IntEnum):
    """What the part that knows a topic says of a message."""

    GOOD = 0
    BAD = 1
    USELESS = 2


# ---------------------------------------------------------------------------------------------------------------- events


class LinkOpened(Plain, frozen=True):
    """A licensed peer is linked. Every peer comes once, until it has closed."""

    peer: bytes
    operator: str
    ours: bool
    assigned: bool = False


class LinkClosed(Plain, frozen=True):
    """The link is gone, whoever ended it."""

    peer: bytes


class DelayMeasured(Plain, frozen=True):
    """How far a peer is: one way, in ms, half of the smoothed round trip that the system keeps for the connection. It is told when the
    link has been opened and every half minute; a link of which it was never told counts as far. A peer that answers late makes
    itself look farther than it is, so little follows from it: whom a body goes to first, and to whom unasked."""

    peer: bytes
    delay_ms: int


class Heard(Plain, frozen=True):
    """A message came on the gossip channel; its form has been checked."""

    peer: bytes
    message: GossipMessage


class Published(Plain, frozen=True):
    """Our own node has something to say."""

    topic: Topic
    body: bytes


class Judged(Plain, frozen=True):
    """The answer to a `Check`."""

    id: bytes
    verdict: Verdict


class Misled(Plain, frozen=True):
    """A linked peer has told us, elsewhere than in gossip, what is not true. It counts as a bad message."""

    peer: bytes


class Ticked(Plain, frozen=True):
    """A second has passed, or a `Wake` is due. `draw`: 64 random bits."""

    draw: int
    is_heartbeat: bool = True


Event: TypeAlias = LinkOpened | LinkClosed | DelayMeasured | Heard | Published | Judged | Misled | Ticked

# --------------------------------------------------------------------------------------------------------------- effects


class Send(Plain, frozen=True):
    """Send to one peer; a queue that is full may drop it."""

    peer: bytes
    message: GossipMessage


class Check(Plain, frozen=True):
    """Judge a message that is new; the answer comes as `Judged`."""

    id: bytes
    topic: Topic
    body: bytes
    peer: bytes


class Expel(Plain, frozen=True):
    """Close the link, and neither open nor accept another before `until_ms`."""

    peer: bytes
    until_ms: int


class Wake(Plain, frozen=True):
    """Send a `Ticked` that is no heartbeat at `at_ms`."""

    at_ms: int


Effect: TypeAlias = Send | Check | Expel | Wake
