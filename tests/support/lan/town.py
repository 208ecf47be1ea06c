"""A town of twenty real nodes of which a third is killed, paused and cut off for minutes, and comes back (`scripts/soak town`).

What must hold meanwhile: the others are linked among themselves and what one of them says comes to all of them. Afterwards: all twenty
are linked again, what one says comes to all, no daemon has ended that was not ended, memory is bounded, and nobody has logged anything
that a peer alone could bring about.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Collection
from itertools import combinations
from pathlib import Path

from support.lan.hosts import Lan
from support.lan.nodes import PORT, Nodes
from support.lan.probe import Probe
from support.lan.soak import ORDINARY, RSS_MAX_KIB

__all__ = ["main"]

NODES = [f"node{number}" for number in range(1, 21)]
HERALDS = [f"herald{number}" for number in range(6)]  # each may say something once a minute
TOWN = "town"
KILLED, PAUSED, CUT = 3, 2, 2
LINKS_MIN = 6  # of eight that a node opens, and those that others open to it
PATIENCE_S, LOOK_S = 420.0, 1.0


class Town:
    """One run."""

    def __init__(self, lan: Lan, nodes: Nodes, seed: int) -> None:
        self.violations: list[str] = []
        self.report: dict[str, object] = {"seed": seed, "nodes": len(NODES)}
        self._lan, self._nodes, self._draw = lan, nodes, random.Random(f"{seed} acts")
        self._heralds = iter(HERALDS)

    def run(self, minutes: float) -> None:
        self._await("at the start", NODES)
        away = self._draw.sample(NODES, KILLED + PAUSED + CUT)
        killed, paused, cut = away[:KILLED], away[KILLED : KILLED + PAUSED], away[KILLED + PAUSED :]
        others = [name for name in NODES if name not in away]
        self.report |= {"killed": killed, "paused": paused, "cut off": cut}
        print(f"killed {killed}, paused {paused}, cut off {cut}", flush=True)
        for name in killed:
            self._look_at_log(name)
            self._nodes[name].kill()
        for name in paused:
            self._signal(name, signal.SIGSTOP)
        self._lan.partition(cut, [*(name for name in NODES if name not in cut), TOWN])
        ends = time.monotonic() + 60 * minutes
        self._await("while a third is away", others)
        time.sleep(max(0.0, ends - time.monotonic()))
        self._await("when a third has been away for long", others)
        self._lan.heal()
        for name in paused:
            self._signal(name, signal.SIGCONT)
        self._nodes.start(killed)
        self._await("when all are back", NODES)
        self._look()

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self._nodes[name].process
        assert process is not None
        os.kill(process.pid, number)

    def _await(self, when: str, names: Collection[str]) -> None:
        """Until these are linked among themselves, and hear each other."""
        began_s = time.monotonic()
        while (apart := self._apart(names)) and time.monotonic() - began_s < PATIENCE_S:
            time.sleep(LOOK_S)
        if apart:
            self.violations.append(f"{when}: {apart}")
        linked_s = time.monotonic() - began_s
        herald = next(self._heralds)
        probe = Probe(herald, self._lan[TOWN])
        nodes = [self._nodes[name] for name in names]
        record = probe.publish(self._draw.choice(nodes), f"45.99.0.1:{PORT + HERALDS.index(herald) + 1}")
        deaf = probe.await_record(nodes, probe.key.id, record.addresses, PATIENCE_S)
        if deaf:
            self.violations.append(f"{when}: {herald} is not heard by {deaf}")
        heard_s = time.monotonic() - began_s
        self.report[when] = {"linked_s": round(linked_s, 1), "heard_s": round(heard_s, 1)}
        print(f"{when}: linked after {linked_s:.1f} s, heard by all after {heard_s:.1f} s", flush=True)

    def _apart(self, names: Collection[str]) -> str:
        """What is missing for these to be one well-linked network; empty if nothing is."""
        links = {name: self._nodes.linked(name) & set(names) for name in names}
        few = [name for name, peers in links.items() if len(peers) < LINKS_MIN]
        if few:
            return f"{few} have few links"
        reached, due = {next(iter(names))}, [next(iter(names))]
        while due:
            new = links[due.pop()] - reached
            reached |= new
            due += new
        return "" if len(reached) == len(names) else f"{sorted(set(names) - reached)} are apart from the others"

    def _look(self) -> None:
        most_kib = 0
        for name in NODES:
            process = self._nodes[name].process
            assert process is not None
            if process.poll() is not None:
                self.violations.append(f"{name} has ended")
                continue
            most_kib = max(most_kib, self._nodes[name].rss_kib())
            self._look_at_log(name)
        self.report["rss_max_kib"] = most_kib
        if most_kib > RSS_MAX_KIB:
            self.violations.append(f"a node takes {most_kib} KiB")

    def _look_at_log(self, name: str) -> None:
        said = {line["event"] for line in self._nodes[name].log() if line.get("level") != "debug"} - ORDINARY
        self.violations += [f"{name} has logged {event}" for event in sorted(said)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    hosts = {name: [f"45.{n}.0.1"] for n, name in enumerate(NODES, 1)} | {TOWN: ["45.99.0.1"]}
    draw = random.Random(f"{arguments.seed} distances")
    with (
        tempfile.TemporaryDirectory() as folder,
        Lan(hosts, seed=f"{arguments.seed} packets") as lan,
        Nodes(Path(folder) / "nodes", lan, NODES) as nodes,
    ):
        for name in HERALDS:
            nodes.license(name, [f"45.99.0.1:{PORT}"])
        nodes.publish()
        for one, other in combinations(hosts, 2):
            lan.change([one], [other], delay_ms=draw.randint(2, 80), jitter_ms=draw.randint(0, 8))
        nodes.start()
        town = Town(lan, nodes, arguments.seed)
        town.run(arguments.minutes)
    print(json.dumps(town.report | {"violations": town.violations}, indent=2))
    return 1 if town.violations else 0


if __name__ == "__main__":
    sys.exit(main())
