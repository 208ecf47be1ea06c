"""One node of a small rotation and all that can come of it, one step at a time, by the real core (`sim.explore`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from qnode.core.consensus import Consensus, step
from qnode.core.consensus_events import (
    Accuse,
    Base,
    BlockBuilt,
    Broadcast,
    Build,
    Effect,
    Event,
    Finalise,
    Heard,
    Judge,
    Judged,
    OwnVotes,
    Persist,
    RotationBegan,
    SendTo,
    Sign,
    Signed,
    SignState,
    Ticked,
    Verified,
    Verify,
)
from qnode.core.consensus_view import certificate, contradicts
from qustream.wire.consensus import NO_DIGEST, ChainHeader, ConsensusAsk, Kind, Proposal, Statement, Vote, header_digest
from sim.explore_copy import copied, key_of
from sim.seeds import Breach

__all__ = ["BASE", "COUNT", "EVIL", "HONEST", "QUORUM", "Coming", "Local", "Model", "Said", "Setting", "header", "must"]

EVIL, COUNT, QUORUM = 0, 4, 3
HONEST = (1, 2, 3)
BASE = Base(b"base".ljust(32, b"."), 10, 1_000, 10)
FAR_MS = 1 << 40
Said = tuple[int, Kind, bytes]  # view, kind, digest


@dataclass(frozen=True)
class Setting:
    """`leads`: who leads views 1, 2, …; `views`: so many are played; `crashes`: of all nodes together; `single`: every vote of who
    obeys comes by itself; else as many as decide come together; `variants`: of the evil one's blocks, on each parent."""

    leads: tuple[int, ...] = (0, 1, 2)
    views: int = 2
    crashes: int = 0
    single: bool = False
    variants: int = 2


@dataclass
class Local:
    """A node: its core, what it has said in all its lives, its disk, what it is to build, what is final."""

    core: Consensus
    said: frozenset[Said] = frozenset()
    disk: SignState = field(default_factory=SignState)
    life: int = 0
    build: Build | None = None
    chain: tuple[bytes, ...] = ()

    def copy(self) -> Local:
        return Local(copied(self.core), self.said, self.disk, self.life, self.build, self.chain)


# What can come to a node: a block (its digest), a vote (of whom), what the evil one has signed, votes that decide (whether its own is among
# them), or "timer", "again", "build", "crash".
Coming = tuple[Any, ...]


