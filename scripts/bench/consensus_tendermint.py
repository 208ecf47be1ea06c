"""The other side of `consensus_sim`: Tendermint with nothing but what a good day needs, in the same simulator.

A proposer for each height in turn; everybody prevotes the proposal, precommits what two thirds prevoted, and what two thirds precommitted
is final. No rounds after the first, no timers, no evidence: nothing goes wrong here. Signing, verifying and writing take as long as in the
simulated validators, votes are verified until two thirds are there, and everybody sends to everybody, as ours do.
"""

from __future__ import annotations

import random
from collections import defaultdict

from sim.clockwork import Clockwork
from sim.consensus_node import PERSIST_US, SIGN_US, SIGNATURE_BYTES, VERIFY_US
from sim.wires import REGIONS, Wires

__all__ = ["Tendermint"]

PREVOTE, PRECOMMIT = 1, 2
PROPOSAL_BYTES, VOTE_BYTES = 300 + SIGNATURE_BYTES + 3 * 34, SIGNATURE_BYTES + 60


class _Node:
    """One validator: the height it is at, what it has of it and of later ones."""

    def __init__(self, world: Tendermint, number: int) -> None:
        self.world, self.number, self.height = world, number, 1
        self.proposals: set[int] = set()
        self.voted: set[tuple[int, int]] = set()
        self.votes: dict[tuple[int, int], set[int]] = defaultdict(set)
        self.verifying: dict[tuple[int, int], int] = defaultdict(int)

    def propose(self, height: int) -> None:
        self.world.proposed_us[height] = self.world.clock.now_us
        self.world.broadcast(self.number, PROPOSAL_BYTES, "hear_proposal", height)
        self.take_proposal(height)

    def hear_proposal(self, _sender: int, height: int) -> None:
        self.world.verifications += 1
        self.world.later(VERIFY_US, self.take_proposal, height)

    def take_proposal(self, height: int) -> None:
        self.proposals.add(height)
        self.go_on()

    def hear_vote(self, sender: int, height: int, step: int) -> None:
        name = (height, step)
        if len(self.votes[name]) < self.world.quorum and height >= self.height:
            self.world.verifications += 1
            self.world.later(VERIFY_US, self.take_vote, sender, height, step)

    def take_vote(self, sender: int, height: int, step: int) -> None:
        self.votes[height, step].add(sender)
        self.go_on()

    def vote(self, step: int) -> None:
        if (self.height, step) not in self.voted:
            self.voted.add((self.height, step))
            self.world.later(PERSIST_US + SIGN_US, self.say, self.height, step)

    def say(self, height: int, step: int) -> None:
        self.world.broadcast(self.number, VOTE_BYTES, "hear_vote", height, step)
        self.take_vote(self.number, height, step)

    def go_on(self) -> None:
        world, height = self.world, self.height
        if height in self.proposals:
            self.vote(PREVOTE)
        if len(self.votes[height, PREVOTE]) >= world.quorum:
            self.vote(PRECOMMIT)
        if len(self.votes[height, PRECOMMIT]) >= world.quorum and height in self.proposals:
            world.finality_us.append(world.clock.now_us - world.proposed_us[height])
            self.height += 1
            if self.height % len(world.nodes) == self.number:
                world.later(PERSIST_US + SIGN_US, self.propose, self.height)
            self.go_on()


class Tendermint:
    """As `sim.consensus_world.ConsensusWorld`, where the two have something in common."""

    def __init__(self, *, seed: int, count: int) -> None:
        self.clock, self.quorum = Clockwork(), 2 * count // 3 + 1
        regions = [random.Random(seed * 1_000 + number).randrange(len(REGIONS)) for number in range(count)]
        self.wires = Wires(self.clock, seed=seed, regions=regions, uplink_bps=1_000_000_000)
        self.proposed_us: dict[int, int] = {}
        self.finality_us: list[int] = []
        self.verifications = 0
        self.nodes = [_Node(self, number) for number in range(count)]
        self.clock.plan(0, self.nodes[1 % count].propose, 1)

    @property
    def height(self) -> int:
        """Of who is last."""
        return min(node.height for node in self.nodes) - 1

    def run_ms(self, duration_ms: int) -> None:
        self.clock.run(self.clock.now_us + 1000 * duration_ms)

    def later(self, delay_us: int, act: object, *arguments: object) -> None:
        self.clock.plan(self.clock.now_us + delay_us, act, *arguments)  # type: ignore[arg-type]

    def broadcast(self, sender: int, size: int, hear: str, *arguments: object) -> None:
        for node in self.nodes:
            if node.number != sender:
                self.wires.carry(sender, node.number, size, getattr(node, hear), sender, *arguments)
