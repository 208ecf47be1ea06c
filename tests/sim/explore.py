"""Every history of a small rotation, by the real core (`proto/spec/model/README.md`).

Four validators of weight 1: number 0 is evil, the others run `qnode.core.consensus`. What anybody has said can reach anybody at any time,
any number of times, or never; timers fire whenever they like; what is being signed when a node crashes is on its disk and unsaid. The evil
one needs no state: it has signed everything, and shows of it what it likes to whom it likes.

So a state of the whole is what the three are in. A node's state is followed by another for each thing that can come to it; these steps
are worked out once for a node's state (`sim.explore_model`), by the core itself, and looked up from then on. What there is to be heard is
the same for all (`sim.explore_boards`), and never becomes less. So whatever a node does of which nothing new can be heard is put off until
right before something can: a step of the whole is one node's walk to where something new can be heard, or two nodes' to where both have
said what is decided by that (`sim.explore_runs`). And of two states with as much to be heard, of which the first can come to the second by
such walks, the first stands for both.

PYTHONPATH=tests python -m sim.explore --leads 012 --views 3          certificates come as wholes
PYTHONPATH=tests python -m sim.explore --views 1 --plain              nothing is put off that others can notice
PYTHONPATH=tests python -m sim.explore --views 1 --single             every vote by itself, which shows who accuses whom
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

from qustream.wire.consensus import Kind
from sim.explore_boards import Board, Boards
from sim.explore_model import HONEST, Local, Model, Said, Setting, must
from sim.explore_runs import Runs, Steps, Walk
from sim.seeds import Breach

__all__ = ["GOALS", "Explorer", "Setting"]

# What must be possible: a core that does nothing is safe.
GOALS = ("final", "skipped", "asked")
# How often a long run says how far it is, in states.
TELL_EVERY = 5_000

State = tuple[int, int, int]
# Who did what.
Acts = tuple[tuple[int, Steps], ...]
_ORDERS = tuple(permutations(range(len(HONEST))))


class Explorer:
    """`run` goes through all states. A `Breach` tells the steps that led to it."""

    def __init__(self, setting: Setting, *, plain: bool = False) -> None:
        self.setting, self.model = setting, Model(setting)
        self.boards, self.runs = Boards(self.model), Runs(self.model, plain=plain or setting.single)
        self.seen: dict[State, tuple[State, Acts] | None] = {}
        self.due: deque[State] = deque()
        self._by_board: dict[tuple[int, ...], list[tuple[frozenset[int], ...]]] = {}
        self._chains: dict[frozenset[int], frozenset[tuple[bytes, ...]]] = {}
        self._looked_at: set[tuple[object, ...]] = set()

    def run(self, most: int = sys.maxsize, *, deep: bool = False, tell: bool = False) -> bool:
        """Whether every state there is has been seen; else `most` were enough. `deep`: the newest first, for what takes long to go
        wrong."""
        self._take(_sorted([self.model.begun(node) for node in HONEST]), None)
        while self.due:
            if len(self.seen) >= most:
                return False
            state = self.due.pop() if deep else self.due.popleft()
            try:
                for after, acts in self._after(state):
                    self._take(after, (state, acts), tell=tell)
            except Breach as breach:
                raise Breach(f"{breach}; after {self.told(state)}") from None
        return True

    def _take(self, state: State, before: tuple[State, Acts] | None, *, tell: bool = False) -> None:
        """A state that has been come to: to be gone on from, unless another stands for it."""
        if state in self.seen:
            return
        board = self.boards.of(self._locals(state))
        state = _sorted([self.runs.settled(number, board) for number in state])
        if state in self.seen:
            return
        peers = self._by_board.setdefault(board.numbers, [])
        if any(_covers(peer, state) for peer in peers):
            return
        peers.append(tuple(self.runs.within(number, board) for number in state))
        self.seen[state] = before
        self.due.append(state)
        self._look_at(state, board)
        if tell and not len(self.seen) % TELL_EVERY:
            print(f"{self.told_sizes()}, {len(self.due)} to go on from", file=sys.stderr, flush=True)

    def _after(self, state: State) -> Iterator[tuple[State, Acts]]:
        nodes = self._locals(state)
        board = self.boards.of(nodes)
        walks = [self._walk(state, place, nodes, board) for place in range(len(HONEST))]
        names = [node.core.begun.me or 0 for node in nodes]
        for place, walk in enumerate(walks):
            for after, steps in walk.ends.items():
                yield _sorted([*state[:place], after, *state[place + 1 :]]), ((names[place], steps),)
        for one, other in combinations(range(len(HONEST)), 2) if not self.runs.plain else ():
            lives = self.setting.crashes - sum(node.life for place, node in enumerate(nodes) if place not in (one, other))
            for first, second, how in self._pairs((nodes[one], walks[one]), (nodes[other], walks[other]), board, lives):
                after = list(state)
                after[one], after[other] = first, second
                yield _sorted(after), ((names[one], how[0]), (names[other], how[1]))

    def _walk(self, state: State, place: int, nodes: Sequence[Local], board: Board) -> Walk:
        others = [node for at, node in enumerate(nodes) if at != place]
        hot = frozenset(said for node in others for said in node.said if said[1] is not Kind.PROPOSAL) - board.decided - nodes[place].said
        life = self.setting.crashes - sum(node.life for node in others)
        return self.runs.walk(state[place], board, hot if not self.runs.plain else frozenset(), life)

    def _pairs(
        self, one: tuple[Local, Walk], other: tuple[Local, Walk], board: Board, lives: int
    ) -> Iterator[tuple[int, int, tuple[Steps, Steps]]]:
        """Where two nodes are that have both come to say the same, and nothing else before: that would have been decided first."""
        for said in one[1].firsts.keys() & other[1].firsts.keys():
            seconds = [
                (number, *self._new(number, last, other[0], board), steps) for (number, last), steps in other[1].firsts[said].items()
            ]
            for (first, last), steps in one[1].firsts[said].items():
                new, before = self._new(first, last, one[0], board)
                life = self.model.locals[first].life
                for second, their_new, their_before, their_steps in seconds:
                    if not (before & their_new or their_before & new) and life + self.model.locals[second].life <= lives:
                        yield first, second, (steps, their_steps)

    def _new(self, number: int, last: frozenset[Said], begun: Local, board: Board) -> tuple[frozenset[Said], frozenset[Said]]:
        """What a node has said on its walk, and what of it before the last step."""
        new = self.model.locals[number].said - begun.said - board.decided
        return new, new - last

    def _locals(self, state: State) -> list[Local]:
        return [self.model.locals[number] for number in state]

    # --- what must never be

    def _look_at(self, state: State, board: Board) -> None:
        """At what can be final for the three before there is more to be heard."""
        chains = tuple(self._final(number, board) for number in state)
        if chains in self._looked_at:
            return
        self._looked_at.add(chains)
        for one, other in combinations(set().union(*chains), 2):
            shorter = min(len(one), len(other))
            must(one[:shorter] == other[:shorter], f"two chains are final; after {self.told(state)}")

    def _final(self, number: int, board: Board) -> frozenset[tuple[bytes, ...]]:
        within = self.runs.within(number, board)
        found = self._chains.get(within)
        if found is None:
            found = self._chains[within] = frozenset(self.model.locals[each].chain for each in within)
        return found

    # --- for a reader

    def told(self, state: State) -> str:
        """The steps from the beginning. Nodes that can stand for each other may have each other's names."""
        steps: list[str] = []
        while (before := self.seen.get(state)) is not None:
            state = before[0]
            steps += [f"{name}: {shown(how)}" for name, how in reversed(before[1])]
        return "; ".join(reversed(steps))

    def told_sizes(self) -> str:
        """How much there has been."""
        return f"{len(self.seen)} states, {len(self.model.locals)} of single nodes, {self.runs.steps} steps, {len(self.boards)} boards"