class Model:
    """The states of single nodes, by number, and what follows from each."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.locals: list[Local] = []
        self.reached: set[str] = set()
        self.blocks: dict[bytes, Proposal] = {}
        self._numbers: dict[tuple[object, ...], int] = {}
        self._next: dict[tuple[int, Coming], tuple[int, ...]] = {}

    def leads_yet(self, local: Local) -> tuple[int, ...]:
        """The views in which it may build a block still, in this life or the next."""
        me, setting = local.core.begun.me, self.setting
        open_views = range(1 if local.life < setting.crashes else max(1, local.core.view), setting.views + 1)
        mine = [view for view in open_views if setting.leads[view - 1] == me and view >= local.disk.final_view]
        own = [(view, local.disk.votes.get(view, OwnVotes())) for view in mine]
        return tuple(view for view, votes in own if not (votes.proposed or votes.skipped))

    def key(self, local: Local) -> tuple[object, ...]:
        """Nodes with one key can stand for each other: who votes does not matter when votes come as wholes, but who leads does, as long as
        he may. A disk matters to who may crash yet."""
        setting, core, leads = self.setting, local.core, self.leads_yet(local)
        if core.view not in leads:
            local.build = None
        build = (local.build.view, local.build.parent) if local.build is not None else None
        is_asked = core.view in leads and core._build_asked
        disk = (local.disk.final_view, frozenset(local.disk.votes.items())) if local.life < setting.crashes else None
        name = core.begun.me if setting.single else leads
        return name, key_of(core, setting.views, setting.single), is_asked, local.said, disk, local.life, build, local.chain

    def number(self, local: Local) -> int:
        """Of a node's state, whoever is in it."""
        key = self.key(local)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.locals)
            self.locals.append(local)
        return found

    def begun(self, node: int) -> int:
        local = Local(Consensus())
        self._begin(node, local)
        return self.number(local)

    def _begin(self, node: int, local: Local) -> None:
        local.core, local.build = Consensus(), None
        begun = RotationBegan("c", 1, (1,) * COUNT, self.setting.leads, BASE, FAR_MS * 2, node, local.disk)
        self._give(local, [begun], None)

    def follow(self, number: int, coming: Coming) -> tuple[int, ...]:
        """The states that one leads to: the first without a crash."""
        known = self._next.get((number, coming))
        if known is None:
            before = self.locals[number]
            known = (number,) if self._is_idle(before, coming) else tuple(dict.fromkeys(self._follow(before, coming)))
            self._next[number, coming] = known
        return known

    def _is_idle(self, local: Local, coming: Coming) -> bool:
        """Whether the core knows it already (`matters`), or it is of a view that is over."""
        match coming:
            case ("block", digest):
                view = local.core.views.get(self.blocks[digest].header.view)
                return view is not None and digest in view.proposals
            case ("votes", (number, kind, digest), _):
                view = local.core.views.get(number)
                return number < local.core.final_view or (view is not None and view.has_certificate(kind, digest))
        return False

    def _follow(self, before: Local, coming: Coming) -> Iterator[int]:
        if coming[0] == "crash":
            yield self._crashed(replace(before))  # of its core nothing is left
            return
        local = before.copy()
        signs = self._give(local, self._events(local, coming), None)
        yield self.number(local)
        for stop in range(signs if before.life < self.setting.crashes else 0):  # on the disk, unsaid
            local = before.copy()
            self._give(local, self._events(local, coming), stop)
            yield self._crashed(local)

    def _crashed(self, local: Local) -> int:
        local.life += 1
        self._begin(local.core.begun.me or 0, local)
        return self.number(local)

    def _events(self, local: Local, coming: Coming) -> list[Event]:
        core = local.core
        match coming:
            case ("timer",):
                core._notarisation_due_ms = 0
                return [Ticked(1)]
            case ("again",):
                core._catchup._stuck_ms = core._catchup.due_ms = 0
                return [Ticked(1)]
            case ("build",):
                assert local.build is not None
                event, local.build = self._built(local, local.build), None
                return [event]
            case ("block", digest):
                return [Heard(b"peer", self.blocks[digest])]
            case ("vote", (view, kind, digest), voter):
                return [Heard(b"peer", Vote(1, view, kind, digest, voter, b"%d" % voter))]
            case ("evil", said):
                return [Heard(b"peer", Vote(1, view, kind, digest, EVIL, b"%d" % EVIL)) for view, kind, digest in said]
            case ("votes", (view, kind, digest), bool() as is_mine):
                me = core.begun.me
                voters = [voter for voter in range(COUNT) if voter != me][: QUORUM - is_mine] + [me] * is_mine
                return [Heard(b"peer", certificate(1, view, kind, digest, [(voter or 0, b"%d" % (voter or 0)) for voter in voters]))]
        raise AssertionError(coming)

    def _built(self, local: Local, build: Build) -> BlockBuilt:
        """Another one in another life: then it is another time."""
        parent = local.core.blocks.get(build.parent)
        assert parent is not None
        me = local.core.begun.me
        return BlockBuilt(header(build.view, parent.digest, parent.view, build.height, local.life, me or 0), ())

    # --- performing

    def _give(self, local: Local, due: list[Event], crash_at: int | None) -> int:
        """Perform events and all that comes of them at once. How much was signed; `crash_at`: this is not said, nor what would follow."""
        queue, signs = deque(due), 0
        while queue:
            for effect in step(local.core, queue.popleft(), 1):
                if isinstance(effect, Sign):
                    check_sign(local, effect.statement)
                    if signs == crash_at:
                        return signs
                    signs += 1
                    queue.append(Signed(effect.statement, b"%d" % (local.core.begun.me or 0)))
                else:
                    self._perform(local, effect, queue)
        core = local.core
        core._entered_ms, core._proposal_due_ms, core._notarisation_due_ms, core._wake_ms = 1, FAR_MS, FAR_MS, FAR_MS
        core._catchup._pulled_ms, core._catchup._stuck_ms, core._catchup.due_ms = -FAR_MS, FAR_MS, FAR_MS
        core._catchup._behind_ms = core._catchup._tell_ms = FAR_MS
        if not self.setting.single:
            forget_others(core)
        return signs

    def _perform(self, local: Local, effect: Effect, queue: deque[Event]) -> None:
        match effect:
            case Verify():
                queue.append(Verified(effect.message, True))
            case Judge():
                queue.append(Judged(effect.digest, True))
            case Persist():
                local.disk = effect.state
            case Build():
                local.build = effect if effect.view <= self.setting.views else None
            case Broadcast():
                self._say(local, effect.message)
            case Finalise():
                self._finish(local, effect)
            case Accuse():
                (first, _), (second, _) = effect.first, effect.second
                must(effect.validator == EVIL, f"{effect.validator} is accused, who is honest")
                must(contradicts(first.kind, first.digest, second.kind, second.digest), "accused of nothing")
                self.reached.add("accused")
            case SendTo(message=ConsensusAsk(wants=wants)) if wants:
                self.reached.add("asked")

    def _finish(self, local: Local, effect: Finalise) -> None:
        for block in effect.blocks:
            place = block.header.height - BASE.height - 1
            must(place <= len(local.chain), "a height is left out")
            if place == len(local.chain):
                local.chain += (block.digest,)
            must(local.chain[place] == block.digest, "another block is final than before the crash")
        self.reached.add("final")

    def _say(self, local: Local, message: object) -> None:
        if isinstance(message, Vote):
            said = (message.view, message.kind, message.digest)
        else:
            assert isinstance(message, Proposal)
            digest = header_digest(message.header)
            self.blocks[digest] = message
            said = (message.header.view, Kind.PROPOSAL, digest)
        if said not in local.said and is_remembered(local.core, said):
            self.reached.add("said again")
        clash = [each for each in local.said if each[0] == said[0] and contradicts(said[1], said[2], each[1], each[2])]
        must(not clash, f"{said} is said after {clash}")
        local.said |= {said}


