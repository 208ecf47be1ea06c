"""Bench `gossip_scale`: every node of a full network in the simulator, against what the graph itself allows.

4,732 gossip cores with links as the specification has them, delays between seven regions of the world, 100 Mbit/s out of each node. The
other side is the graph's own bound: the shortest path from the speaker to each node over the same links, delays without jitter, nothing
computed, and no time for bytes to leave. What is compared is when 99 % of all nodes have the message. The largest message is compared
with a planner as well: copies leave one after the other, but whoever sends knows at every moment who has the message or will have it, all
over the network, and sends without asking where it gains most. The simulator's speed is told per second of processor time, for it says
nothing about the network and the machine may be busy.

    scripts/bench/gossip_scale.py [--quick]
"""

from __future__ import annotations

import argparse
import gc
import heapq
import sys
import time
from pathlib import Path

from report import MIN_ROUNDS, Row, compare, emit, plain

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from sim.gossip_world import CHECK_US, GossipWorld  # the simulator is test code
from sim.wires import one_way_ms

from qustream.wire.gossip import Topic

NODES = 4732  # the cap on licences
SETTLE_MS, SPREAD_MS = 3_000, 4_000
SHARE = 0.99
UPLINK_BPS = 100_000_000
NEVER_MS = 1e18
SIZES = (("512 B", Topic.TRANSACTION, 512), ("3.6 KB", Topic.TRANSACTION, 3_600), ("128 KB", Topic.BLOCK, 131_072))


def bound_ms(world: GossipWorld, source: int) -> float:
    """When 99 % of the nodes could have it at the earliest."""
    regions = world.wires._regions
    best = {source: 0}
    due = [(0, source)]
    while due:
        at, node = heapq.heappop(due)
        if at > best[node]:
            continue
        for peer in world.links[node]:
            there = at + one_way_ms(regions[node], regions[peer])
            if there < best.get(peer, 1 << 60):
                best[peer] = there
                heapq.heappush(due, (there, peer))
    return sorted(best.values())[int(SHARE * len(best))]


def planned_ms(world: GossipWorld, source: int, size: int) -> float:
    """When 99 % of the nodes have it if each copy goes, as soon as a line is free, where it is soonest or saves most."""
    regions, takes = world.wires._regions, size * 8_000 / UPLINK_BPS
    there = {source: 0.0}  # when each will have it by what has been sent
    due = [(0.0, source)]  # when whose line is free
    while due:
        now, node = heapq.heappop(due)
        choices = []
        for peer in world.links[node]:
            at = now + takes + one_way_ms(regions[node], regions[peer]) + CHECK_US / 1000
            if at < (before := there.get(peer, NEVER_MS)):
                choices.append((peer in there, at if peer not in there else at - before, peer, at))
        if choices:
            _, _, peer, at = min(choices)
            there[peer] = at
            heapq.heappush(due, (now + takes, node))
            heapq.heappush(due, (at, peer))
    return sorted(there.values())[int(SHARE * len(there))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of the nodes")
    nodes = NODES // 10 if parser.parse_args().quick else NODES
    world = GossipWorld(seed=1, nodes=nodes, check_every=1_000, uplink_bps=UPLINK_BPS)
    world.run_ms(SETTLE_MS)
    gc.collect()
    gc.disable()  # nothing that happens in a network leaves circles behind, and looking for them takes a sixth of the time
    rows: list[Row] = []
    events, started = world.clock.events, time.process_time()
    for name, topic, size in SIZES:
        ours, bounds, plans, halves, copies, lost = [], [], [], [], [], 0
        for number in range(MIN_ROUNDS):
            source = (1 + number * nodes // MIN_ROUNDS) % nodes
            said_ms = world.clock.now_ms
            message = world.publish(source, topic, size)
            world.run_ms(SPREAD_MS)
            times = sorted(at - said_ms for at in world.reached(message).values())
            lost += nodes - len(times)
            ours.append(float(times[int(SHARE * len(times))]))
            halves.append(float(times[len(times) // 2]))
            bounds.append(bound_ms(world, source))
            plans.append(planned_ms(world, source, size))
            copies.append(world.copies.get(message, 0) / nodes)
        against = "shortest path over the same links"
        rows.append(compare(f"99 % reached, {name}", ours, bounds, unit="ms", against=against, at_most=2))
        if size > 65_536:
            planner = "a planner who knows everything"
            rows.append(compare(f"99 % reached, {name}, planned", ours, plans, unit="ms", against=planner, at_most=1.15))
        rows.append(plain(f"half reached, {name}", halves, unit="ms"))
        if size > 1024:
            rows.append(plain(f"copies a node, {name}", copies, unit="copies", at_most=1.6))
        rows.append(plain(f"not reached, {name}", [float(lost)], unit="nodes", at_most=0))
    rate = (world.clock.events - events) / (time.process_time() - started)
    rows.append(plain("simulator", [rate], unit="events/s of processor time", at_least=50_000))
    emit("gossip_scale", rows, MIN_ROUNDS)


if __name__ == "__main__":
    main()
