"""One random history of a network of peers, all of it from a seed: who is evil, which lines are cut, who crashes, moves, loses a licence.

PYTHONPATH=tests python -m sim.peers_histories --seed 17             see one again
PYTHONPATH=tests python -m sim.peers_histories --seed 17 --eclipse   an attack on one node
scripts/soak peers --seeds 1000                                      many, and a quarter as many attacks
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from sim.byzantine.address_flooder import AddressFlooder
from sim.byzantine.eclipser import Eclipser
from sim.byzantine.flapper import Flapper
from sim.byzantine.refuser import Refuser
from sim.peers_checks import complaints, honest_links
from sim.peers_world import Evil, PeersWorld, Place
from sim.seeds import play_many, seeds_parser

__all__ = ["Eclipse", "History", "play", "play_eclipse"]

EVIL: tuple[Callable[[PeersWorld, int], Evil], ...] = (AddressFlooder, Eclipser, Flapper, Refuser)
STARTING_MS, FAULTS_MS = 10_000, 50_000
# After the last fault: silent connections are given up (20 s), an assigned node is tried again (two minutes), its epoch's links are opened.
AFTER_MS = 150_000


@dataclass
class History:
    """What a run was, and what was wrong in the end."""

    seed: int
    nodes: int = 0
    evil: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    events: int = 0
    wrong: list[str] = field(default_factory=list)


def _places(chance: random.Random, honest: int, evil: int) -> list[Place]:
    """Honest operators have one node or two, and a prefix of their own or a shared one; the evil ones are few operators."""
    places = []
    for number in range(honest):
        operator = number - 1 if number and chance.random() < 0.15 else number
        place = chance.randrange(honest) if chance.random() < 0.15 else number
        places.append(Place(f"honest {operator}", place))
    makers = [chance.choice(EVIL) for _ in range(evil)]
    operators = max(1, chance.randrange(evil // 3 + 1, evil + 1)) if evil else 1
    return places + [Place(f"evil {number % operators}", honest + number % operators, make) for number, make in enumerate(makers)]


class Faults:
    """What goes wrong in a history, and is put right in the end."""

    def __init__(self, world: PeersWorld, chance: random.Random) -> None:
        self._world, self._chance = world, chance
        self._down: list[int] = []
        self._struck: list[int] = []
        self._moved: set[int] = set()
        self.told: list[str] = []

    def happens(self) -> None:
        act = self._chance.choice((self._crash, self._crash, self._restart, self._cut, self._one_way, self._heal, self._move, self._strike))
        what = act()
        if what:
            self.told.append(f"{self._world.clock.now_ms} {what}")

    def end(self) -> None:
        self._heal()
        for number in self._down:
            self._world.restart(number)
        for number in self._struck:
            self._world.list_again(number)

    def _up(self) -> list[int]:
        return [number for number, node in self._world.honest.items() if node.is_up]

    def _crash(self) -> str:
        up = self._up()
        if len(up) * 3 <= len(self._world.honest) * 2:
            return ""
        number, silently = self._chance.choice(up), self._chance.random() < 0.4
        self._world.crash(number, silently=silently)
        self._down.append(number)
        return f"{number} crashes{' silently' if silently else ''}"

    def _restart(self) -> str:
        if not self._down:
            return ""
        number = self._down.pop(self._chance.randrange(len(self._down)))
        self._world.restart(number)
        return f"{number} restarts"

    def _cut(self) -> str:
        part = set(self._chance.sample(range(len(self._world.places)), len(self._world.places) // 2))
        self._world.lines.cut = lambda a, b: (a in part) != (b in part)
        return f"{sorted(part)} are cut off"

    def _one_way(self) -> str:
        pairs = {tuple(self._chance.sample(range(len(self._world.places)), 2)) for _ in range(len(self._world.places))}
        self._world.lines.cut = lambda a, b: (a, b) in pairs
        return f"{len(pairs)} ways are cut"

    def _heal(self) -> str:
        self._world.lines.cut = lambda _a, _b: False
        return "heals"

    def _move(self) -> str:
        number = self._chance.choice(list(self._world.honest))
        # Two that have both moved while they were apart do not find each other but by a third that has not.
        if number in self._moved or len(self._moved) >= len(self._world.honest) // 3:
            return ""
        self._moved.add(number)
        self._world.move(number)
        return f"{number} moves"

    def _strike(self) -> str:
        if self._struck:
            self._world.list_again(number := self._struck.pop())
            return f"{number} is listed again"
        number = self._chance.randrange(len(self._world.places))
        self._world.strike(number)
        self._struck.append(number)
        return f"{number} is struck off"


def play(seed: int) -> History:
    """Raises `Breach` for what must never be; the rest is in the history."""
    chance = random.Random(seed)
    honest = chance.randrange(4, 11)
    world = PeersWorld(seed=seed, places=_places(chance, honest, chance.randrange(honest // 3 + 1)))
    world.replay = f"PYTHONPATH=tests python -m sim.peers_histories --seed {seed}"
    history = History(seed, len(world.places), [type(each).__name__ for each in world.evil.values()])
    world.run_ms(STARTING_MS)
    faults = Faults(world, chance)
    ends_ms = world.clock.now_ms + FAULTS_MS
    while world.clock.now_ms < ends_ms:
        world.run_ms(chance.randrange(1_000, 9_000))
        faults.happens()
    faults.end()
    world.tick_us = 2_000_000
    world.run_ms(AFTER_MS)
    history.faults, history.events, history.wrong = faults.told, world.clock.events, complaints(world)
    return history


@dataclass
class Eclipse:
    """An attack on node 0. `least`: the fewest honest links it had at any second after it had come up; `least_again`: and after a restart
    in the midst of it, with `anchors` on its disk; `back_ms`: how long that took to its first honest link; `held`: the most links the
    attackers had."""

    seed: int
    honest: int = 0
    evil: int = 0
    least: int = 0
    least_again: int = 0
    back_ms: int = 0
    held: int = 0
    anchors: int = 0


def play_eclipse(seed: int, *, is_strong: bool = False) -> Eclipse:
    """A third of all licences, of few operators, want to be all that node 0 sees. In every other one it has anchors when it restarts.
    A strong attack takes every place there is, at everybody: that needs 24 nodes, a prefix for each, and that all others have restarted
    while it went on."""
    chance = random.Random(seed)
    honest = 48 if is_strong else chance.randrange(12, 25)
    evil = honest // 2
    operators, prefixes = (12, 24) if is_strong else (chance.randrange(2, max(3, evil // 2)), chance.randrange(2, 9))
    places = [Place(f"honest {number}", number) for number in range(honest)]
    places += [Place(f"evil {number % operators}", honest + number % prefixes, Eclipser) for number in range(evil)]
    world = PeersWorld(seed=seed, places=places)
    world.replay = f"PYTHONPATH=tests python -m sim.peers_histories --seed {seed} --eclipse{' --strong' * is_strong}"
    told = Eclipse(seed, honest, evil)
    world.run_ms(15_000)
    told.least = _watch(world, told, 30_000)
    if seed % 2:
        world.tick_us = 10_000_000
        world.run_ms(640_000)
        world.tick_us = 1_000_000
    for number in range(1, honest if is_strong else 1):
        world.crash(number)
        world.run_ms(1_500)
        world.restart(number)
        world.run_ms(500)
    told.anchors = len(world.honest[0].anchors)
    world.crash(0, silently=chance.random() < 0.5)
    world.run_ms(chance.randrange(1_000, 30_000))
    world.restart(0)
    began_ms = world.clock.now_ms
    while not honest_links(world, 0) and world.clock.now_ms - began_ms < 60_000:
        world.run_ms(100)
    told.back_ms = world.clock.now_ms - began_ms
    world.run_ms(8_000)
    told.least_again = _watch(world, told, 30_000)
    return told


def _watch(world: PeersWorld, told: Eclipse, duration_ms: int) -> int:
    least = len(world.honest)
    for _ in range(duration_ms // 1000):
        world.run_ms(1000)
        least = min(least, len(honest_links(world, 0)))
        told.held = max(told.held, len(world.honest[0].links) - len(honest_links(world, 0)))
    return least


def main() -> None:
    parser = seeds_parser(__doc__)
    parser.add_argument("--eclipse", action="store_true", help="with --seed: the attack of this seed")
    parser.add_argument("--strong", action="store_true", help="and with every place taken")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        print(play_eclipse(arguments.seed, is_strong=arguments.strong) if arguments.eclipse else play(arguments.seed))
        return
    histories, bad, seconds = play_many(arguments, play, lambda history: history.wrong)
    events = sum(history.events for history in histories)
    print(f"{arguments.seeds} seeds, {bad} bad, {events} events, {events / seconds:.0f}/s")
    attacks = [
        play_eclipse(seed, is_strong=seed % 10 == 0) for seed in range(arguments.first, arguments.first + arguments.seeds // 4)
    ]  # fmt: skip
    for name in ("least", "least_again"):
        counts = Counter(int(getattr(attack, name)) for attack in attacks)
        print(f"attacks with so many honest links at least ({name}): {dict(sorted(counts.items()))}")
    print(f"back with an honest link within {max((attack.back_ms for attack in attacks), default=0)} ms")
    eclipsed = [attack for attack in attacks if 0 in (attack.least, attack.least_again)]
    for attack in eclipsed:
        print(attack)
    sys.exit(1 if bad or eclipsed else 0)


if __name__ == "__main__":
    main()
