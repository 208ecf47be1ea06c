"""One random history of a validator set, all of it from a seed: weights, who is evil and how, what the lines do, who crashes when.

PYTHONPATH=tests python -m sim.consensus_histories --seed 17      see one again
scripts/soak consensus --seeds 1000                               many
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from itertools import combinations

from qnode.core.consensus_view import contradicts, voters_of
from qustream.wire.consensus import Certificate, Kind
from sim.byzantine.validators import EVIL, Conspirator, Equivocator, Replayer
from sim.consensus_world import ConsensusWorld
from sim.seeds import play_many, seeds_parser
from sim.wires import Faults

__all__ = ["History", "is_named", "named", "play", "play_large", "play_unsafe"]

# An idle chain makes a block each five seconds, and a leader who is evil costs it one.
TROUBLE_MS, CALM_MS, IDLE_CALM_MS = 15_000, 20_000, 60_000
# Ten views whose leaders are evil, one after the other: the timers grow meanwhile.
EVIL_MS = 40_000
# After the last fault: what the slowest timers take (10 s, twice), a second to hear of it, and five views.
BACK_MS = 30_000
LARGE = 100
# Those that say more than others do make a history of a hundred last for hours.
QUIET_EVIL = tuple(kind for kind in EVIL if kind not in (Replayer, Equivocator))
# Of the seeds, one in so many is played in a set that is not safe, too, and one in so many in a large one.
UNSAFE_EVERY, LARGE_EVERY = 10, 250
HOUR_MS = 3_600_000
# So many blocks after the last fault, at everybody, are proof enough that all is well.
WELL = 3
STEP_MS = 500


@dataclass
class History:
    """What a run was and did. `stuck`: honest validators that made nothing final once all was well again."""

    seed: int
    weights: tuple[int, ...] = ()
    evil: list[str] = field(default_factory=list)
    height: int = 0
    rotations: int = 0
    crashes: int = 0
    events: int = 0
    stuck: list[int] = field(default_factory=list)
    accused: list[int] = field(default_factory=list)
    forks: int = 0


def _world(seed: int, chance: random.Random, *, evil_share: float) -> ConsensusWorld:
    count = chance.randrange(4, 11)
    weights = [1 if chance.random() < 0.5 else chance.randrange(1, 8) for _ in range(count)]
    evil: dict[int, type] = {}
    for number in chance.sample(range(count), count):
        if (sum(weights[each] for each in evil) + weights[number]) < evil_share * sum(weights):
            evil[number] = chance.choice(EVIL if evil_share <= 1 / 3 else (Conspirator,))
    if evil_share <= 1 / 3 and chance.random() < 0.3:
        evil.clear()
    skews: dict[int, int] = {}
    if not evil and chance.random() < 0.4:
        wrong = chance.randrange(count)
        if 3 * weights[wrong] < sum(weights):
            skews[wrong] = chance.choice((-1, 1)) * chance.randrange(60_000, 10 * HOUR_MS)
    rotation_ms, interval_ms = chance.choice((9_000, HOUR_MS)), chance.choice((200, 1_000))
    world = ConsensusWorld(
        seed=seed, weights=weights, evil=evil, rotation_ms=rotation_ms, interval_ms=interval_ms, turns=chance.random() < 0.5, skews=skews
    )  # fmt: skip
    world.is_loaded = chance.random() < 0.8
    world.missing = chance.choice((0, 0, 150))
    return world


def play(seed: int, *, to_the_end: bool = True) -> History:
    """Fewer than a third are evil. Raises `Breach` for what must never be; the rest is in the history. `to_the_end`: even if all is well
    long before; else the run ends then."""
    chance = random.Random(seed)
    world = _world(seed, chance, evil_share=1 / 3)
    world.replay = f"PYTHONPATH=tests python -m sim.consensus_histories --seed {seed}"
    history = History(seed, world.weights, [f"{node.number} {type(node).__name__}" for node in world.validators if not node.honest])
    _trouble(world, chance, history)
    before, calm_ms = _heights(world), CALM_MS if world.is_loaded else IDLE_CALM_MS
    if to_the_end:
        world.run_ms(BACK_MS)
        before = _heights(world)
        world.run_ms(calm_ms)
    ends_ms = world.clock.now_ms + EVIL_MS + (0 if to_the_end else BACK_MS + calm_ms)
    while world.clock.now_ms < ends_ms and _stuck(world, before):
        world.run_ms(STEP_MS)
    history.stuck = _stuck(world, before)
    _told(world, history)
    return history


def _heights(world: ConsensusWorld) -> dict[int, int]:
    return {node.number: len(node.disk.chain) for node in world.honest}


def _stuck(world: ConsensusWorld, before: dict[int, int]) -> list[int]:
    return [node.number for node in world.honest if len(node.disk.chain) < before[node.number] + WELL]


def _trouble(world: ConsensusWorld, chance: random.Random, history: History) -> None:
    world.run_ms(2_000)
    world.wires.faults = Faults(lost=chance.choice((0, 0, 50, 250)), doubled=chance.choice((0, 100)), reordered=chance.choice((0, 300)))
    ends_ms = world.clock.now_ms + TROUBLE_MS
    while world.clock.now_ms < ends_ms:
        world.run_ms(chance.randrange(200, 3_000))
        act = chance.random()
        if act < 0.2:
            side = {node.number for node in world.validators if chance.random() < 0.5}
            world.wires.faults.cut = lambda a, b, side=side: (a in side) != (b in side)
        elif act < 0.4:
            world.wires.faults.cut = lambda _a, _b: False
        elif act < 0.6:
            node = chance.choice(world.honest)
            if node.is_up:
                node.crash()
                history.crashes += 1
        else:
            for node in world.honest:
                if not node.is_up:
                    node.restart()
    world.wires.faults = Faults()
    for node in world.honest:
        if not node.is_up:
            node.restart()


def play_unsafe(seed: int) -> History:
    """More than a third of the weight conspires: forks happen, and then the certificates name the guilty."""
    chance = random.Random(seed)
    world = _world(seed, chance, evil_share=0.6)
    world.safe = False
    history = History(seed, world.weights, [f"{node.number} {type(node).__name__}" for node in world.validators if not node.honest])
    world.wires.faults.cut = lambda a, b: a % 2 != b % 2 and world.validators[a].honest and world.validators[b].honest
    world.run_ms(30_000)
    _told(world, history)
    history.accused = sorted(named(world))
    return history


def play_large(seed: int) -> History:
    """A hundred validators of all weights around the world, a quarter of the weight evil; some messages are lost for a while."""
    chance = random.Random(seed)
    weights = [chance.randrange(1, 100) for _ in range(LARGE)]
    evil: dict[int, type] = {}
    for number in chance.sample(range(LARGE), LARGE):
        if 4 * (sum(weights[each] for each in evil) + weights[number]) < sum(weights):
            evil[number] = chance.choice(QUIET_EVIL)
    world = ConsensusWorld(seed=seed, weights=weights, evil=evil)
    world.replay = f"sim.consensus_histories.play_large({seed})"
    history = History(seed, world.weights, [f"{node.number} {type(node).__name__}" for node in world.validators if not node.honest])
    world.run_ms(5_000)
    world.wires.faults = Faults(lost=50, reordered=100)
    world.run_ms(10_000)
    world.wires.faults = Faults()
    before = _heights(world)
    world.run_ms(20_000)
    history.stuck = _stuck(world, before)
    _told(world, history)
    return history


def named(world: ConsensusWorld) -> set[int]:
    """Whom the certificates of all honest validators together contradict."""
    said: dict[tuple[int, int], dict[int, set[tuple[Kind, bytes]]]] = {}
    for node in world.honest:
        for message in node.disk.kept.values():
            if isinstance(message, Certificate):
                in_view = said.setdefault((message.rotation, message.view), {})
                nodes = world.seats(message.rotation).nodes
                for voter in voters_of(message):
                    in_view.setdefault(nodes[voter], set()).add((message.kind, message.digest))
    return {
        voter
        for in_view in said.values()
        for voter, statements in in_view.items()
        if any(contradicts(*one, *other) for one, other in combinations(sorted(statements), 2))
    }


def _told(world: ConsensusWorld, history: History) -> None:
    history.height, history.events, history.forks = world.height, world.clock.events, len(world.forks)
    history.rotations = max(node.disk.rotation for node in world.honest)
    history.accused = sorted({number for node in world.honest for number in node.accused})


def is_named(history: History) -> bool:
    """Whether a fork, if there is one, names more than a third of the weight, and nobody who obeys."""
    guilty = sum(history.weights[number] for number in history.accused)
    is_just = {f"{number} Conspirator" for number in history.accused} <= set(history.evil)
    return is_just and (not history.forks or 3 * guilty > sum(history.weights))


def main() -> None:
    arguments = seeds_parser(__doc__).parse_args()
    if arguments.seed is not None:
        print(play(arguments.seed))
        return
    histories, bad, seconds = play_many(arguments, play, lambda history: history.stuck)
    heights, rotations = sum(history.height for history in histories), sum(history.rotations for history in histories)
    events = sum(history.events for history in histories)
    print(
        f"{arguments.seeds} seeds, {bad} bad, {heights} blocks, {rotations} rotations, {events} events, {events / seconds:.0f}/s",
        flush=True,
    )
    arguments.seeds //= UNSAFE_EVERY
    unsafe, more, _ = play_many(arguments, play_unsafe, lambda history: not is_named(history))
    print(f"{arguments.seeds} unsafe, {more} bad, {sum(history.forks > 0 for history in unsafe)} with forks", flush=True)
    arguments.seeds = arguments.seeds * UNSAFE_EVERY // LARGE_EVERY
    large, most, _ = play_many(arguments, play_large, lambda history: history.stuck)
    print(f"{arguments.seeds} large, {most} bad, {sum(history.height for history in large)} blocks")
    sys.exit(1 if bad + more + most else 0)


if __name__ == "__main__":
    main()
