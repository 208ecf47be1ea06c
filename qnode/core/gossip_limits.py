"""Every bound of gossip with its reason, in one place (`proto/spec/gossip.md`, §9)."""

from __future__ import annotations

from typing import NamedTuple

from qustream.wire.bundle import BUNDLE_MAX_BYTES
from qustream.wire.gossip import GOSSIP_BODY_MAX_BYTES, Topic

__all__ = ["TOPIC_LIMITS", "TopicLimits"]


class TopicLimits(NamedTuple):
    """Of one topic: the largest body, and how many messages a peer may send, a second and at once. A body counts once for each
    `unit_bytes` that it has begun."""

    body_max_bytes: int
    rate_per_s: int
    burst: int
    unit_bytes: int = GOSSIP_BODY_MAX_BYTES

    def count(self, size: int) -> int:
        """How many messages a body of this size is."""
        return -(-size // self.unit_bytes)


KIB = 1024
TOPIC_LIMITS: dict[Topic, TopicLimits] = {
    # A hybrid transaction has 3.6 KiB, and counts once by itself or in a bundle of them; the largest that a block may hold counts 17 times.
    # Each peer may tell of every one of the 1,000 a second that the chain is made for, and of ten seconds' worth after a gap.
    Topic.TRANSACTION: TopicLimits(BUNDLE_MAX_BYTES, 2000, 10_000, 4 * KIB),
    # One block a second and its fork; after a gap a few come at once.
    Topic.BLOCK: TopicLimits(128 * KIB, 4, 32),
    # Two signed votes and two proposals.
    Topic.EVIDENCE: TopicLimits(32 * KIB, 4, 32),
    # A hybrid signature and eight names have 4.5 KiB. A node says its record once an epoch and when its addresses change: 4,732 in an epoch
    # on a link, all of them within four minutes at 20 a second. At once: half of the nodes, started again together after an upgrade.
    # Whoever joins asks for all of them, and not by gossip.
    Topic.ADDRESS: TopicLimits(5 * KIB, 20, 2400),
    # What a node has to say to everybody, by hand or by the hour.
    Topic.ANNOUNCEMENT: TopicLimits(16 * KIB, 4, 32),
}

# Pushed unasked up to here: an announcement and a pull would cost more than a copy or two.
SMALL_MAX_BYTES = 1024
# Above this a body takes more time to leave a node than to travel to a near one: it is passed on differently (measured; see §4).
LARGE_MIN_BYTES = 64 * KIB
# A body goes unasked to one peer, if that is at least so far, in ms: there the two ways that a pull takes cost the most.
PUSH_FAR_MS = 120
# The largest bodies go unasked to so many when the line is free: more help where thousands are to be reached, and are copies for nothing in
# a small network (simulated).
PUSHES_LARGE = 3
# But not where more than these have told of it already: who is silent then has most likely asked somebody else. One more is a copy in ten,
# and a thirtieth of the time (simulated).
VOICES_LARGE_MAX = 6
# And not for longer than anybody waits for an answer: who is silent then hears of it from lazy repair. Of more messages at once than blocks
# may come at once nothing is offered.
OFFER_MS, OFFERS_MAX = 1_000, 32
# The line that a node needs at least, 100 Mbit/s. On a slower one bodies queue in the system, as they would without this.
LINE_BYTES_PER_MS = 12_500
# Bodies that wait for it: a third of a second, far less than anybody waits for an answer.
LINE_MAX = 32
# Bytes a second, and at once, that a peer may push unasked: 70 middling messages a second; and twelve links full of them are 25 Mbit/s.
UNASKED_BYTES_PER_S, UNASKED_BURST_BYTES = 256 * KIB, 1024 * KIB
# A second pull is made when it can bring the body so much sooner, in ms: it costs a copy in seven and takes a quarter off the slowest
# (simulated). Of the largest bodies that copy can be taken back as long as it waits for a line.
SECOND_PULL_MS, SECOND_PULL_LARGE_MS = 50, 30
# Of one message: a third copy would come too late to be worth its bytes.
PULLS_ITEM_MAX = 2
# Mesh: with eight, one in three may be silent and a graph of 4,732 still holds together (simulated); twelve bound what a node sends.
MESH_WANTED, MESH_MIN, MESH_MAX = 8, 6, 12
# Eight of our own and three times as many of others: whoever wants all places of a node needs that many operators and prefixes.
# Beside those, assigned ones have no place of their own to wait for: four of each of three epochs, and our own four when they come to us.
# And a validator is linked to all others: a hundred of this rotation and a hundred of the next.
LINKS_MAX = 64 + 200
# A peer that was left out asks again after this; sooner is a nuisance, much later leaves a healed mesh thin.
BACKOFF_MS = 30_000
# A body on a 10 Mbit/s line and two round trips around the world take 0.7 s.
PULL_HELD_MS = 1_000
# The teller itself has to get it first.
PULL_HEARD_MS = 2_000
# Others who told of a message while it is pulled; the first four of eight are enough to outlast a silent one.
TELLERS_MAX = 4
# Pulls under way of one peer: what one announcement can tell of. A few are every peer's own, so that four that keep us waiting do not hold
# all there are; a peer that is not trusted has no more than these.
PULLS_PEER_MAX, PULLS_SURE = 64, 4
# In all: 32 MiB of the largest bodies. Those that are peers' own come on top, up to four times that at a validator with all its links.
PULLS_COMMON_MAX = 256
PULLS_MAX = PULLS_COMMON_MAX + LINKS_MAX * PULLS_SURE
# Messages handed to be checked and not judged yet, and their bytes: two seconds of verification work, and three times as much memory, for
# they are decoded meanwhile.
CHECKS_MAX, CHECKS_BYTES_MAX = 2048, 24 << 20
# Of these what one peer has brought: two seconds of transactions at full rate. Who brings rubbish as fast as he may does not keep
# what others bring from being looked at.
CHECKS_PEER_MAX, CHECKS_PEER_BYTES_MAX = 1024, 7 << 20
# And if what it brought lately came to nothing: eight of the largest bundles. Of many that cannot all be kept, such as a hundred with one
# nonce, each is looked at before the first is kept, and all are verified; of eight it pays for one in eight.
CHECKS_DOUBTED_BYTES_MAX = 513 << 10
# How far a peer counts before it has been measured, and at most: one way around half the world, in ms.
DELAY_UNKNOWN_MS, DELAY_MAX_MS = 100, 300
# Announcements of one peer that came to nothing before its news is not passed on at once any more. Half of them are forgotten with every
# fading of the score: who passed on what somebody else made up is believed again in half a minute.
HOLLOW_MAX = 16
# How long a body can be pulled, and how much of them is kept: two minutes of blocks, a second of transactions at full rate.
KEEP_MS, KEEP_BYTES = 120_000, 8 << 20
# Ids remembered: two minutes at 1,000 messages a second. More would let a flood buy memory.
SEEN_MAX = 131_072
# Lazy repair: what came in the last heartbeats, to a few others; whoever missed it hears it from three in a second.
LAZY_MS, LAZY_LINKS = 3_000, 3
# Score, in whole points; see the table of the specification.
SCORE_GOOD_MAX = 100
SCORE_BAD, SCORE_UNKEPT, SCORE_UNASKED, SCORE_OVER = -100, -20, -5, -2
# Promises that are not kept are charged once in so long: a line that stood still for ten seconds is no liar's.
UNKEPT_EVERY_MS = 1_000
# What a peer did not bring in time and may bring yet: as much as can be under way of it.
LATE_MAX = PULLS_PEER_MAX
SCORE_MESH_MIN, SCORE_KEPT_MIN, SCORE_GREY = 0, -50, -200
# A tenth of the score goes every ten seconds: an evil hour is forgotten in a few minutes, a good one too.
DECAY_MS = 10_000
# Long enough that a flood pays for it, short enough that a mistake of ours mends itself.
GREY_MS = 600_000
# Links that are gone and whose standing is remembered, as long as the greatest disgrace lasts: or whoever hangs up would be forgiven.
PAST_MAX, PAST_MS = 1024, GREY_MS
# Seats in the marks of messages: of everybody who is linked, and of as many that are gone as are remembered at all. A peer of which a
# message has no mark costs it nothing, so in a calm node marks have the bits of its links alone.
SEATS_MAX = LINKS_MAX + PAST_MAX