def check_sign(local: Local, statement: Statement) -> None:
    own = local.disk.votes.get(statement.view, OwnVotes())
    skip = NO_DIGEST if own.skipped else b""
    noted = {Kind.PROPOSAL: own.proposed, Kind.NOTAR: own.notarised, Kind.FINAL: own.finalised, Kind.SKIP: skip}
    must(noted[statement.kind] == statement.digest, f"{statement} is signed before it is on the disk")


def is_remembered(core: Consensus, said: Said) -> bool:
    """Whether this is of an earlier life."""
    own = core._had.get(said[0], OwnVotes())
    remembered = {Kind.PROPOSAL: own.proposed, Kind.NOTAR: own.notarised, Kind.FINAL: own.finalised, Kind.SKIP: own.skipped and NO_DIGEST}
    return said[2] == remembered[said[1]]


def forget_others(core: Consensus) -> None:
    """Who signed what does not matter any more where it has been decided, and votes that come as wholes decide at once."""
    me = core.begun.me or 0
    for view in core.views.values():
        if not view._said or tuple(view._said) == (me,):
            continue
        view.votes = {said: {me: votes[me]} for said, votes in view.votes.items() if me in votes}
        view.weights = dict.fromkeys(view.votes, 1)
        view._said = {me: list(view.votes)} if view.votes else {}


def header(view: int, parent: bytes, parent_view: int, height: int, variant: int, proposer: int) -> ChainHeader:
    time_ms = BASE.time_ms + 10 * view + variant
    return ChainHeader(
        "c", 1, view, height, parent, parent_view, time_ms, BASE.executed, bytes(32), bytes(32), 0, NO_DIGEST, NO_DIGEST, proposer
    )  # fmt: skip


def must(holds: bool, what: str) -> None:
    if not holds:
        raise Breach(what)
