#!/usr/bin/env python3
"""Bench `consensus_sim`: 4, 20 and 100 validators around the world in the simulator, as fast as they can, against Tendermint with propose,
prevote and precommit in the same network (`consensus_tendermint.py`).

    scripts/bench/consensus_sim.py [--rounds 5] [--quick]

Time is simulated, so the figures do not depend on the machine. A *delay* is what two thirds of the lines need, one way: a quorum waits for
as many. Verifications are of single signatures. Each round is another world: other places, another order of leaders.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from report import MIN_ROUNDS, Row, compare, emit, plain

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from consensus_tendermint import Tendermint  # it needs the simulator, which is test code
from sim.consensus_world import ConsensusWorld

# Virtual time of a run: some twenty blocks of a few, and ten of a hundred.
SIZES = ((4, 5_000), (20, 5_000), (100, 2_500))
AGAINST = "Tendermint in the same network"


@dataclass
class Run:
    """What one world showed."""

    final_ms: float
    delays: float
    blocks_per_s: float
    bytes_per_block: float
    verifications_per_block: float


def told(world: ConsensusWorld | Tendermint, count: int, run_ms: int) -> Run:
    world.run_ms(run_ms)
    lines = sorted(world.wires.delay_ms(a, b) for a in range(count) for b in range(count) if a != b)
    final_ms, shares = statistics.median(world.finality_us) / 1000, world.height * count
    return Run(
        final_ms, final_ms / lines[len(lines) * 2 // 3], world.height * 1000 / run_ms, world.wires.sent_bytes / shares,
        world.verifications / shares,
    )  # fmt: skip


def rows(count: int, run_ms: int, rounds: int) -> list[Row]:
    ours, theirs = [], []
    for seed in range(1, rounds + 1):
        ours.append(told(ConsensusWorld(seed=seed, weights=[1] * count, interval_ms=1), count, run_ms))
        theirs.append(told(Tendermint(seed=seed, count=count), count, run_ms))
    out = [plain(f"{count} validators, proposal to final", [run.delays for run in ours], unit="delays", at_most=3.3)]
    for name, unit in (("final_ms", "ms"), ("blocks_per_s", "/s"), ("bytes_per_block", "B"), ("verifications_per_block", "")):
        what = {"final_ms": "proposal to final", "blocks_per_s": "blocks", "bytes_per_block": "sent a block and validator"}.get(name)
        title = f"{count} validators, {what or 'signatures verified a block and validator'}"
        out.append(compare(title, [getattr(run, name) for run in ours], [getattr(run, name) for run in theirs], unit=unit, against=AGAINST))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS)
    parser.add_argument("--quick", action="store_true", help="without the hundred")
    arguments = parser.parse_args()
    rounds = max(MIN_ROUNDS, arguments.rounds)
    sizes = SIZES[:2] if arguments.quick else SIZES
    emit("consensus_sim", [row for count, run_ms in sizes for row in rows(count, run_ms, rounds)], rounds)


if __name__ == "__main__":
    main()
