"""Validators that break the rules of consensus, each in its way. They hold their keys, and nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from qnode.core.consensus_events import BlockBuilt, Broadcast, Build, Heard, Sign
from qustream.wire.consensus import NO_DIGEST, ConsensusAsk, ConsensusMessage, Kind, Proposal, Statement, Vote, header_digest
from sim.consensus_node import BAD, CHAIN, GONE, Disk, Validator, sign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sim.consensus_world import ConsensusWorld

__all__ = ["EVIL", "Conspirator", "Delayer", "Equivocator", "Inventor", "Repeater", "Replayer", "Restored", "Twins", "Withholder"]

REPLAYED_AT_ONCE, REMEMBERED = 3, 500


class Evil(Validator):
    """Does as it should, but for what its kind changes."""

    honest = False

    def vote(self, rotation: int, view: int, kind: Kind, digest: bytes) -> Vote:
        seat = self.world.seats(rotation).seat(self.number) or 0
        return Vote(rotation, view, kind, digest, seat, sign(self.number, Statement(CHAIN, rotation, view, kind, digest)))

    def others(self) -> Iterator[int]:
        return (node.number for node in self.world.validators if node.number != self.number)


class Equivocator(Evil):
    """Leads with two blocks, one for each half; votes for every block it sees, for skip as well, and final for each half its own."""

    def broadcast(self, effect: Broadcast) -> None:
        if not isinstance(effect.message, Proposal):
            return
        header = effect.message.header
        other = replace_time(effect.message, self.number)
        for number in self.others():
            self.send(number, effect.message if number % 2 else other)
            for proposal in (effect.message, other):
                self.vote_for(number, header.rotation, header.view, header_digest(proposal.header))

    def hear(self, sender: int, message: ConsensusMessage) -> None:
        if isinstance(message, Proposal):
            digest = header_digest(message.header)
            for number in self.others():
                self.vote_for(number, message.header.rotation, message.header.view, digest)
        super().hear(sender, message)

    def vote_for(self, number: int, rotation: int, view: int, digest: bytes) -> None:
        self.send(number, self.vote(rotation, view, Kind.NOTAR, digest))
        last = (Kind.FINAL, digest) if number % 2 else (Kind.SKIP, NO_DIGEST)
        self.send(number, self.vote(rotation, view, *last))


def replace_time(proposal: Proposal, number: int) -> Proposal:
    """Another block for the same view."""
    header = replace(proposal.header, time_ms=proposal.header.time_ms + 1)
    statement = Statement(CHAIN, header.rotation, header.view, Kind.PROPOSAL, header_digest(header))
    return Proposal(header, proposal.ids, sign(number, statement))


class Withholder(Evil):
    """Shows its blocks to a few, its votes to fewer, and answers nothing."""

    def broadcast(self, effect: Broadcast) -> None:
        numbers = list(self.others())
        share = 2 if isinstance(effect.message, Proposal) else 3
        for number in numbers[: len(numbers) // share]:
            self.send(number, effect.message)

    def hear(self, sender: int, message: ConsensusMessage) -> None:
        if not isinstance(message, ConsensusAsk):
            super().hear(sender, message)


class Replayer(Evil):
    """Says again to everybody what it has heard, at any time, from any rotation."""

    def hear(self, sender: int, message: ConsensusMessage) -> None:
        heard = self.__dict__.setdefault("heard", [])
        if len(heard) < REMEMBERED:
            heard.append(message)
        for number in self.others():
            if self.world.chance.random() < 0.05:
                for old in self.world.chance.sample(heard, min(REPLAYED_AT_ONCE, len(heard))):
                    self.send(number, old)
        super().hear(sender, message)


class Delayer(Evil):
    """Says everything, late."""

    def send(self, to: int, message: ConsensusMessage) -> None:
        self.world.carry(self.number, to, message, delay_us=1 + self.world.chance.randrange(4_000_000))


class Inventor(Evil):
    """Its blocks are of transactions that nobody can get, or that are not valid."""

    def built(self, effect: Build, is_full: bool) -> BlockBuilt:
        whole = super().built(effect, is_full)
        mark = GONE if effect.view % 2 else BAD
        return with_ids(whole, tuple(mark + each[len(mark) :] for each in whole.ids))


class Repeater(Evil):
    """Its blocks are of transactions that have been executed, or are in the block before; or of one transaction three times."""

    def built(self, effect: Build, is_full: bool) -> BlockBuilt:
        whole, parent = super().built(effect, is_full), self.core.blocks.get(effect.parent)
        earlier = parent.ids if parent is not None and parent.ids else whole.ids[:1] * 3
        return with_ids(whole, earlier) if whole.ids else whole


def with_ids(built: BlockBuilt, ids: tuple[bytes, ...]) -> BlockBuilt:
    return BlockBuilt(replace(built.header, count=len(ids)), ids)


class Twin(Evil):
    """The second self of `Twins`: the same key, a mind of its own."""


class Twins(Evil):
    """Two who obey the rules, each for itself, with one key; one half of the others hears the first, the other half the second."""

    def __init__(self, world: ConsensusWorld, number: int) -> None:
        super().__init__(world, number)
        self.twin = Twin(world, number)
        self.twin.send = self.send_of_twin  # type: ignore[method-assign]

    def begin(self) -> None:
        super().begin()
        if self.core.view and not self.twin.core.view:
            self.twin.begin()

    def send(self, to: int, message: ConsensusMessage) -> None:
        if to % 2:
            super().send(to, message)

    def send_of_twin(self, to: int, message: ConsensusMessage) -> None:
        if not to % 2:
            self.world.carry(self.number, to, message)

    def hear(self, sender: int, message: ConsensusMessage) -> None:
        super().hear(sender, message)
        self.twin.take(Heard(sender.to_bytes(32, "big"), message))


class Conspirator(Twins):
    """As `Twins`, and all of them together: the first selves make up one network with those of odd numbers, the second selves another with
    those of even ones. With more than a third of the weight in such hands there are two chains."""

    def send(self, to: int, message: ConsensusMessage) -> None:
        self.tell(to, message, side=1)

    def send_of_twin(self, to: int, message: ConsensusMessage) -> None:
        self.tell(to, message, side=0)

    def tell(self, to: int, message: ConsensusMessage, *, side: int) -> None:
        other = self.world.validators[to]
        if isinstance(other, Conspirator):
            mind = other if side else other.twin
            self.world.clock.plan(self.world.clock.now_us + 1_000, mind.take, Heard(self.number.to_bytes(32, "big"), message))
        elif to % 2 == side:
            self.world.carry(self.number, to, message)

    def hear(self, sender: int, message: ConsensusMessage) -> None:
        mind = self if sender % 2 else self.twin
        mind.take(Heard(sender.to_bytes(32, "big"), message))


class Restored(Evil):
    """Obeys the rules, and so does its second self, which is begun from a copy of its disk that is some seconds old, with the same key."""

    COPIED_US, BEGUN_US = 4_000_000, 6_000_000

    def __init__(self, world: ConsensusWorld, number: int) -> None:
        super().__init__(world, number)
        self.twin: Validator | None = None
        self.said: dict[tuple[int, int], set[tuple[Kind, bytes]]] = {}
        world.clock.plan(self.COPIED_US, self.copy)

    def copy(self) -> None:
        disk = self.disk
        copied = Disk(
            disk.signed, dict(disk.kept), list(disk.chain), list(disk.roots), disk.rotation, disk.base, disk.edge_ms, dict(disk.ends),
            set(disk.spent),
        )  # fmt: skip
        self.world.clock.plan(self.BEGUN_US, self.restore, copied)

    def restore(self, disk: Disk) -> None:
        twin = self.twin = Twin(self.world, self.number)
        twin.disk, twin.skew_ms = disk, self.skew_ms

        def sign(effect: Sign) -> None:
            self.note(effect)
            Twin.sign(twin, effect)

        twin.sign = sign  # type: ignore[method-assign]
        twin.begin()

    def sign(self, effect: Sign) -> None:
        self.note(effect)
        super().sign(effect)

    def note(self, effect: Sign) -> None:
        statement = effect.statement
        self.said.setdefault((statement.rotation, statement.view), set()).add((statement.kind, statement.digest))

    def hear(self, sender: int, message: ConsensusMessage) -> None:
        super().hear(sender, message)
        if self.twin is not None:
            self.twin.hear(sender, message)


EVIL = (Equivocator, Withholder, Replayer, Delayer, Twins, Inventor, Repeater)
