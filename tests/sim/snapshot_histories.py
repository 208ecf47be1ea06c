"""One random history of a node that gets a state from others, all of it from a seed: who the peers are, when they give the state away no
longer, when it is killed.

PYTHONPATH=tests python -m sim.snapshot_histories --seed 17        see one again
scripts/soak snapshot --seeds 1000                                 many
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field

from sim.seeds import play_many, seeds_parser
from sim.snapshot_world import KINDS, Server, SnapshotWorld

__all__ = ["SnapshotHistory", "play"]

PATIENCE_US = 1_800_000_000
STEP_US = 200_000


@dataclass
class SnapshotHistory:
    """`took_s`: until the state was here; `begins`: states that were begun; `kept`: chunks of an earlier one that fitted a later one;
    `charged`: liars that were found."""

    seed: int
    kinds: list[str] = field(default_factory=list)
    kills: int = 0
    begins: int = 0
    taken: int = 0
    kept: int = 0
    took_s: float = 0.0
    charged: int = 0
    done: bool = False
    events: int = 0


def play(seed: int, patience_us: int = PATIENCE_US) -> SnapshotHistory:
    """AssertionError for what must never be; whether it came to its end is in the history. One peer is honest."""
    chance = random.Random(seed)
    kinds = ["honest", *(chance.choice(KINDS) for _ in range(chance.randrange(8)))]
    chance.shuffle(kinds)
    servers = [Server(number, kind, chance.choice((2, 20, 100)), chance.randrange(500, 120_000)) for number, kind in enumerate(kinds)]
    world = SnapshotWorld(seed, servers=servers, states=chance.choice((1, 3)))
    world.disk_fails, world.unknown = chance.choice((0.0, 0.0, 0.05)), chance.choice((0.0, 0.3))
    history = SnapshotHistory(seed, kinds)
    kills = chance.choice((0, 0, 1, 3))
    newer = sorted(chance.randrange(500_000, 30_000_000) for _ in world.states[1:])
    world.start()
    while not world.is_done and world.clock.now_us < patience_us:
        world.clock.run(world.clock.now_us + STEP_US)
        while newer and world.clock.now_us > newer[0]:
            newer.pop(0)
            world.go_on()
        if history.kills < kills and chance.random() < 0.1 and not world.is_done:
            history.kills += 1
            world.kill()
            world.clock.run(world.clock.now_us + chance.randrange(100_000, 2_000_000))
            world.start()
    if world.is_done:
        world.check()
    history.took_s = world.clock.now_us / 1e6
    history.begins, history.taken, history.kept = world.begins, world.taken, world.kept
    history.done, history.charged, history.events = world.is_done, len(world.charged), world.clock.events
    return history


def main() -> None:
    arguments = seeds_parser(__doc__).parse_args()
    if arguments.seed is not None:
        print(play(arguments.seed))
        return
    _, bad, _ = play_many(arguments, play, lambda history: not history.done)
    print(f"{arguments.seeds} seeds, {bad} bad")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
