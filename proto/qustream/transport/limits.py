"""Every bound of the transport with its reason, in one place (`proto/spec/transport.md`, "Limits")."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

__all__ = ["CHANNEL_LIMITS", "Channel", "ChannelLimits"]


class Channel(IntEnum):
    """What shares a connection, most urgent first; the numbers stand on the wire."""

    CONTROL = 0
    CONSENSUS = 1
    REQUEST = 2
    GOSSIP = 3
    BULK = 4

    # An enumeration hashes its name, in Python and at every look-up.
    __hash__ = int.__hash__


class ChannelLimits(NamedTuple):
    """Bounds of one channel: the size of a message, and what may wait to be sent."""

    message_max_bytes: int
    queue_max_bytes: int
    queue_max_messages: int


KIB = 1024
# u32 length and u8 channel.
HEADER_BYTES = 5
# A vote behind a block waits for one piece: 64 KiB are 5 ms at 100 Mbit/s.
PIECE_BYTES = 64 * KIB

CHANNEL_LIMITS: dict[Channel, ChannelLimits] = {
    # The Hello is the largest (16 KiB). A peer that makes us answer 64 pings without reading one does not read at all.
    Channel.CONTROL: ChannelLimits(16 * KIB, 64 * KIB, 64),
    # A vote is ~2.6 KiB, a certificate of 128 votes is bulk. 256 votes are more than two views of a full committee.
    Channel.CONSENSUS: ChannelLimits(64 * KIB, 1024 * KIB, 256),
    # A key answer is ~272 KiB; the RPC body limit is 512 KiB and its envelope a few bytes. Two answers at once.
    Channel.REQUEST: ChannelLimits(600 * KIB, 1200 * KIB, 256),
    # Gossip announces what is above 1 KiB and pulls at most 128 KiB; twice that, and eight waiting.
    Channel.GOSSIP: ChannelLimits(256 * KIB, 2048 * KIB, 1024),
    # A unit of the feed is 257 KiB, a block of transactions 512 KiB.
    Channel.BULK: ChannelLimits(600 * KIB, 1200 * KIB, 64),
}
MESSAGE_MAX_BYTES = max(limits.message_max_bytes for limits in CHANNEL_LIMITS.values())

# What an unknown peer may use: it must be able to be refused by name, and nothing else.
UNKNOWN_PEER_CHANNELS = frozenset({Channel.CONTROL, Channel.REQUEST})
ALL_CHANNELS = frozenset(Channel)

# Plaintext that goes into one write: measured best between 128 KiB and 512 KiB; more only delays an urgent message.
COALESCE_BYTES = 256 * KIB
# What one read takes from the socket, so that a sender's coalesced write is one read.
READ_BYTES = COALESCE_BYTES
# The same where all connections share one buffer, which may then be larger: two writes of a sender that is quicker than we.
SHARED_READ_BYTES = 2 * COALESCE_BYTES
# A stranger's records may be of one byte: 16 KiB of these are 4 ms of work, and then others have their turn.
PACED_READ_BYTES = 16 * KIB
# The largest honest flight is 10.3 KiB of handshake, 16 KiB of Hello; four times that.
HANDSHAKE_MAX_BYTES = 64 * KIB
# TLS answers key updates by itself. A peer that makes us owe it more than this does not read.
TLS_OWED_MAX_BYTES = 64 * KIB
# Our certificate is 5.4 KiB; 0.25 KiB for other names and dates, rounded up.
CERTIFICATE_MAX_BYTES = 6 * KIB

# Calls one side may have open on a connection, and the requests of the other it holds at a time.
CALLS_MAX = 256
REQUESTS_MAX = 64
# What these requests may hold: a key request is ~12 KiB, so forty of them; 1,024 connections hold at most half a GiB.
REQUESTS_MAX_BYTES = 512 * KIB + KIB
# Requests of one connection that are worked on at a time: each may hold an answer of 272 KiB until the peer reads.
REQUESTS_WORKED_ON_MAX = 8
# What a request that is refused as its asker's fault counts, beside its record and its message: it may have cost the verification of two
# signatures (0.4 ms), and its asker nothing. So an address gets 256 of them a second, a tenth of a core.
REFUSED_WORK = 16
# A peer that is allowed requests alone sends no more than a key request (32 KiB) and its envelope at once.
UNLICENSED_MESSAGE_MAX_BYTES = 64 * KIB
# How long a peer may take nothing of what is sent before it is given up: whoever reads takes something every second.
STALL_MS = 15_000
# A peer that left so many calls unanswered beyond their deadline is broken; each one costs us a remembered number.
ABANDONED_MAX = 1024
# No call waits longer: a minute is what the slowest honest answer takes ten times over.
DEADLINE_MAX_MS = 120_000
