"""Every bound and time of consensus with its reason, in one place (`proto/spec/consensus.md`, §5, §6 and §10)."""

from __future__ import annotations

# A message and its verification across the world, on a loaded day: 165 ms one way, twice, and room.
DELTA_MS = 500
# Without a proposal a view is worth nothing any more after two of these, without a notarisation after three.
PROPOSAL_DELTAS, NOTARISATION_DELTAS = 2, 3
# Both grow by a fifth for each view since the last final one, so that a slower network than we thought still gets there...
GROWTH_NUMERATOR, GROWTH_DENOMINATOR = 6, 5
# ... up to here: when the network is back, nobody waits longer.
TIMER_MAX_MS = 10_000
# One block a second is what post-quantum signatures of a hundred validators allow (490 kB out a round).
INTERVAL_MS = 1_000
# An idle chain still says every five seconds that it is alive, and how far it has executed.
IDLE_MS = 5_000
# How long a view may last beyond its timers before what was said is said again; grows by half each time.
RESEND_MS, RESEND_MAX_MS = 2_000, 10_000
# Of views that are not final, the newest so many: their votes are what others may lack.
RESEND_VIEWS_MAX = 32
# Validators that are asked at a time when we are stuck: one of three is honest and has it, most likely.
ASKED_AT_ONCE = 3
# One answer a second and peer: a certificate of a full set has 240 KiB.
ANSWER_MS = 1_000
# Peers whose last question is remembered: every validator, and those who look on.
QUESTIONS_MAX = 1024
# Messages of views above the current one: we are at most a few behind if nothing is lost, and certificates let us jump if something is.
AHEAD_MAX = 64
# Views above the last final one that are remembered: three hours of nothing but skips.
VIEWS_MAX = 1024
# Final views whose votes are still held against what comes late.
FINAL_VIEWS_KEPT = 8
# Proposals a view, and digests a validator, view and kind: the second is evidence, a third adds nothing.
DIGESTS_MAX = 2
# Votes that a validator who asks is told of his own, the newest: those of five views and more, of which an old memory lacks the last.
REMINDED_MAX = 16
# Being verified at a time: ten views of a hundred validators with all their votes.
VERIFYING_MAX = 4096
# Blocks ordered and not executed yet: beyond, blocks are empty until execution has caught up.
UNEXECUTED_MAX = 32
# A block may execute no further than two behind its parent, so that every voter has had time to compute the root.
EXECUTED_BEHIND = 2
