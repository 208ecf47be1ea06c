"""Rotations of consensus cores in one process, under virtual time: everything follows from the seed (`proto/spec/consensus.md`).

    world = ConsensusWorld(seed=7, weights=[1] * 7, evil={5: Equivocator, 6: Twins})
    world.run_ms(20_000); world.height      the lowest final height of an honest node that is up

Execution is a hash over what is final, signatures are hashes with a secret, and both are checked as the real ones would be. What must
never be is looked at after every effect; a breach raises `Breach`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qnode.core import consensus_limits as limits
from qnode.core.consensus_events import Accuse, Base, Final, RotationBegan, SignState
from qnode.core.consensus_view import contradicts, voters_of
from qustream.rules.rotation import leaders
from qustream.wire.consensus import Certificate, ConsensusMessage, Kind, Proposal, Statement, Vote, header_digest
from sim.clockwork import Clockwork
from sim.consensus_node import CHAIN, Validator, sign, size_of
from sim.seeds import Breach
from sim.wires import REGIONS, Wires

__all__ = ["ConsensusWorld", "Seats"]

# How much of everything there is, is looked at after so many events: what grows without bound is still there.
LOOK_EVERY = 64
# Messages whose signatures are known to hold or not: those of a few blocks of a hundred validators.
HELD_MAX = 2_000


@dataclass(frozen=True)
class Seats:
    """The validators of a rotation: which node has which number, weights by number, who leads views 1, 2, …"""

    nodes: tuple[int, ...]
    weights: tuple[int, ...]
    leads: tuple[int, ...]

    def seat(self, node: int) -> int | None:
        """The number of a node, if it is a validator."""
        return self.nodes.index(node) if node in self.nodes else None


class ConsensusWorld:
    """See the module."""

    def __init__(
        self, *, seed: int, weights: Sequence[int], evil: Mapping[int, Callable[..., Validator]] | None = None,
        rotation_ms: int = 3_600_000, interval_ms: int = limits.INTERVAL_MS, even_ms: int = 0, turns: bool = False,
        skews: Mapping[int, int] | None = None,
    ) -> None:  # fmt: skip
        """`even_ms`: of every line, one way; 0 for a world of regions. `turns`: rotations after the first have other validators and other
        weights, some of whom lead nothing. `skews`: of clocks that are wrong, in ms."""
        self.seed, self.weights, self.rotation_ms, self.interval_ms = seed, tuple(weights), rotation_ms, interval_ms
        self.clock, self.chance = Clockwork(), random.Random(seed)
        regions = [self.chance.randrange(len(REGIONS)) for _ in weights]
        self.wires = Wires(self.clock, seed=seed + 1, regions=regions, uplink_bps=1_000_000_000, even_ms=even_ms)
        self.missing = 0  # chance, in thousandths, that somebody has to wait for the transactions of a block
        self.verifications = 0
        self.is_loaded = True
        self.safe = True  # fewer than a third of the weight is evil: what must never be, must not
        self.finals: dict[int, bytes] = {}
        self.spent: dict[bytes, int] = {}  # the height of each transaction that is final
        self.proposed_us: dict[bytes, int] = {}
        self.finality_us: list[int] = []  # from each proposal to each honest node's knowing it final
        self._held: dict[int, tuple[ConsensusMessage, bool]] = {}  # by identity, for which the message has to stay
        self.forks: set[int] = set()
        evil, skews = evil or {}, skews or {}
        self._turns, self._doubtful = turns, {*evil, *skews}
        self._seats: dict[int, Seats] = {}
        self.validators = [evil.get(number, Validator)(self, number) for number in range(len(weights))]
        for number, skew_ms in skews.items():
            self.validators[number].skew_ms = skew_ms
        for node in self.validators:
            self.clock.plan(self.chance.randrange(200_000), node.begin)

    replay = "see the test's seed"

    @property
    def honest(self) -> list[Validator]:
        return [node for node in self.validators if node.honest]

    @property
    def height(self) -> int:
        return min(len(node.disk.chain) for node in self.honest if node.is_up)

    def seats(self, rotation: int) -> Seats:
        """Who is who in a rotation."""
        seats = self._seats.get(rotation)
        if seats is None:
            seats = self._seats[rotation] = self._drawn(rotation)
        return seats

    def _drawn(self, rotation: int) -> Seats:
        seed, everybody = rotation.to_bytes(32, "big"), tuple(range(len(self.weights)))
        chance = random.Random(f"{self.seed} {rotation}")
        for _ in range(20 if self._turns and rotation > 1 else 0):
            nodes = sorted(chance.sample(everybody, chance.randrange(4, len(everybody) + 1)))
            weights = [chance.randrange(1, 8) for _ in nodes]
            doubtful = sum(weight for node, weight in zip(nodes, weights, strict=True) if node in self._doubtful)
            if 3 * doubtful < sum(weights):
                idle = set(chance.sample(range(len(nodes)), chance.randrange(1 + len(nodes) // 3)))
                leads = leaders(weights, seed, [seat not in idle for seat in range(len(nodes))])
                return Seats(tuple(nodes), tuple(weights), tuple(leads))
        return Seats(everybody, self.weights, tuple(leaders(self.weights, seed)))

    def rotation(self, number: int, base: Base, edge_ms: int, node: int, had: SignState) -> RotationBegan:
        """As this node sees it."""
        seats = self.seats(number)
        me = seats.seat(node)
        return RotationBegan(CHAIN, number, seats.weights, seats.leads, base, edge_ms, me, had, interval_ms=self.interval_ms)

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
            signed = [(header.proposer, message.signature)]
        else:
            statement = Statement(CHAIN, message.rotation, message.view, message.kind, message.digest)
            is_vote = isinstance(message, Vote)
            signed = [(message.validator, message.signature)] if is_vote else list(zip(voters_of(message), message.signatures, strict=True))
        nodes = self.seats(statement.rotation).nodes
        return all(seat < len(nodes) and signature == sign(nodes[seat], statement) for seat, signature in signed)

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
        self.must(not self.safe or all(self.spent.setdefault(each, height) == height for each in block.ids), f"twice final: at {height}")
        if block.digest in self.proposed_us:
            self.finality_us.append(self.clock.now_us - self.proposed_us[block.digest])

    def accused(self, node: Validator, effect: Accuse) -> int:
        """Whom this accuses."""
        (first, one), (second, other) = effect.first, effect.second
        self.must(contradicts(first.kind, first.digest, second.kind, second.digest), "accused of nothing")
        self.must((first.rotation, first.view) == (second.rotation, second.view), "accused of two views")
        guilty = self.seats(first.rotation).nodes[effect.validator]
        self.must(one == sign(guilty, first) and other == sign(guilty, second), "accused without signatures")
        self.must(not self.validators[guilty].honest, f"{node.number} accuses {guilty}, who is honest")
        return guilty

    def must(self, holds: bool, what: str) -> None:
        if not holds:
            raise Breach(f"seed {self.seed}, {self.clock.now_ms} ms: {what}; replay: {self.replay}")
