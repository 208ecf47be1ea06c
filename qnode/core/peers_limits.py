"""Every bound and every time by which the core of peers decides, with its reason (`proto/spec/peers.md`). Those of connections, dials and
answers stand in `qnode.net`."""

from __future__ import annotations

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000

# --- outbound
# A graph in which everybody opens eight links at random holds together when a third of the nodes are silent; half are assigned.
OUTBOUND_MAX = 8
# As many as are assigned: a node that comes back is, before it has drawn anybody, where it was with half of its links.
ANCHORS_MAX = 4
# Who has stood for this long has been judged by gossip for as long as that remembers; who came in the last minutes of an attack has not.
ANCHOR_AFTER_MS = 10 * MINUTE
# Of the order of what a crash may cost: an anchor that came ten seconds ago.
ANCHOR_LOOK_MS = 10 * SECOND
# Four chosen ones, so nobody is a neighbour by luck for more than four hours; and one link an hour costs nothing.
ROTATE_MS = HOUR
# When an epoch begins, all nodes have four new neighbours: they are dialled over a minute and not in one second.
SPREAD_MS = MINUTE

# --- inbound
# Three times what a node opens: there is room in the whole network for everybody's eight even if two in three places are wasted.
INBOUND_MAX = 24
# One operator may run many nodes; more than two of them tell a node nothing the first did not.
INBOUND_OPERATOR_MAX = 2
# A third: whoever floods a node with connections cannot displace those who were there before.
INBOUND_KEPT = 8
# A newcomer displaces only where that makes the prefixes more even, or two prefixes would displace each other for ever.
DISPLACE_LEAD = 2
# Two connects that cross are at most one slow round trip apart; a node that was killed takes longer to start.
REPLACE_AFTER_MS = 5 * SECOND
# When all places are taken: others leave in minutes, and the refused one has other nodes to ask.
PLACE_RETRY_MS = MINUTE

# --- dialling
# Enough that four dead ones do not hold up a start for more than ten seconds; few enough that nobody takes it for a scan.
DIALS_MAX = 4
# A restart takes seconds; a node that is down for days is asked twice an hour.
BACKOFF_FIRST_MS, BACKOFF_MAX_MS = 5 * SECOND, 30 * MINUTE
# Assigned and meshed nodes are few. They alone lead out of a part of the network that was cut off and has filled its places within.
BACKOFF_DUE_MAX_MS = 2 * MINUTE
# A node without any link is cut off itself, and wants to be back within seconds.
BACKOFF_ALONE_MAX_MS = 15 * SECOND
# Half a minute of dials in vain: more than a restart takes.
CUT_FAILURES = 4
# A link that has stood for so long was no accident.
STOOD_MS = MINUTE
# Thirty an hour: in a network of 4,732 each node is looked at by thirty others an hour.
FEELER_MS, FEELER_AGAIN_MS = 2 * MINUTE, HOUR
# A node that is not in the registry (any more) is refused everywhere; it asks now and then, for its own registry may be the old one.
UNLISTED_DIAL_MS = 15 * SECOND
# Draws before all are looked through: if one node in ten will do, a draw in thirty fails.
SAMPLES = 32
# Looking through all nodes takes milliseconds if there are thousands: where it was in vain, and while nothing else happens, draws have to
# do for a minute. A few hundred, or being alone, are another matter.
SCAN_PAUSE_MS, SCAN_PAUSE_SMALL_MS, SCAN_SMALL = MINUTE, 2 * SECOND, 256

# --- whether we are reached, and alone
REACHED_MS, DIAL_BACK_EVERY_MS = 10 * MINUTE, 5 * MINUTE
# Our own record has to be everywhere before anybody can try what it says.
DIAL_BACK_FIRST_MS = MINUTE
# One node can be cut off or lie; two of different operators are enough to tell an operator to look.
DIAL_BACK_PEERS = 2
# Fewer links than that say nothing yet: soon there may be more. Who is asked answers one node once a minute.
DIAL_BACK_FEW_MS = 2 * MINUTE
# Three attempts at reaching somebody.
ALONE_AFTER_MS = 30 * SECOND

# --- address records (§1)
# Clocks of servers differ by seconds; two minutes are a clock that somebody should look at.
AHEAD_MAX_MS = 2 * MINUTE
# A record a minute is more than any address changes, and bounds what a node can make all others verify.
RECORD_EVERY_MS = MINUTE
# They are said once an epoch; three may be missed.
RECORD_EPOCHS = 4
