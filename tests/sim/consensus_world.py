"""Rotations of consensus cores in one process, under virtual time: everything follows from the seed (`proto/spec/consensus.md`).

    world = ConsensusWorld(seed=7, weights=[1] * 7, evil={5: Equivocator, 6: Twins})
    world.run_ms(20_000); world.height      the lowest final height of an honest node that is up

Execution is a hash over what is final, signatures are hashes with a secret, and both are checked as the real ones would be. What must
never be is looked at after every effect; a breach raises `Breach`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qnode.core import consensus_limits as limits
from qnode.core.consensus import Consensus, step
from qnode.core.consensus_events import (
    Accuse,
    Base,
    BlockBuilt,
    Broadcast,
    Build,
    Effect,
    Event,
    Final,
    Finalise,
    Heard,
    Judge,
    Judged,
    Keep,
    Persist,
    RotationBegan,
    RotationOver,
    SendEnd,
    SendKept,
    SendTo,
    Sign,
    Signed,
    SignState,
    Ticked,
    Verified,
    Verify,
    Wake,
)
from qnode.core.consensus_view import contradicts, voters_of
from qustream.rules.rotation import leaders
from qustream.wire.codec import encode
from qustream.wire.consensus import NO_DIGEST, Certificate, ChainHeader, ConsensusMessage, Kind, Proposal, Statement, Vote, header_digest
from sim.clockwork import Clockwork
from sim.seeds import Breach
from sim.wires import REGIONS, Wires

__all__ = ["CHAIN", "ConsensusWorld", "Validator", "sign"]

CHAIN = "simulated"
SIGN_US, VERIFY_US, PERSIST_US = 600, 120, 500
SIGNATURE_BYTES = 2420
AHEAD_OK_MS = 500
# How much of everything there is, is looked at after so many events: what grows without bound is still there.
LOOK_EVERY = 64
# Messages whose signatures are known to hold or not: those of a few blocks of a hundred validators.
HELD_MAX = 2_000


def sign(number: int, statement: Statement) -> bytes:
    """What validator `number` alone can make, in a world of honest programmers."""
    return hashlib.sha256(b"vote key %d" % number + encode(statement)).digest()


def root_after(root: bytes, digest: bytes) -> bytes:
    """The executed state, all of it."""
    return hashlib.sha256(root + digest).digest()


def size_of(message: ConsensusMessage) -> int:
    if isinstance(message, Certificate):
        return 100 + SIGNATURE_BYTES * len(message.signatures)
    if isinstance(message, Proposal):
        return 300 + SIGNATURE_BYTES + 34 * len(message.ids)
    return SIGNATURE_BYTES + 60 if isinstance(message, Vote) else 100 + 36 * len(message.wants)


@dataclass
class Disk:
    """What outlives a crash."""

    signed: SignState = field(default_factory=SignState)
    kept: dict[tuple[int, int, Kind, bytes], Certificate | Proposal] = field(default_factory=dict)
    chain: list[Final] = field(default_factory=list)  # height 1 …
    roots: list[bytes] = field(default_factory=lambda: [bytes(32)])  # of the state after height 0, 1, …
    rotation: int = 1
    base: Base = field(default_factory=lambda: Base(b"genesis".ljust(32), 0, 0, 0))
    edge_ms: int = 0
    ends: dict[int, tuple[int, int, Kind, bytes]] = field(default_factory=dict)  # rotation -> name of the finalisation


class Validator:
    """A node that obeys the rules. What evil ones do differently, they override: `broadcast`, `send`, `hear`."""

    honest = True

    def __init__(self, world: ConsensusWorld, number: int) -> None:
        self.world, self.number = world, number
        self.disk = Disk(edge_ms=world.rotation_ms)
        self.core = Consensus()
        self.skew_ms = world.chance.randrange(-100, 101)
        self.is_up, self.life = True, 0
        self.waiting: list[Judge] = []
        self.accused: set[int] = set()
        self.signed: dict[tuple[int, int], set[tuple[Kind, bytes]]] = {}  # in all its lives

    @property
    def now_ms(self) -> int:
        return self.world.clock.now_ms + self.skew_ms + 1_000

    def begin(self) -> None:
        """The rotation that the disk is in."""
        disk, world = self.disk, self.world
        self.take(world.rotation(disk.rotation, disk.base, disk.edge_ms, self.number, disk.signed))
        for (rotation, _, _, _), message in list(disk.kept.items()):
            if rotation == disk.rotation:
                self.take(Verified(message, True))

    def take(self, event: Event) -> None:
        if self.is_up:
            for effect in step(self.core, event, self.now_ms):
                self.perform(effect)
            self.world.look_at(self)

    def later(self, delay_us: int, event: Event) -> None:
        clock = self.world.clock
        clock.plan(clock.now_us + delay_us, self._take_in, self.life, event)

    def _take_in(self, life: int, event: Event) -> None:
        if self.life == life:
            self.take(event)

    def perform(self, effect: Effect) -> None:
        _PERFORMERS[type(effect)](self, effect)

    # --- effects

    def verify(self, effect: Verify) -> None:
        votes = len(effect.message.signatures) if isinstance(effect.message, Certificate) else 1
        self.later(VERIFY_US * votes, Verified(effect.message, self.world.holds(effect.message)))

    def judge(self, effect: Judge) -> None:
        self.waiting.append(effect)
        self.judge_waiting()

    def judge_waiting(self) -> None:
        """Answer what can be answered by now; look again soon if there is more."""
        for effect in list(self.waiting):
            header = effect.header
            if header.time_ms > self.now_ms + AHEAD_OK_MS or header.executed >= len(self.disk.roots):
                continue
            self.waiting.remove(effect)
            valid = header.executed_root == self.disk.roots[header.executed] and b"bad" not in b"".join(effect.ids)
            self.later(0, Judged(effect.digest, valid))
        self.waiting = self.waiting[-100:]
        if self.waiting:
            life = self.life
            self.world.clock.plan(self.world.clock.now_us + 50_000, lambda: self.judge_waiting() if self.life == life else None)

    def build(self, effect: Build) -> None:
        is_full = self.world.is_loaded and not effect.must_be_empty
        at_ms = max(self.now_ms, effect.from_ms if is_full else effect.until_ms)
        life, rotation = self.life, self.disk.rotation

        def act() -> None:
            if self.is_up and self.life == life and (self.disk.rotation, self.core.view) == (rotation, effect.view):
                self.take(self.built(effect, is_full))

        self.world.clock.plan(self.world.clock.now_us + 1000 * (at_ms - self.now_ms), act)

    def built(self, effect: Build, is_full: bool) -> BlockBuilt:
        begun, blocks = self.core.begun, self.core.blocks
        parent = blocks.get(effect.parent)
        assert parent is not None, "built on what is there"
        executed = max(parent.executed, min(len(self.disk.roots) - 1, parent.height - limits.EXECUTED_BEHIND))
        is_full = is_full and effect.height - executed <= limits.UNEXECUTED_MAX
        ids = tuple(self.world.chance.randbytes(32) for _ in range(3)) if is_full else ()
        time_ms = max(self.now_ms, parent.time_ms + 1)
        root = self.disk.roots[executed] if executed < len(self.disk.roots) else bytes(32)
        header = ChainHeader(
            CHAIN, begun.rotation, effect.view, effect.height, effect.parent, effect.parent_view, time_ms, executed, root,
            hashlib.sha256(b"".join(ids)).digest(), len(ids), NO_DIGEST, NO_DIGEST, self.number,
        )  # fmt: skip
        return BlockBuilt(header, ids)

    def persist(self, effect: Persist) -> None:
        self.disk.signed = effect.state

    def sign(self, effect: Sign) -> None:
        statement = effect.statement
        self.world.check_signing(self, statement)
        self.later(PERSIST_US + SIGN_US, Signed(statement, sign(self.number, statement)))

    def broadcast(self, effect: Broadcast) -> None:
        for other in self.world.validators:
            if other.number != self.number:
                self.send(other.number, effect.message)

    def send_to(self, effect: SendTo) -> None:
        self.send(effect.to if isinstance(effect.to, int) else int.from_bytes(effect.to, "big"), effect.message)

    def send(self, to: int, message: ConsensusMessage) -> None:
        self.world.carry(self.number, to, message)

    def keep(self, effect: Keep) -> None:
        message = effect.message
        if isinstance(message, Proposal):
            name = (message.header.rotation, message.header.view, Kind.PROPOSAL, header_digest(message.header))
        else:
            name = (message.rotation, message.view, message.kind, message.digest)
        self.disk.kept[name] = message

    def send_kept(self, effect: SendKept) -> None:
        message = self.disk.kept.get((effect.rotation, effect.view, effect.kind, effect.digest))
        if message is not None:
            self.send(int.from_bytes(effect.to, "big"), message)

    def send_end(self, effect: SendEnd) -> None:
        name = self.disk.ends.get(effect.rotation)
        if name is not None:
            self.send(int.from_bytes(effect.to, "big"), self.disk.kept[name])

    def finalise(self, effect: Finalise) -> None:
        for block in effect.blocks:
            if block.header.height <= len(self.disk.chain):  # after a restart: known already
                again = self.disk.chain[block.header.height - 1].digest
                self.world.must(again == block.digest, f"{self.number} makes another block final than before it crashed")
                continue
            self.world.check_final(self, block)
            self.disk.chain.append(block)
            self.disk.roots.append(root_after(self.disk.roots[-1], block.digest))
        self.judge_waiting()

    def rotation_over(self, effect: RotationOver) -> None:
        disk = self.disk
        disk.ends[disk.rotation] = (disk.rotation, effect.view, Kind.FINAL, effect.digest)
        disk.base = effect.base
        disk.rotation += 1
        disk.edge_ms += self.world.rotation_ms
        self.waiting.clear()
        life = self.life
        self.world.clock.plan(self.world.clock.now_us, lambda: self.begin() if self.is_up and self.life == life else None)

    def accuse(self, effect: Accuse) -> None:
        self.world.check_accusation(self, effect)
        self.accused.add(effect.validator)

    def wake(self, effect: Wake) -> None:
        self.later(1000 * max(0, effect.at_ms - self.now_ms), Ticked(self.world.chance.getrandbits(64)))

    # --- others

    def hear(self, sender: int, message: ConsensusMessage) -> None:
        self.take(Heard(sender.to_bytes(32, "big"), message))

    def crash(self) -> None:
        self.is_up, self.life = False, self.life + 1
        self.core, self.waiting = Consensus(), []

    def restart(self) -> None:
        self.is_up = True
        self.begin()


_PERFORMERS: Mapping[type, Callable[[Validator, Any], None]] = {
    Verify: Validator.verify, Judge: Validator.judge, Build: Validator.build, Persist: Validator.persist, Sign: Validator.sign,
    SendEnd: Validator.send_end, Keep: Validator.keep, SendKept: Validator.send_kept, Finalise: Validator.finalise,
    RotationOver: Validator.rotation_over, Accuse: Validator.accuse, Wake: Validator.wake,
    Broadcast: lambda node, effect: node.broadcast(effect), SendTo: lambda node, effect: node.send_to(effect),
}  # fmt: skip


class ConsensusWorld:
    """See the module."""

    def __init__(
        self, *, seed: int, weights: Sequence[int], evil: Mapping[int, Callable[..., Validator]] | None = None,
        rotation_ms: int = 3_600_000, interval_ms: int = limits.INTERVAL_MS, one_region: bool = False,
    ) -> None:  # fmt: skip
        self.seed, self.weights, self.rotation_ms, self.interval_ms = seed, tuple(weights), rotation_ms, interval_ms
        self.clock, self.chance = Clockwork(), random.Random(seed)
        regions = [0 if one_region else self.chance.randrange(len(REGIONS)) for _ in weights]
        self.wires = Wires(self.clock, seed=seed + 1, regions=regions, uplink_bps=1_000_000_000)
        self.is_loaded = True
        self.safe = True  # fewer than a third of the weight is evil: what must never be, must not
        self.finals: dict[int, bytes] = {}
        self._held: dict[int, tuple[ConsensusMessage, bool]] = {}  # by identity, for which the message has to stay
        self.forks: set[int] = set()
        evil = evil or {}
        self.validators = [evil.get(number, Validator)(self, number) for number in range(len(weights))]
        for node in self.validators:
            self.clock.plan(self.chance.randrange(200_000), node.begin)

    replay = "see the test's seed"

    @property
    def honest(self) -> list[Validator]:
        return [node for node in self.validators if node.honest]

    @property
    def height(self) -> int:
        return min(len(node.disk.chain) for node in self.honest if node.is_up)

    def rotation(self, number: int, base: Base, edge_ms: int, me: int, had: SignState) -> RotationBegan:
        leads = tuple(leaders(self.weights, number.to_bytes(32, "big")))
        return RotationBegan(CHAIN, number, self.weights, leads, base, edge_ms, me, had, interval_ms=self.interval_ms)

    def run_ms(self, duration_ms: int) -> None:
        self.clock.run(self.clock.now_us + 1000 * duration_ms)

    def carry(self, source: int, target: int, message: ConsensusMessage, delay_us: int = 0) -> None:
        if delay_us:
            self.clock.plan(self.clock.now_us + delay_us, self.carry, source, target, message)
        else:
            self.wires.carry(source, target, size_of(message), self._arrive, source, target, message)

    def _arrive(self, source: int, target: int, message: ConsensusMessage) -> None:
        if self.validators[target].is_up:
            self.validators[target].hear(source, message)

    def holds(self, message: Proposal | Vote | Certificate) -> bool:
        """Whether its signatures do. All who hear a message ask."""
        known = self._held.get(id(message))
        if known is None:
            if len(self._held) >= HELD_MAX:
                self._held.clear()
            known = self._held[id(message)] = (message, self._holds(message))
        return known[1]

    def _holds(self, message: Proposal | Vote | Certificate) -> bool:
        if isinstance(message, Proposal):
            header = message.header
            statement = Statement(CHAIN, header.rotation, header.view, Kind.PROPOSAL, header_digest(header))
            return message.signature == sign(header.proposer, statement)
        statement = Statement(CHAIN, message.rotation, message.view, message.kind, message.digest)
        if isinstance(message, Vote):
            return message.signature == sign(message.validator, statement)
        voters = voters_of(message)
        return all(signature == sign(voter, statement) for voter, signature in zip(voters, message.signatures, strict=True))

    # --- what must never be

    def look_at(self, node: Validator) -> None:
        if not node.core.view or self.clock.events % LOOK_EVERY:
            return
        sizes = node.core.sizes
        is_small = sizes["views"] <= limits.VIEWS_MAX + limits.FINAL_VIEWS_KEPT + limits.AHEAD_MAX
        self.must(is_small and sizes["verifying"] <= limits.VERIFYING_MAX, f"{sizes}")

    def check_signing(self, node: Validator, statement: Statement) -> None:
        """What an honest validator signs stands on its disk, and contradicts nothing it ever signed."""
        if not node.honest:
            return
        own = node.disk.signed.votes.get(statement.view)
        stands = node.disk.signed.rotation == statement.rotation and own is not None
        if own is not None:
            wanted = {Kind.PROPOSAL: own.proposed, Kind.NOTAR: own.notarised, Kind.FINAL: own.finalised}
            stands = stands and (own.skipped if statement.kind is Kind.SKIP else wanted[statement.kind] == statement.digest)
        self.must(stands, f"{node.number} signs {statement} before it is on the disk")
        before = node.signed.setdefault((statement.rotation, statement.view), set())
        clash = [each for each in before if contradicts(statement.kind, statement.digest, *each)]
        self.must(not clash, f"{node.number} signs {statement} after {clash}")
        before.add((statement.kind, statement.digest))

    def check_final(self, node: Validator, block: Final) -> None:
        height = block.header.height
        if not node.honest:
            return
        self.must(height == len(node.disk.chain) + 1, f"{node.number} makes height {height} final after {len(node.disk.chain)}")
        parent = node.disk.chain[-1].digest if node.disk.chain else b"genesis".ljust(32)
        self.must(block.header.parent == parent, f"{node.number} makes a block final on another than the last")
        if self.finals.setdefault(height, block.digest) != block.digest:
            self.forks.add(height)
            self.must(not self.safe, f"a fork at height {height}")

    def check_accusation(self, node: Validator, effect: Accuse) -> None:
        (first, one), (second, other) = effect.first, effect.second
        self.must(contradicts(first.kind, first.digest, second.kind, second.digest), "accused of nothing")
        self.must((first.rotation, first.view) == (second.rotation, second.view), "accused of two views")
        self.must(one == sign(effect.validator, first) and other == sign(effect.validator, second), "accused without signatures")
        self.must(not self.validators[effect.validator].honest, f"{node.number} accuses {effect.validator}, who is honest")

    def must(self, holds: bool, what: str) -> None:
        if not holds:
            raise Breach(f"seed {self.seed}, {self.clock.now_ms} ms: {what}; replay: {self.replay}")