def _sorted(state: Sequence[int]) -> State:
    one, two, three = sorted(state)
    return one, two, three


def _covers(peer: tuple[frozenset[int], ...], state: State) -> bool:
    """Whether three can come to where these three are."""
    one, two, three = state
    return any(one in peer[a] and two in peer[b] and three in peer[c] for a, b, c in _ORDERS)


def shown(steps: Steps) -> str:
    """The steps of one node."""
    return " ".join(
        ",".join(_shown(part) for each in coming for part in (each if isinstance(each, tuple) else (each,))) for coming in steps
    )


def _shown(part: object) -> str:
    return part.hex()[:4] if isinstance(part, bytes) else part.name if isinstance(part, Kind) else str(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leads", default="012", help="who leads views 1, 2, ...; 0 is evil")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--crashes", type=int, default=0)
    parser.add_argument("--variants", type=int, default=2, help="of the evil one's blocks, on each parent")
    parser.add_argument("--single", action="store_true", help="every vote comes by itself")
    parser.add_argument("--plain", action="store_true", help="nothing is put off that others can notice")
    parser.add_argument("--most", type=int, default=sys.maxsize, help="states, then it is enough")
    parser.add_argument("--deep", action="store_true", help="the newest state first")
    arguments = parser.parse_args()
    setting = Setting(tuple(map(int, arguments.leads)), arguments.views, arguments.crashes, arguments.single, arguments.variants)
    explorer, started = Explorer(setting, plain=arguments.plain), time.process_time()
    is_all = explorer.run(arguments.most, deep=arguments.deep, tell=True)
    used = f"{time.process_time() - started:.0f} s, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB"
    left = "" if is_all else f" and more: {len(explorer.due)} to go on from"
    print(f"{setting}: {explorer.told_sizes()}{left}; reached: {', '.join(sorted(explorer.model.reached))}; {used}")


if __name__ == "__main__":
    main()
