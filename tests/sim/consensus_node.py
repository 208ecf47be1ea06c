"""One node of `ConsensusWorld`: performs the effects of the core as the shell does, with a disk that outlives a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
from qustream.wire.codec import encode
from qustream.wire.consensus import NO_DIGEST, Certificate, ChainHeader, ConsensusMessage, Kind, Proposal, Statement, Vote, header_digest

if TYPE_CHECKING:
    from sim.consensus_world import ConsensusWorld

__all__ = ["BAD", "CHAIN", "EPOCH_MS", "GONE", "Disk", "Validator", "sign"]

CHAIN = "simulated"
SIGN_US, VERIFY_US, PERSIST_US = 600, 120, 500
SIGNATURE_BYTES = 2420
AHEAD_OK_MS = 500
# What right clocks show when a world begins; wrong ones are hours behind.
EPOCH_MS = 1_000_000_000
# The body of a block with such an id is nowhere to be had; one with such an id is not valid.
GONE, BAD = b"gone", b"bad"


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


def name_of(message: Certificate | Proposal) -> tuple[int, int, Kind, bytes]:
    """Under which it is kept."""
    if isinstance(message, Proposal):
        return message.header.rotation, message.header.view, Kind.PROPOSAL, header_digest(message.header)
    return message.rotation, message.view, message.kind, message.digest


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
    spent: set[bytes] = field(default_factory=set)  # ids in `chain`


class Validator:
    """A node that obeys the rules. What evil ones do differently, they override: `broadcast`, `send`, `hear`, `built`, `sign`."""

    honest = True

    def __init__(self, world: ConsensusWorld, number: int) -> None:
        self.world, self.number = world, number
        self.disk = Disk(edge_ms=EPOCH_MS + world.rotation_ms)
        self.core = Consensus()
        self.skew_ms = world.chance.randrange(-100, 101)
        self.is_up, self.life = True, 0
        self.waiting: list[Judge] = []
        self.bodies_ms: dict[bytes, int] = {}  # when the transactions of a block will be here
        self.accused: set[int] = set()
        self.signed: dict[tuple[int, int], set[tuple[Kind, bytes]]] = {}  # in all its lives

    @property
    def now_ms(self) -> int:
        return self.world.clock.now_ms + self.skew_ms + EPOCH_MS

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
        self.world.verifications += votes
        self.later(VERIFY_US * votes, Verified(effect.message, self.world.holds(effect.message)))

    def judge(self, effect: Judge) -> None:
        chance = self.world.chance
        is_missing = self.world.missing and effect.ids and chance.random() * 1000 < self.world.missing
        self.bodies_ms[effect.digest] = self.now_ms + (chance.randrange(50, 1_500) if is_missing else 0)
        if not any(each.startswith(GONE) for each in effect.ids):
            self.waiting.append(effect)
            self.judge_waiting()

    def judge_waiting(self) -> None:
        """Answer what can be answered by now; look again soon if there is more."""
        for effect in list(self.waiting):
            header, is_here = effect.header, self.now_ms >= self.bodies_ms[effect.digest]
            if not is_here or header.time_ms > self.now_ms + AHEAD_OK_MS or header.executed >= len(self.disk.roots):
                continue
            self.waiting.remove(effect)
            self.later(0, Judged(effect.digest, self.is_valid(header, effect.ids)))
        self.waiting = self.waiting[-100:]
        if self.waiting:
            life, clock = self.life, self.world.clock
            clock.plan(clock.now_us + 50_000, lambda: self.judge_waiting() if self.life == life else None)

    def is_valid(self, header: ChainHeader, ids: tuple[bytes, ...]) -> bool:
        """V3, and as much of V5 as there is here: no transaction twice on one chain."""
        before, digest = set(self.disk.spent), header.parent
        while (block := self.core.blocks.get(digest)) is not None and block.header is not None and block.height > len(self.disk.chain):
            before |= set(block.ids)
            digest = block.header.parent
        is_new = len(set(ids)) == len(ids) and not before & set(ids)
        return is_new and header.executed_root == self.disk.roots[header.executed] and not any(each.startswith(BAD) for each in ids)

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
            hashlib.sha256(b"".join(ids)).digest(), len(ids), NO_DIGEST, NO_DIGEST, begun.me or 0,
        )  # fmt: skip
        return BlockBuilt(header, ids)

    def persist(self, effect: Persist) -> None:
        self.disk.signed = effect.state

    def sign(self, effect: Sign) -> None:
        statement = effect.statement
        self.world.check_signing(self, statement)
        self.later(PERSIST_US + SIGN_US, Signed(statement, sign(self.number, statement)))

    def broadcast(self, effect: Broadcast) -> None:
        if isinstance(effect.message, Proposal):
            self.world.proposed_us.setdefault(header_digest(effect.message.header), self.world.clock.now_us)
        for other in self.world.validators:
            if other.number != self.number:
                self.send(other.number, effect.message)

    def send_to(self, effect: SendTo) -> None:
        to = effect.to
        seats = self.world.seats(self.disk.rotation)
        self.send(seats.nodes[to] if isinstance(to, int) else int.from_bytes(to, "big"), effect.message)

    def send(self, to: int, message: ConsensusMessage) -> None:
        self.world.carry(self.number, to, message)

    def keep(self, effect: Keep) -> None:
        self.disk.kept[name_of(effect.message)] = effect.message

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
            self.disk.spent.update(block.ids)
            self.disk.roots.append(root_after(self.disk.roots[-1], block.digest))
        self.judge_waiting()

    def rotation_over(self, effect: RotationOver) -> None:
        disk = self.disk
        disk.ends[disk.rotation] = (disk.rotation, effect.view, Kind.FINAL, effect.digest)
        disk.base = effect.base
        disk.rotation += 1
        disk.edge_ms += self.world.rotation_ms
        self.waiting.clear()
        self.bodies_ms.clear()
        life = self.life
        self.world.clock.plan(self.world.clock.now_us, lambda: self.begin() if self.is_up and self.life == life else None)

    def accuse(self, effect: Accuse) -> None:
        self.accused.add(self.world.accused(self, effect))

    def wake(self, effect: Wake) -> None:
        self.later(1000 * max(0, effect.at_ms - self.now_ms), Ticked(self.world.chance.getrandbits(64)))

    # --- others

    def hear(self, sender: int, message: ConsensusMessage) -> None:
        self.take(Heard(sender.to_bytes(32, "big"), message))

    def crash(self) -> None:
        self.is_up, self.life = False, self.life + 1
        self.core, self.waiting, self.bodies_ms = Consensus(), [], {}

    def restart(self) -> None:
        self.is_up = True
        self.begin()


_PERFORMERS: Mapping[type, Callable[[Validator, Any], None]] = {
    Verify: Validator.verify, Judge: Validator.judge, Build: Validator.build, Persist: Validator.persist,
    SendEnd: Validator.send_end, Keep: Validator.keep, SendKept: Validator.send_kept, Finalise: Validator.finalise,
    RotationOver: Validator.rotation_over, Accuse: Validator.accuse, Wake: Validator.wake,
    Sign: lambda node, effect: node.sign(effect),
    Broadcast: lambda node, effect: node.broadcast(effect), SendTo: lambda node, effect: node.send_to(effect),
}  # fmt: skip
