"""One random history of a gossip network, all of it from a seed: who is evil, what goes wrong with the lines, who crashes, who says what.

PYTHONPATH=tests python -m sim.gossip_histories --seed 17        see one again; --below 25: as one of fewer than 25 nodes
scripts/soak gossip --seeds 1000                                 many
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from functools import partial

from qustream.wire.gossip import Topic
from sim.byzantine.flooder import Flooder
from sim.byzantine.garbler import Garbler
from sim.byzantine.inventor import Inventor
from sim.byzantine.liar import Liar
from sim.byzantine.promiser import Promiser
from sim.byzantine.pusher import Pusher
from sim.byzantine.silent import Silent
from sim.gossip_world import GossipWorld
from sim.seeds import play_many, seeds_parser
from sim.wires import Faults

__all__ = ["History", "play"]

EVIL = (Garbler, Promiser, Silent, Flooder, Pusher, Liar, Inventor)
TOPICS = (
    (Topic.TRANSACTION, 400), (Topic.TRANSACTION, 3600), (Topic.BLOCK, 60_000), (Topic.BLOCK, 120_000), (Topic.EVIDENCE, 9_000),
    (Topic.ADDRESS, 4_500),
)  # fmt: skip
NODES_BELOW = 37
SPEAKING_MS = 4_000
# After the last word: three heartbeats of lazy repair, pulls that go from one silent teller to the next.
AFTER_MS = 9_000
STEP_MS = 500
# What is bounded is looked at after so many events of a world: what grows without bound is still there.
CHECK_EVERY = 8


@dataclass
class History:
    """What a run was and did. `missing`: (message, node) pairs that should have come together."""

    seed: int
    nodes: int = 0
    evil: list[str] = field(default_factory=list)
    events: int = 0
    said: int = 0
    missing: list[tuple[str, int]] = field(default_factory=list)
    grey: list[tuple[int, int]] = field(default_factory=list)
    copies: float = 0.0  # of a large message, a node


def play(seed: int, *, to_the_end: bool = True, below: int = NODES_BELOW) -> History:
    """Raises `Breach` for what must never be; the rest is in the history. `to_the_end`: even if everybody has everything long before;
    `below`: of so many nodes there are fewer."""
    chance = random.Random(seed)
    nodes = chance.randrange(12, below)
    evil = [chance.choice(EVIL) for _ in range(chance.randrange(nodes // 4 + 1))]
    world = GossipWorld(seed=seed, nodes=nodes, byzantine=evil, check_every=CHECK_EVERY)
    world.replay = f"PYTHONPATH=tests python -m sim.gossip_histories --seed {seed} --below {below}"
    history = History(seed, nodes, [each.__name__ for each in evil])
    world.run_ms(3_000)
    world.wires.faults = Faults(lost=chance.choice((0, 0, 20, 80)), doubled=chance.choice((0, 50)), reordered=chance.choice((0, 200)))
    down: dict[int, int] = {}  # node -> when it came back
    said: list[tuple[bytes, int, int]] = []  # id, who, when
    ends_ms = world.clock.now_ms + SPEAKING_MS
    while world.clock.now_ms < ends_ms:
        world.run_ms(chance.randrange(50, 800))
        _happens(world, chance, down, said)
    world.wires.faults = Faults()
    for number, since in list(down.items()):
        if since < 0:
            world.restart(number)
            down[number] = world.clock.now_ms
    ends_ms = world.clock.now_ms + AFTER_MS
    while world.clock.now_ms < ends_ms and (to_the_end or _missing(world, said, down)):
        world.run_ms(STEP_MS)
    history.events, history.said, history.missing = world.clock.events, len(said), _missing(world, said, down)
    history.grey = world.grey_between_honest()
    large = [count / len(world.honest) for count in world.copies.values()]
    history.copies = round(max(large, default=0.0), 2)
    return history


def _missing(world: GossipWorld, said: list[tuple[bytes, int, int]], down: dict[int, int]) -> list[tuple[str, int]]:
    missing: list[tuple[str, int]] = []
    for name, who, when in said:
        reached = world.reached(name)
        due = [node.number for node in world.honest if not when <= down.get(node.number, -1) + 1 and node.number not in _away(down, when)]
        if who in down and len(reached) <= 1:
            continue  # it fell silent before anybody had heard it
        missing += [(name.hex()[:8], number) for number in due if number not in reached]
    return missing


def _away(down: dict[int, int], when: int) -> set[int]:
    """Nodes that have been down at some time after the message was said."""
    return {number for number, since in down.items() if since < 0 or since >= when}


def _happens(world: GossipWorld, chance: random.Random, down: dict[int, int], said: list[tuple[bytes, int, int]]) -> None:
    """Somebody says something; now and then somebody crashes or comes back."""
    up = [node.number for node in world.honest if node.is_up]
    act = chance.random()
    if act < 0.1 and len(up) > len(world.honest) * 3 // 4:
        number = chance.choice(up)
        world.crash(number)
        down[number] = -1
    elif act < 0.2 and any(since < 0 for since in down.values()):
        number = chance.choice([number for number, since in down.items() if since < 0])
        world.restart(number)
        down[number] = world.clock.now_ms
    else:
        who = chance.choice(up)
        topic, size = chance.choice(TOPICS)
        said.append((world.publish(who, topic, size), who, world.clock.now_ms))


def main() -> None:
    parser = seeds_parser(__doc__)
    parser.add_argument("--below", type=int, default=NODES_BELOW, help="fewer nodes than these; tests play with 25")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        print(play(arguments.seed, below=arguments.below))
        return
    histories, bad, seconds = play_many(arguments, partial(play, below=arguments.below), lambda history: history.missing or history.grey)
    events, copies = sum(history.events for history in histories), max((history.copies for history in histories), default=0.0)
    print(
        f"{arguments.seeds} seeds, {bad} bad, {events} events, {events / seconds:.0f}/s, at most {copies} copies of a large message a node"
    )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
