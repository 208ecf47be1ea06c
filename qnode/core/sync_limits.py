"""Every bound and time of getting the chain from others with its reason, in one place (`proto/spec/sync.md`)."""

from __future__ import annotations

# How long an answerer is asked to wait for the next block: an idle chain has one in five seconds, so silence says something.
WAIT_MS = 12_000
# What the way, the reading of a certificate and a busy answerer may take on top.
ANSWER_MS = 10_000
# Asks for blocks at a time: the giver, and two more that told of blocks which the giver does not bring.
GIVERS_MAX = 3
# How long one is given before another is asked for the same.
GIVER_MS = 2_000
# Others that are asked how far they are, and no more: one honest of them finds out a giver that keeps blocks from us.
WATCHES = 2
# ... all of them, when nothing has come for three idle blocks.
STALE_MS, WATCHES_STALE = 15_000, 8
# A giver that others are so many blocks ahead of does not do its work. One block may be under way.
LAG_BLOCKS = 2
# A validator has its blocks from consensus, and is overtaken when others are so far ahead of it.
VALIDATOR_LAG_BLOCKS = 3
# Between two questions of the same peer how far it is, when it answers at once.
WATCH_REST_MS = 2_000
# Blocks of a run that are looked after at a time, and asks for their transactions: 4 x 512 KiB in memory.
BODIES_AHEAD, BODY_ASKS_MAX = 8, 4
# How long one is given before another is asked for the same part, too.
BODY_MS = 2_000
# Peers whose answers take as many of these are alike: the draw decides.
ALIKE_MS = 500
# Of one peer: while one answer is read, the next is on its way. It works on eight questions of ours at a time, and these are not all.
BODY_ASKS_PEER_MAX = 2
# Who did not answer, or had nothing, is let alone for so long, doubled each time...
REST_MS, REST_MAX_MS = 1_000, 300_000
# ... and who lied for longer. Its link goes, so this is for one that comes back.
LIE_REST_MS = 600_000
# The height that a peer told is believed so long of one that says nothing but "later" since: longer than any quota lasts.
TOLD_MS = 300_000
# Peers whose past is remembered: more than a node has links at a time.
PEERS_MAX = 1024
# When a final block could not be kept (a full disk), it is tried again.
RETRY_MS = 5_000
