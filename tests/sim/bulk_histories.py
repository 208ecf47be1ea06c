"""One random history of a fetch, all of it from a seed: who the holders are, what they do, when the fetcher is killed.

PYTHONPATH=tests python -m sim.bulk_histories --seed 17        see one again
scripts/soak bulk --seeds 1000                                 many
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass

from sim.bulk_world import KINDS, BulkWorld, Holder
from sim.seeds import play_many, seeds_parser

__all__ = ["BulkHistory", "play"]

PATIENCE_US = 1_800_000_000
STEP_US = 500_000


@dataclass
class BulkHistory:
    """`extra`: pieces that came beyond those of the object, a piece of it; `charged`: liars that were found."""

    seed: int
    kinds: list[str]
    pieces: int
    kills: int = 0
    seconds: float = 0.0
    extra: float = 0.0
    charged: int = 0
    done: bool = False
    events: int = 0


def play(seed: int) -> BulkHistory:
    """AssertionError for what must never be; whether it came to its end is in the history. One holder is honest."""
    chance = random.Random(seed)
    kinds = ["honest", *(chance.choice(KINDS) for _ in range(chance.randrange(6)))]
    chance.shuffle(kinds)
    holders = [
        Holder(number, kind, 1 if kind == "slow" else chance.choice((5, 20, 100, 1000)), chance.randrange(500, 120_000))
        for number, kind in enumerate(kinds)
    ]  # fmt: skip
    world = BulkWorld(seed, pieces=chance.choice((1, 2, 3, 4, 5, 17, 60, 150)), holders=holders)
    history = BulkHistory(seed, kinds, len(world.pieces))
    kills = chance.choice((0, 0, 1, 3))
    world.start()
    while not world.is_done and world.clock.now_us < PATIENCE_US:
        world.clock.run(world.clock.now_us + STEP_US)
        if world.ended is not None and not world.is_done:
            world.check()
            world.start()  # as the node does after a while
        elif history.kills < kills and chance.random() < 0.05:
            history.kills += 1
            world.kill()
            world.clock.run(world.clock.now_us + chance.randrange(100_000, 2_000_000))
            world.start()
    world.check()
    history.done, history.charged, history.events = world.is_done, len(world.charged), world.clock.events
    history.seconds = world.clock.now_us / 1e6
    history.extra = (sum(world.sent.values()) - len(world.pieces)) / len(world.pieces)
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
