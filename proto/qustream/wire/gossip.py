"""Gossip between nodes (`proto/spec/gossip.md`). Tags 50-59, on the gossip channel."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta

from qustream.model.base import Bytes32, Count32, Noun
from qustream.wire.codec import Message

__all__ = [
    "ENTRIES_MAX",
    "GOSSIP_BODY_MAX_BYTES",
    "GOSSIP_MAX_BYTES",
    "Announced",
    "GossipAnnounce",
    "GossipGraft",
    "GossipMessage",
    "GossipPrune",
    "GossipPull",
    "GossipPush",
    "Topic",
]

# A block's header and transaction ids at full size; its transactions travel by themselves.
GOSSIP_BODY_MAX_BYTES = 128 * 1024
GOSSIP_MAX_BYTES = GOSSIP_BODY_MAX_BYTES + 64
# News of a second at a thousand messages a second, in a few messages of 3 KiB.
ENTRIES_MAX = 64


class Topic(IntEnum):
    """What a message is about; the numbers stand on the wire."""

    TRANSACTION = 1
    BLOCK = 2
    EVIDENCE = 3
    ADDRESS = 4
    ANNOUNCEMENT = 5


class GossipPush(Message, frozen=True, tag=50):
    """A message: small and unasked, or the answer to a pull."""

    topic: Topic
    body: Annotated[bytes, Meta(min_length=1, max_length=GOSSIP_BODY_MAX_BYTES)]


class Announced(Noun, frozen=True):
    """News of a message. `held`: whoever says so has it; else it has heard of it and will have it."""

    id: Bytes32
    topic: Topic
    size: Count32
    held: bool


class GossipAnnounce(Message, frozen=True, tag=51):
    """There are such messages."""

    entries: Annotated[tuple[Announced, ...], Meta(min_length=1, max_length=ENTRIES_MAX)]


class GossipPull(Message, frozen=True, tag=52):
    """Give me these."""

    ids: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=ENTRIES_MAX)]


class GossipGraft(Message, frozen=True, tag=53):
    """Take me into your mesh."""


class GossipPrune(Message, frozen=True, tag=54):
    """I leave you out of my mesh; do not ask again within `backoff_s` seconds."""

    backoff_s: Annotated[int, Meta(ge=0, le=3600)]


GossipMessage = GossipPush | GossipAnnounce | GossipPull | GossipGraft | GossipPrune
