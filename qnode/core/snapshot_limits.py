"""Every bound and time of getting a state from others with its reason, in one place (`proto/spec/sync.md`, §7)."""

from __future__ import annotations

# For one answer: a chunk of 288 KiB on a slow line, a plan that has to be made first.
ANSWER_MS = 30_000
# Peers that are asked for their newest state at a time, and how long others are waited for when one has answered: nodes give the same
# states, but one that has just begun another one has it alone.
OFFERS_MAX, OFFERS_MS = 4, 2_000
# Chunks asked for at a time, and of one peer: 8 x 512 KiB in memory.
CHUNK_ASKS_MAX, CHUNK_ASKS_PEER_MAX = 8, 2
# A chunk that somebody owes for so long is asked for of a second peer, too.
CHUNK_MS = 4_000
# Prefixes of missing chunks that are known at a time; the others are on the disk.
WINDOW = 256
# A state that nobody has given anything of for so long, while there was somebody to ask, is given up for a newer one.
GONE_MS = 20_000
# Who did not answer, or has not the state, is let alone for so long, doubled each time...
REST_MS, REST_MAX_MS = 1_000, 60_000
# ... and who lied for longer. Its link goes, so this is for one that comes back.
LIE_REST_MS = 600_000
# Peers whose past is remembered: more than a node has links at a time.
PEERS_MAX = 1024
# When the disk did not take it (it is full), it is tried again.
RETRY_MS = 5_000
