"""Every history of a small rotation, by the real core (`proto/spec/model/README.md`).

Four validators of weight 1: number 0 is evil, the others run `qnode.core.consensus`. What anybody has said can reach anybody at any time,
any number of times, or never; timers fire whenever they like; what is being signed when a node crashes is on its disk and unsaid. The evil
one needs no state: it has signed everything, and shows of it what it likes to whom it likes.

So a state of the whole is what the three are in, and a node's state is followed by another for each thing that can come to it. These steps
are worked out once for a node's state (`Model.follow`), by the core itself, and looked up from then on. Of the orders of steps that differ
in nothing that others can see, one is tried: what a node takes in without saying anything is put off until right before it says something;
and of two states that differ in what has been taken in alone, the one that still can take it in stands for both.

PYTHONPATH=tests python -m sim.explore --views 3 --crashes 1          certificates come as wholes
PYTHONPATH=tests python -m sim.explore --views 1 --single             every vote by itself, which shows who accuses whom
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from qustream.wire.consensus import NO_DIGEST, Kind, Proposal, header_digest
from sim.explore_model import BASE, EVIL, HONEST, QUORUM, Coming, Local, Model, Said, Setting, header, must
from sim.seeds import Breach

__all__ = ["GOALS", "Explorer", "Setting"]

# What must be possible: a core that does nothing is safe.
GOALS = ("final", "skipped", "asked")

State = tuple[int, int, int]
# What matters to a node of the rest: which of the three it is, what there is to come to it (by number), how many crashes there may be yet.
Around = tuple[int, int, int]
Steps = tuple[Coming, ...]


class Explorer:
    """`run` goes through all states. A `Breach` tells the steps that led to it."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.model = setting, Model(setting)
        self.steps = 0
        roles = [self.model.role(node) for node in HONEST]
        self._alike = [[at for at, role in enumerate(roles) if role == each] for each in set(roles)]
        self._looks: dict[tuple[int, ...], list[State]] = {}
        self._look_numbers: dict[tuple[object, ...], int] = {}
        self._looked_at: set[tuple[object, ...]] = set()
        self._things: list[tuple[Coming, ...]] = []  # that were to come together somewhere
        self._thing_numbers: dict[tuple[Coming, ...], int] = {}
        self._there_numbers: dict[tuple[Any, ...], int] = {}
        self.seen: dict[State, tuple[State, int, Steps] | None] = {}
        self._reached: dict[tuple[int, Around], tuple[frozenset[int], dict[int, Steps]]] = {}
        self._evil_blocks: dict[frozenset[bytes], tuple[bytes, ...]] = {}

    def run(self, most: int = sys.maxsize, *, deep: bool = False) -> bool:
        """Whether every state there is has been seen; else `most` were enough. `deep`: the newest first, for what takes long to
        go wrong."""
        first = tuple(self.model.begun(node) for node in HONEST)
        assert len(first) == len(HONEST)
        start = self._sorted(first)
        self.seen[start] = None
        due = deque([start])
        while due:
            state = due.pop() if deep else due.popleft()
            for place in range(len(HONEST)):
                for after, how in self._visible(state, place):
                    if after in self.seen or self._is_covered(after):
                        continue
                    if len(self.seen) >= most:
                        return False
                    self.seen[after] = (state, HONEST[place], how)
                    self._look_at(after)
                    due.append(after)
        return True

    def _is_covered(self, state: State) -> bool:
        """Whether a state has been seen that looks the same and can still come to this one unnoticed; else this one counts from now on."""
        peers = self._looks.setdefault(tuple(self._look_of(number) for number in state), [])
        arounds = [self._around(state, place, number) for place, number in enumerate(state)]
        for peer in peers:
            if all(now == then or now in self._reach(then, around)[0] for now, then, around in zip(state, peer, arounds, strict=True)):
                return True
        peers.append(state)
        return False

    def _look_of(self, number: int) -> int:
        """What others see of a node, by number."""
        local = self._local(number)
        return self._look_numbers.setdefault((local.said, local.life, local.chain), len(self._look_numbers))

    def _around(self, state: State, place: int, number: int) -> Around:
        """Of the node at this place, if it is in this state of its own."""
        one, two = (self._local(other) for at, other in enumerate(state) if at != place)
        key = (place, self._local(number).said, one.said, two.said)
        there = self._there_numbers.get(key)
        if there is None:
            comings = tuple(self._there(HONEST[place], *key[1:]))
            there = self._there_numbers[key] = self._thing_numbers.setdefault(comings, len(self._things))
            if there == len(self._things):
                self._things.append(comings)
        return place, there, self.setting.crashes - one.life - two.life

    def _visible(self, state: State, place: int) -> Iterator[tuple[State, Steps]]:
        """What one node can come to by taking in what it likes of what there is, up to the next thing that others see."""
        try:
            _, loud = self._reach(state[place], self._around(state, place, state[place]))
            for after, how in self._least(loud, state, place):
                yield self._sorted((*state[:place], after, *state[place + 1 :])), how
        except Breach as breach:
            raise Breach(f"{breach}; after {self.told(state)}") from None

    def _sorted(self, state: tuple[int, ...]) -> State:
        """Of states that are the same but for names, one."""
        out = list(state)
        for places in self._alike:
            numbers = sorted((out[place] for place in places), key=lambda number: (self._look_of(number), number))
            for place, number in zip(places, numbers, strict=True):
                out[place] = number
        return out[0], out[1], out[2]

    def _reach(self, start: int, around: Around) -> tuple[frozenset[int], dict[int, Steps]]:
        """The states that a node can come to without being noticed, and those where it is, each with the steps to it."""
        found = self._reached.get((start, around))
        if found is not None:
            return found
        node, begun = HONEST[around[0]], self._local(start)
        inside, loud, due = {start}, dict[int, Steps](), [(start, Steps())]
        while due:
            number, how = due.pop()
            for coming in self._coming(self._local(number), around):
                self.steps += 1
                try:
                    follows = self.model.follow(node, number, coming)
                except Breach as breach:
                    raise Breach(f"{breach}; by {node}: {shown((*how, coming))}") from None
                for after in follows:
                    then = self._local(after)
                    if then.life > around[2]:
                        continue
                    if (then.said, then.life, then.chain) != (begun.said, begun.life, begun.chain):
                        loud.setdefault(after, (*how, coming))
                    elif after not in inside:
                        inside.add(after)
                        due.append((after, (*how, coming)))
        found = self._reached[start, around] = (frozenset(inside), loud)
        return found

    def _least(self, loud: dict[int, Steps], state: State, place: int) -> list[tuple[int, Steps]]:
        """Without those that another of them can still come to unnoticed."""
        if len(loud) == 1:
            return list(loud.items())
        beyond = {then for each in loud for then in self._reach(each, self._around(state, place, each))[0] if then != each}
        return [(each, how) for each, how in loud.items() if each not in beyond]

    def _local(self, number: int) -> Local:
        return self.model.locals[number]

    # --- what there is to come

    def _coming(self, local: Local, around: Around) -> Iterator[Coming]:
        core = local.core
        if not core.view:
            return
        yield from self._things[around[1]]
        if core.view <= self.setting.views:
            yield ("timer",)
            if local.build is not None and local.build.view == core.view:
                yield ("build",)
        if local.life:
            yield ("again",)
        if local.life < around[2]:
            yield ("crash",)

    def _there(self, node: int, own: frozenset[Said], *others: frozenset[Said]) -> Iterator[Coming]:
        for digest in self._proposed(own, others):
            yield ("block", digest)
        if self.setting.single:
            yield ("evil", tuple(sorted(self._votes(node, own, others))))
        for said, voters in sorted(self._votes(node, own, others).items()):
            if self.setting.single:
                yield from (("vote", said, voter) for voter in voters if voter not in (node, EVIL))
            elif len(voters) >= QUORUM:
                yield ("votes", said, said in own)

    def _proposed(self, own: frozenset[Said], others: tuple[frozenset[Said], ...]) -> list[bytes]:
        """The blocks there are: those of who obeys, and two of the evil one on each of them in each view that it leads."""
        there = frozenset(digest for said in (own, *others) for _, kind, digest in said if kind is Kind.PROPOSAL)
        evil = self._evil_blocks.get(there)
        if evil is None:
            evil = self._evil_blocks[there] = tuple(self._invented(there))
        return [*sorted(there), *evil]

    def _invented(self, there: frozenset[bytes]) -> Iterator[bytes]:
        parents = [(BASE.digest, 0, BASE.height), *((each, h.view, h.height) for each in there for h in [self.model.blocks[each].header])]
        for view, leader in enumerate(self.setting.leads[: self.setting.views], 1):
            for parent, parent_view, height in list(parents):
                for variant in range(self.setting.variants if leader == EVIL and parent_view < view else 0):
                    made = header(view, parent, parent_view, height + 1, variant, EVIL)
                    digest = header_digest(made)
                    self.model.blocks[digest] = Proposal(made, (), b"0")
                    parents.append((digest, view, height + 1))
                    yield digest

    def _votes(self, node: int, own: frozenset[Said], others: tuple[frozenset[Said], ...]) -> dict[Said, tuple[int, ...]]:
        """Who has signed what, as far as it could reach this node."""
        out: dict[Said, list[int]] = {}
        for view in range(1, self.setting.views + 1):
            out[view, Kind.SKIP, NO_DIGEST] = [EVIL]
        for digest in self._proposed(own, others):
            view = self.model.blocks[digest].header.view
            out[view, Kind.NOTAR, digest], out[view, Kind.FINAL, digest] = [EVIL], [EVIL]
        speakers = [(node, own), *zip((each for each in HONEST if each != node), others, strict=True)]
        for speaker, said in sorted(speakers, key=lambda each: each[0]):
            for each in said:
                if each[1] is not Kind.PROPOSAL:
                    out.setdefault(each, [EVIL]).append(speaker)
        return {each: tuple(voters) for each, voters in out.items()}

    # --- what must never be

    def _look_at(self, state: State) -> None:
        three = [self._local(number) for number in state]
        key = tuple((each.said, each.chain) for each in three)
        if key in self._looked_at:
            return
        self._looked_at.add(key)
        try:
            for one, other in zip(three, three[1:] + three[:1], strict=True):
                shorter = min(len(one.chain), len(other.chain))
                must(one.chain[:shorter] == other.chain[:shorter], "two chains are final")
            self._look_at_votes(*(each.said for each in three))
        except Breach as breach:
            raise Breach(f"{breach}; after {self.told(state)}") from None

    def _look_at_votes(self, first: frozenset[Said], *others: frozenset[Said]) -> None:
        decided = {each for each, voters in self._votes(HONEST[0], first, others).items() if len(voters) >= QUORUM}
        for view in range(1, self.setting.views + 1):
            notarised = {digest for at, kind, digest in decided if at == view and kind is Kind.NOTAR}
            final = {digest for at, kind, digest in decided if at == view and kind is Kind.FINAL}
            must(len(notarised) <= 1, f"two blocks of view {view} are notarised")
            must(len(final) <= 1 and final <= notarised, f"what is final in view {view} is not what is notarised")
            must(not (final and (view, Kind.SKIP, NO_DIGEST) in decided), f"view {view} is final and skipped")
            for digest in final:
                later = [(at, other) for at, kind, other in decided if at > view and kind is Kind.NOTAR]
                must(
                    all(self._stands_on(other, digest, view) for _, other in later), f"what is notarised leaves out what is final in {view}"
                )
        if any(kind is Kind.SKIP for _, kind, _ in decided):
            self.model.reached.add("skipped")

    def _stands_on(self, digest: bytes, below: bytes, view: int) -> bool:
        while (block := self.model.blocks.get(digest)) is not None and block.header.view > view:
            digest = block.header.parent
        return digest == below

    def told(self, state: State) -> str:
        """The steps from the beginning."""
        steps: list[str] = []
        while (before := self.seen.get(state)) is not None:
            state = before[0]
            steps.append(f"{before[1]}: {shown(before[2])}")
        return "; ".join(reversed(steps))


def shown(steps: Steps) -> str:
    """For a reader."""
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
    parser.add_argument("--most", type=int, default=sys.maxsize, help="states, then it is enough")
    parser.add_argument("--deep", action="store_true", help="the newest state first")
    arguments = parser.parse_args()
    setting = Setting(tuple(map(int, arguments.leads)), arguments.views, arguments.crashes, arguments.single, arguments.variants)
    explorer, started = Explorer(setting), time.process_time()
    is_all = explorer.run(arguments.most, deep=arguments.deep)
    told = (
        f"{len(explorer.seen)} states{'' if is_all else ' and more'}, {len(explorer.model.locals)} of single nodes, {explorer.steps} steps"
    )
    print(f"{setting}: {told}; reached: {', '.join(sorted(explorer.model.reached))}; {time.process_time() - started:.0f} s")


if __name__ == "__main__":
    main()
