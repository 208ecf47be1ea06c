"""Real nodes on a network that fails, every minute in another way, drawn from a seed (`scripts/soak lan`).

Eight nodes, each on a host of its own, tens of milliseconds apart. They are cut off, killed, moved, slowed down; lines lose packets one
way; the network falls apart and comes together.

What must hold: no daemon ends that was not ended; after each fault all nodes are linked again, and what one says comes to all; memory
stays within bounds; nobody has logged anything that a peer alone could bring about.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import combinations, count
from pathlib import Path
from typing import Any

from support.lan.hosts import Lan
from support.lan.nodes import NO_WAY_IN, PORT, Nodes
from support.lan.probe import Probe

__all__ = ["LanSoak", "LanSoakReport"]

NODES = [f"node{number}" for number in range(1, 9)]
HERALDS = [f"herald{number}" for number in range(8)]  # each may say something once a minute
TOWN = "town"
# A dead connection is noticed after a minute, or two at the end that listens, and then dialled in turns of up to two minutes.
PATIENCE_S = 420.0
LOOK_S = 0.5
RECORD_S = 61.0
REST_S = 660.0  # an anchor has stood for ten minutes
RSS_MAX_KIB = 200 * 1024  # twice what a node with a few peers takes
# What these daemons may log: their own start and end, that they have no randomness, and their network file.
ORDINARY = {"listening", "stopping", "not ready", "ready", "qrngd", "network file"}


@dataclass
class LanSoakReport:
    """What was done and seen. `violations`: what must not be; empty for a soak that passed."""

    seed: int
    seconds: float = 0.0
    acts: Counter[str] = field(default_factory=Counter)
    recovered_s: dict[str, list[float]] = field(default_factory=dict)
    said: int = 0
    rss_max_kib: int = 0
    log_events: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(self.__dict__, indent=2)


class LanSoak:
    """One run. `act` does one fault and waits until it is overcome."""

    def __init__(self, lan: Lan, nodes: Nodes, seed: int, say: Callable[[str], None] = print) -> None:
        self.report = LanSoakReport(seed)
        self._lan, self._nodes, self._say = lan, nodes, say
        self._draw = random.Random(f"{seed} acts")
        self._heralds = dict.fromkeys(HERALDS, 0.0)  # when each spoke last
        self._moves = count(1)
        self._acts: dict[str, Callable[[], str]] = {
            "cut": self._cut, "reject": self._reject, "kill": self._kill, "move": self._move, "lossy": self._lossy, "slow": self._slow,
            "far": self._far,
        }  # fmt: skip

    @classmethod
    @contextmanager
    def made(cls, folder: Path, seed: int, say: Callable[[str], None] = print) -> Iterator[LanSoak]:
        """The network of a seed, its nodes linked."""
        hosts = {name: [f"45.{n}.0.1", f"2a01:{n:x}::1"] for n, name in enumerate(NODES, 1)} | {TOWN: ["45.99.0.1", "2a01:99::1"]}
        with ExitStack() as stack:
            lan = stack.enter_context(Lan(hosts, seed=f"{seed} packets"))
            nodes = stack.enter_context(Nodes(folder, lan, NODES))
            for name in HERALDS:
                nodes.license(name, [f"45.99.0.1:{PORT}"])
            nodes.publish()
            draw = random.Random(f"{seed} distances")
            for one, other in combinations(hosts, 2):
                lan.change([one], [other], delay_ms=draw.randint(2, 80), jitter_ms=draw.randint(0, 8), duplicate=0.001, reorder=0.001)
            nodes.start()
            soak = cls(lan, nodes, seed, say)
            soak.recover("start")
            yield soak

    def run(self, minutes: float) -> None:
        ends = time.monotonic() + minutes * 60
        while time.monotonic() < ends:
            self.act(self._draw.choice(sorted(self._acts)))

    def rest(self) -> None:
        """Quiet minutes: links that have stood for so long are anchors, and a node that is killed then goes to them first."""
        time.sleep(REST_S)
        names = {node.id: node.name for node in self._nodes.nodes.values()}
        anchors = {
            name: {names[link.node] for link in self._nodes[name].network().links if link.anchor} for name in NODES
        }  # fmt: skip
        self._say(f"anchors: { {name: sorted(found) for name, found in anchors.items()} }")
        self.report.violations += [f"{name} has no anchors" for name, found in anchors.items() if not found]
        name = self._draw.choice(NODES)
        self._count_log(name)
        self._nodes[name].kill()
        self._lan[name].nft(NO_WAY_IN)
        self._lan.watch()
        self._nodes.start([name])
        self._await(f"{name} is not linked by itself", lambda: not self._nodes.apart(NODES), lambda: self._nodes.apart(NODES))
        first = set(self._lan.dialled(name)[: len(anchors[name])])
        if first != anchors[name]:
            self.report.violations.append(f"{name} went to {first} first, but its anchors were {anchors[name]}")
        self._lan[name].flush()
        self.recover("rest", f"and {name} killed")

    def act(self, name: str) -> None:
        """Do this fault, undo it, and wait until all is as it was."""
        self.report.acts[name] += 1
        detail = self._acts[name]()
        self.recover(name, detail)

    def recover(self, name: str, detail: str = "") -> None:
        """Until all nodes are linked and hear each other."""
        began_s = time.monotonic()
        self._await(f"after {name} {detail}: not linked", lambda: not self._nodes.apart(NODES), lambda: self._nodes.apart(NODES))
        linked_s = time.monotonic() - began_s
        self.report.recovered_s.setdefault(name, []).append(round(linked_s, 1))
        self._tell(f"after {name} {detail}")
        self._look()
        self._say(f"{name} {detail}: linked again after {linked_s:.1f} s, heard by all after {time.monotonic() - began_s:.1f} s")

    # -- faults ------------------------------------------------------------------------------------------------------

    def _last(self) -> float:
        """How long a fault lasts: mostly less than it takes to notice a dead connection, sometimes more."""
        return self._draw.uniform(5, 30) if self._draw.random() < 0.8 else self._draw.uniform(130, 180)

    def _halves(self) -> tuple[list[str], list[str]]:
        names = self._draw.sample(NODES, len(NODES))
        at = self._draw.randint(1, len(names) // 2)
        return names[:at], names[at:]

    def _cut(self) -> str:
        few, many = self._halves()
        seconds = self._last()
        self._lan.partition(few, [*many, TOWN])
        time.sleep(seconds)
        self._lan.heal()
        return f"{few} for {seconds:.0f} s"

    def _reject(self) -> str:
        few, many = self._halves()
        seconds = self._last()
        for side, others in ((few, many), (many, few)):
            rules = "".join(
                f" ip{'6' if ':' in each else ''} daddr {each} meta l4proto tcp reject with tcp reset\n"
                for other in others for each in self._lan[other].addresses
            )  # fmt: skip
            for name in side:
                self._lan[name].nft(f"table inet cut {{\n chain out {{\n type filter hook output priority 0\n{rules} }}\n}}\n")
        time.sleep(seconds)
        for name in NODES:
            self._lan[name].flush()
        return f"{few} for {seconds:.0f} s"

    def _kill(self) -> str:
        names = self._draw.sample(NODES, self._draw.randint(1, 3))
        for name in names:
            self._count_log(name)
            self._nodes[name].kill()
        time.sleep(self._draw.choice([0.0, 3.0, 20.0]))
        self._nodes.start(names)
        return f"{names}"

    def _move(self) -> str:
        name, number = self._draw.choice(NODES), next(self._moves)
        node = self._nodes[name]
        self._count_log(name)
        node.stop()
        self._lan.move(name, [f"46.{number % 250}.{number // 250}.1", f"2a02:{number:x}::1"])
        node.configure(addresses=list(node.public_addresses))
        node.start()
        return f"{name} to {node.host.address}"

    def _lossy(self) -> str:
        name, loss, seconds = self._draw.choice(NODES), self._draw.uniform(0.1, 0.3), self._last()
        self._lan.change([name], back=False, loss=loss)
        time.sleep(seconds)
        self._tell(f"while {name} loses {loss:.0%} one way", exempt=name)
        self._lan.change([name], back=False, loss=0.0)
        return f"{name} {loss:.0%} for {seconds:.0f} s"

    def _slow(self) -> str:
        name, seconds = self._draw.choice(NODES), self._last()
        self._lan.change([name], rate_mbit=1.0, queue_bytes=20_000)
        ends = time.monotonic() + seconds
        with self._lan[TOWN].socket() as flood:
            while time.monotonic() < ends:
                for _ in range(50):
                    flood.sendto(bytes(1400), (self._lan[name].address, 9))
                time.sleep(0.5)
            self._tell(f"while {name} is slow", exempt=name)
        self._lan.change([name], rate_mbit=0.0)
        return f"{name} for {seconds:.0f} s"

    def _far(self) -> str:
        name, seconds = self._draw.choice(NODES), self._last()
        self._lan.change([name], back=True, delay_ms=300)
        time.sleep(seconds)
        self._tell(f"while {name} is far away")
        self._lan.change([name], back=True, delay_ms=30)
        return f"{name} for {seconds:.0f} s"

    # -- what must hold ----------------------------------------------------------------------------------------------

    def _tell(self, when: str, exempt: str = "") -> None:
        """A herald says something to one node; all others, but for the one exempt, hear of it."""
        herald = min(self._heralds, key=lambda name: self._heralds[name])
        time.sleep(max(0.0, self._heralds[herald] + RECORD_S - time.monotonic()) if self._heralds[herald] else 0.0)
        self._heralds[herald] = time.monotonic()
        probe = Probe(herald, self._lan[TOWN])
        names = [name for name in NODES if name != exempt]
        record = probe.publish(self._nodes[self._draw.choice(names)], f"45.99.0.1:{PORT + self.report.said + 1}")
        deaf = probe.await_record([self._nodes[name] for name in names], probe.key.id, record.addresses, PATIENCE_S)
        if deaf:
            self.report.violations.append(f"{when}: {herald} is not heard by {deaf}")
        self.report.said += 1

    def _await(self, what: str, condition: Callable[[], bool], picture: Callable[[], Any]) -> None:
        ends = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > ends:
                self.report.violations.append(f"{what}: {picture()}")
                return
            time.sleep(LOOK_S)

    def _look(self) -> None:
        for name in NODES:
            node = self._nodes[name]
            assert node.process is not None
            if node.process.poll() is not None:
                self.report.violations.append(f"{name} has ended: {node.log_path.read_text()[-2000:]}")
                continue
            self.report.rss_max_kib = max(self.report.rss_max_kib, node.rss_kib())
            if node.rss_kib() > RSS_MAX_KIB:
                self.report.violations.append(f"{name} takes {node.rss_kib()} KiB")

    def _count_log(self, name: str) -> None:
        """A daemon that starts again begins its log anew."""
        for line in self._nodes[name].log():
            if line.get("level") != "debug":
                self.report.log_events[line["event"]] += 1
                if line["event"] not in ORDINARY:
                    self.report.violations.append(f"{name} has logged {line}")

    def finish(self) -> LanSoakReport:
        for name in NODES:
            self._count_log(name)
        return self.report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rest", action="store_true", help="eleven quiet minutes more, to see what becomes of anchors")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, LanSoak.made(Path(folder) / "nodes", arguments.seed, _say) as soak:
        soak.run(arguments.minutes)
        if arguments.rest:
            soak.rest()
        report = soak.finish()
    report.seconds = round(time.monotonic() - began_s, 1)
    print(report.to_json())
    return 1 if report.violations else 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
