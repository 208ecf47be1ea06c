"""Every bound of bulk transfer with its reason (`proto/spec/bulk.md`), but for those of the network file (`qnode.service.network_file`)."""

from __future__ import annotations

# --- fetching

# Asks of four pieces under way at one holder: 3 MiB, what 100 Mbit/s carry around half the world and back in 0.25 s. It begins with one.
WINDOW_MIN_ASKS, WINDOW_MAX_ASKS = 1, 3
# Pieces under way, or not on the disk yet, of one fetch: 12 MiB of memory, four holders at full window.
UNDER_WAY_MAX_PIECES = 48
# No piece for so long: a line below 210 kbit/s, or nobody there.
STALL_MS = 10_000
# How long a holder may think about a manifest of 140 KiB.
MANIFEST_MS = 10_000
# Stalls, and asks that failed, after which a holder is left out of a fetch.
STRIKES_MAX = 3
# The last pieces are asked of a second holder when the first has had so long: twice what four pieces take at 10 Mbit/s.
SECOND_ASK_MS = 2_000
# Holders of one fetch that may be asked for a piece at a time.
ASKERS_MAX = 2
# Of one fetch. Four at full window are all that can be under way; the others stand by for those that fail.
HOLDERS_MAX = 32
# A holder that is busy says when to come again; between these, whatever it says.
REST_MS, REST_MIN_MS, REST_MAX_MS = 1_000, 100, 30_000
# Nobody to ask for so long: the fetch ends, what it has stays on the disk.
STARVED_MS = 20_000

# --- serving

# Asks of one peer that are worked on at a time: its window, and one that it gave up.
SERVED_PEER_MAX_ASKS = 4
# And of all: 16 MiB of pieces in memory, and what fits into the channels' queues.
SERVED_MAX_ASKS = 16
# Above this only the first ask of a peer that is linked: or four nodes that read slowly would keep everybody else from us.
SERVED_COMMON_ASKS = 8
# Pieces of one peer in an hour: 1 GiB, sixteen of the largest network files, or the largest object once.
SERVED_PEER_PIECES = 4_096
# Manifests of one peer in an hour, each of 140 KiB at most.
SERVED_PEER_MANIFESTS = 256
HOUR_MS = 3_600_000
# Peers whose use of this hour is remembered: the network's cap on licences.
PEERS_MAX = 4_732

# --- probes

# A line of 90 Mbit/s carries the 32 MiB of a probe in this time; a slower one is judged by what it carried.
PROBE_MS = 3_000
# After that it is over, whatever the asker does: twice its time and the way around the world.
PROBE_OVER_MS = 8_000
# Probes, one way each, that a peer may ask for in an hour: doctor run four times, both ways.
PROBES_PEER = 8
# And all nodes of one operator: a quarter of what all may have, or eight of his would leave nothing to anybody else.
PROBES_OPERATOR = 16
# And all peers together: 2 GiB an hour each way at most, 4.5 Mbit/s of the operator's 100.
PROBES_ALL = 64
