"""Bench `gossip`: eight hosts on loopback, messages of 1 KiB and 64 KiB, beside py-libp2p's gossipsub on the same graph.

Each side is a process with eight hosts on addresses of 127.9.0.0/16, each linked to four others (`gossip_measure.py`), over its own
encrypted transport: ours (`gossip_ours.py`) the node's gossip service on PQ-TLS, theirs (`gossip_libp2p.py`) gossipsub on noise, with
every limit set so that it does its best. Host 0 publishes, and neither side's application checks anything.

*Rate*: messages a second that all seven others have got, with as many under way as the side likes best. *p50* and *p99*: from
publication to delivery at each host, of messages of which each is said when the one before is everywhere. In each round both sides are
measured one after the other, by turns first, while the other is idle.

    scripts/bench/gossip.py [--rounds N]

py-libp2p lives in an environment of its own, made before anything is measured; where it cannot be installed there is our side alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossip_install import NAME, installed
from gossip_measure import HOSTS
from report import MIN_ROUNDS, Row, compare, emit, plain

HERE = Path(__file__).resolve().parent
# As in the service units: 256 KiB buffers are reused instead of mapped anew each time.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}
SPACED = 16  # messages of a round whose way is timed: 112 deliveries
PAUSE_S = 0.1  # the copies of a message that are still under way when all have it are gone by then


@dataclass(frozen=True)
class Load:
    """Messages of one size. Of each side: how many a round and how many under way at a time (the number that gave most)."""

    size: int
    name: str
    ours: tuple[int, int]
    theirs: tuple[int, int]
    muxer: str


LOADS = (
    Load(1024, "1 KiB", ours=(500, 64), theirs=(40, 16), muxer="MPLEX"),
    Load(65536, "64 KiB", ours=(100, 8), theirs=(25, 8), muxer="YAMUX"),
)


@dataclass
class Figures:
    """One entry a round."""

    rate: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # of all hosts together, for a message
    lost: int = 0


class Network:
    """Eight hosts in a worker process."""

    def __init__(self, worker: subprocess.Popen[str]) -> None:
        self._worker = worker
        self._run = 0
        self.tell(do="link", addresses=self._hear()["addresses"])

    def tell(self, **order: Any) -> dict[str, Any]:
        """Give an order, return the answer."""
        assert self._worker.stdin is not None
        self._worker.stdin.write(json.dumps(order) + "\n")
        self._worker.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._worker.stdout is not None
        line = self._worker.stdout.readline()
        if not line:
            raise SystemExit("a worker ended; its last words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def publish(self, size: int, count: int, window: int, pause_s: float) -> tuple[float, list[float], float, int]:
        """Messages a second, how late each was in ms, CPU seconds of it all, how many were lost."""
        self._run += 1
        self.tell(do="begin", run=self._run)
        before = self.tell(do="late")["cpu_s"]
        done = self.tell(do="publish", size=size, count=count, window=window, pause_s=pause_s)
        after = self.tell(do="late")
        late_ms = [late_ns / 1e6 for late_ns in after["late_ns"]]
        return done["everywhere"] / done["seconds"], late_ms, after["cpu_s"] - before, count - done["everywhere"]


@contextmanager
def network(*command: str | Path) -> Iterator[Network]:
    """Start hosts, link them, and end them."""
    with tempfile.NamedTemporaryFile() as tally:
        tally.write(bytes(8 * HOSTS))
        tally.flush()
        arguments = [*command[:2], json.dumps(list(range(HOSTS))), tally.name, *command[2:]]
        worker = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | MALLOC)
        try:
            yield Network(worker)
        finally:
            worker.kill()
            worker.wait()


def measure(hosts: Network, size: int, count: int, window: int, into: Figures) -> None:
    rate, _, cpu_s, lost = hosts.publish(size, count, window, 0.0)
    _, late_ms, _, lost_spaced = hosts.publish(size, SPACED, 1, PAUSE_S)
    into.rate.append(rate)
    into.cpu_ms.append(1000 * cpu_s / count)
    into.lost += lost + lost_spaced
    into.p50_ms.append(statistics.median(late_ms))
    into.p99_ms.append(statistics.quantiles(late_ms, n=100)[98])


def one_load(load: Load, rounds: int, python: Path | None) -> tuple[Figures, Figures]:
    ours, theirs = Figures(), Figures()
    with ExitStack() as running:
        sides = [(running.enter_context(network(sys.executable, HERE / "gossip_ours.py")), load.ours, ours)]
        if python is not None:
            command = (python, HERE / "gossip_libp2p.py", "--muxer", load.muxer)
            sides.append((running.enter_context(network(*command)), load.theirs, theirs))
        for number in range(-1, rounds):
            for hosts, (count, window), figures in sides if number % 2 else sides[::-1]:
                measure(hosts, load.size, count, window, figures if number >= 0 else Figures())  # the first round warms up
    return ours, theirs


def rows_of(load: Load, ours: Figures, theirs: Figures) -> list[Row]:
    if not theirs.rate:
        return [
            plain(f"{load.name}, rate", ours.rate, unit="1/s"),
            plain(f"{load.name}, p50", ours.p50_ms, unit="ms"),
            plain(f"{load.name}, p99", ours.p99_ms, unit="ms"),
        ]
    cpu_s = statistics.median(ours.cpu_ms) / 1000
    return [
        compare(f"{load.name}, rate", ours.rate, theirs.rate, unit="1/s", against=NAME, at_least=5, cpu_s=cpu_s),
        compare(f"{load.name}, p50", ours.p50_ms, theirs.p50_ms, unit="ms", against=NAME),
        compare(f"{load.name}, p99", ours.p99_ms, theirs.p99_ms, unit="ms", against=NAME, at_most=1 / 3),
        compare(f"{load.name}, CPU a message", ours.cpu_ms, theirs.cpu_ms, unit="ms", against=NAME),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS)
    rounds = parser.parse_args(arguments).rounds
    python = installed()
    rows: list[Row] = []
    remarks = {} if python is not None else {NAME: f"it could not be installed; run scripts/bench/gossip_install.py with {sys.executable}"}
    for load in LOADS:
        ours, theirs = one_load(load, rounds, python)
        rows += rows_of(load, ours, theirs)
        for name, figures in (("ours", ours), (NAME, theirs)):
            if figures.lost:
                remarks[f"{load.name}, {name}"] = f"{figures.lost} messages did not come everywhere"
    emit("gossip", rows, rounds, remarks)


if __name__ == "__main__":
    main()
