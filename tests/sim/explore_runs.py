"""What a node can do by itself, with what there is to be heard: where one run of steps leads (`sim.explore`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from qustream.wire.consensus import Kind
from sim.explore_boards import Board
from sim.explore_model import Coming, Local, Model, Said

__all__ = ["Runs", "Steps", "Walk"]

Steps = tuple[Coming, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """From one state, by steps that others have nothing of. `ends`: where something comes of a step for others, which ends the walk, and
    the steps to there; `firsts`: by what is said first, where that was, with all that the last step said, and the steps."""

    ends: dict[int, Steps]
    firsts: dict[Said, dict[tuple[int, frozenset[Said]], Steps]]


class Runs:
    """Of the states of single nodes, by number. `plain`: a step ends a walk if it says anything, crashes, or makes something final."""

    def __init__(self, model: Model, *, plain: bool) -> None:
        self.model, self.plain = model, plain
        self.steps = 0
        self._after: dict[tuple[int, int], tuple[tuple[Coming, int], ...]] = {}
        self._within: dict[tuple[int, int], frozenset[int]] = {}
        self._walks: dict[tuple[int, int, frozenset[Said], int], Walk] = {}

    def within(self, number: int, board: Board) -> frozenset[int]:
        """The states that a node can come to while there is no more to be heard; if `plain`, without being noticed."""
        key = (number, board.number(self._local(number)))
        found = self._within.get(key)
        if found is not None:
            return found
        inside, due = {number}, [number]
        while due:
            at = due.pop()
            for _, after in self.after(at, board):
                if after not in inside and not (self.plain and self._is_loud(at, after)):
                    inside.add(after)
                    due.append(after)
        found = self._within[key] = frozenset(inside)
        return found

    def walk(self, number: int, board: Board, hot: frozenset[Said], life: int) -> Walk:
        """`hot`: what becomes decided when this node says it; `life`: how often it may have crashed."""
        key = (number, board.number(self._local(number)), hot, life)
        found = self._walks.get(key)
        if found is None:
            found = self._walks[key] = self._walked(number, board, hot, life)
        return found

    def _walked(self, number: int, board: Board, hot: frozenset[Said], life: int) -> Walk:
        walk, inside, due = Walk({}, {}), {number: Steps()}, deque([number])
        while due:
            at = due.popleft()
            for coming, after in self.after(at, board):
                local, steps = self._local(after), (*inside[at], coming)
                if local.life > life:
                    continue
                new = local.said - self._local(at).said - board.decided
                if self._is_loud(at, after) if self.plain else any(said in hot or said[1] is Kind.PROPOSAL for said in new):
                    walk.ends.setdefault(after, steps)
                    continue
                for said in new:
                    walk.firsts.setdefault(said, {}).setdefault((after, new), steps)
                if after not in inside:
                    inside[after] = steps
                    due.append(after)
        return walk

    def after(self, number: int, board: Board) -> tuple[tuple[Coming, int], ...]:
        """Each step, and where it leads."""
        key = (number, board.number(self._local(number)))
        found = self._after.get(key)
        if found is None:
            found = self._after[key] = tuple(self._steps(number, board))
        return found

    def _steps(self, number: int, board: Board) -> Iterator[tuple[Coming, int]]:
        local, known = self._local(number), {number}
        if not local.core.view:
            return
        if (first := self._at_once(number, board)) is not None:
            yield first
            return
        for coming in (*board.comings(local), *self._own(local)):
            self.steps += 1
            for after in self.model.follow(number, coming):
                if after not in known and not self._can_wait(coming, number, after, board):
                    known.add(after)
                    yield coming, after

    def settled(self, number: int, board: Board) -> int:
        """With all taken in that is as well taken in at once."""
        while (found := self._at_once(number, board)) is not None:
            number = found[1]
        return number

    def _at_once(self, number: int, board: Board) -> tuple[Coming, int] | None:
        """What is of a view that this node has left, and of which nothing comes but that it may do more later than it could before. Not if
        it may build a block yet: on which one depends on what it has not."""
        local = self._local(number)
        if self.plain or self.model.leads_yet(local):
            return None
        for coming in board.comings(local):
            if self._is_over(coming, local) and (coming[0] != "block" or coming[1] in board.notarised):
                self.steps += 1
                after = self.model.follow(number, coming)[0]
                if after != number and not self._is_loud(number, after):
                    return coming, after
        return None

    def _is_over(self, coming: Coming, local: Local) -> bool:
        """Whether it is a block, a notarisation or a skip certificate of a view before the current one."""
        if coming[0] == "block":
            return self.model.blocks[coming[1]].header.view < local.core.view
        return coming[0] == "votes" and coming[1][0] < local.core.view and coming[1][1] is not Kind.FINAL

    def _own(self, local: Local) -> Iterator[Coming]:
        core, setting = local.core, self.model.setting
        if core.view <= setting.views:
            yield ("timer",)
            if local.build is not None and local.build.view == core.view:
                yield ("build",)
        if local.life:
            yield ("again",)
        if local.life < setting.crashes:
            yield ("crash",)

    def _can_wait(self, coming: Coming, number: int, after: int, board: Board) -> bool:
        """A block of which nothing comes yet, and that nobody can build on yet, is as good a moment before something comes of it."""
        if self.plain or coming[0] != "block" or coming[1] in board.notarised:
            return False
        return not self._is_loud(number, after) and (self._local(number).build is None) == (self._local(after).build is None)

    def _is_loud(self, before: int, after: int) -> bool:
        one, other = self._local(before), self._local(after)
        return (one.said, one.life, one.chain) != (other.said, other.life, other.chain)

    def _local(self, number: int) -> Local:
        return self.model.locals[number]
