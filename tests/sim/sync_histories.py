"""One random history of a node that gets the chain from others, all of it from a seed: who the peers are, how far behind it is, when it is
killed, whether it votes itself.

PYTHONPATH=tests python -m sim.sync_histories --seed 17        see one again
scripts/soak sync --seeds 1000                                 many
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field

from sim.seeds import play_many, seeds_parser
from sim.sync_world import KINDS, Peer, SyncWorld

__all__ = ["SyncHistory", "play"]

PATIENCE_US = 1_800_000_000
STEP_US = 500_000


@dataclass
class SyncHistory:
    """`caught_up_s`: when it was at the head first; `late_ms`: of blocks that grew after that, how late it had them, the median and the
    worst; `charged`: liars that were found."""

    seed: int
    kinds: list[str] = field(default_factory=list)
    is_validator: bool = False
    blocks: int = 0
    kills: int = 0
    caught_up_s: float = 0.0
    late_ms: tuple[int, int] = (0, 0)
    charged: int = 0
    done: bool = False
    events: int = 0


def play(seed: int, patience_us: int = PATIENCE_US) -> SyncHistory:
    """AssertionError for what must never be; whether it came to its end is in the history. One peer is honest."""
    chance = random.Random(seed)
    kinds = ["honest", *(chance.choice(KINDS) for _ in range(chance.randrange(8)))]
    chance.shuffle(kinds)
    ahead = chance.choice((0, 3, 60, 300))
    blocks = ahead + 60
    peers = [
        Peer(number, kind, chance.choice((5, 20, 100)), chance.randrange(500, 120_000), lag=chance.randrange(1, blocks))
        for number, kind in enumerate(kinds)
    ]
    is_validator = chance.random() < 0.25
    world = SyncWorld(
        seed, peers=peers, blocks=blocks, head=ahead, block_us=chance.choice((1_000_000, 5_000_000)), is_validator=is_validator,
    )  # fmt: skip
    world.disk_fails = chance.choice((0.0, 0.0, 0.1))
    history = SyncHistory(seed, kinds, is_validator, blocks)
    kills = chance.choice((0, 0, 1, 3))
    world.start()
    caught_up = 0
    while world.height < world.last and world.clock.now_us < patience_us:
        world.clock.run(world.clock.now_us + STEP_US)
        if not caught_up and world.height == world.head:
            history.caught_up_s, caught_up = world.clock.now_us / 1e6, world.height
        if history.kills < kills and chance.random() < 0.05:
            history.kills += 1
            world.kill()
            world.clock.run(world.clock.now_us + chance.randrange(100_000, 2_000_000))
            world.start()
        if is_validator and chance.random() < 0.2:
            world.consensus_brings(chance.randrange(1, 4))
    world.check()
    late = sorted(world.late_us[caught_up:]) or [0]
    history.late_ms = (late[len(late) // 2] // 1000, late[-1] // 1000)
    history.done, history.charged, history.events = world.height == world.last, len(world.charged), world.clock.events
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
