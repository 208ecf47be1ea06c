"""Gossip in simulated networks: 200 random histories, the same twice from one seed, and histories that must find a broken core."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from qnode.core import gossip_limits as limits
from qnode.core.gossip import Gossip
from qnode.core.gossip_pulls import Pulls
from qustream.wire.gossip import GossipMessage, Topic
from sim.gossip_histories import play
from sim.gossip_world import GossipWorld

SEEDS = 200
BELOW = 25  # nodes; scripts/soak gossip has up to 36
PART = 25  # seeds a test, so that several processes may share them


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_random_histories(first: int) -> None:
    for seed in range(first, first + PART):
        history = play(seed, to_the_end=False, below=BELOW)
        again = f"PYTHONPATH=tests python -m sim.gossip_histories --seed {seed} --below {BELOW}"
        assert not history.missing, f"{history}; {again}"
        assert not history.grey, f"{history}; {again}"


def test_a_seed_is_a_history() -> None:
    assert dataclasses.asdict(play(11)) == dataclasses.asdict(play(11))
    assert play(11).events != play(12).events


def nothing(*_: object) -> None:
    """In place of what a node ought to do."""


@pytest.mark.parametrize(
    ("of", "missing"), [(Gossip, "_serve"), (Gossip, "_pass_on"), (Gossip, "_ask_the_next"), (Pulls, "ended"), (Pulls, "left")]
)
def test_a_core_that_leaves_something_out_is_found(of: type, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of, missing, nothing)

    def fails(seed: int) -> bool:
        try:
            history = play(seed)
        except Exception:
            return True
        return bool(history.missing or history.grey)

    assert any(fails(seed) for seed in range(10))


# Copies of a body a node. The fewer nodes there are, the more of them the first hops' unasked bodies are: see `gossip_scale` for all 4,732.
@pytest.mark.parametrize(
    ("topic", "size", "copies", "within_ms"),
    [(Topic.TRANSACTION, 512, 0, 250), (Topic.TRANSACTION, 3_600, 2, 350), (Topic.BLOCK, 100_000, 2.5, 420)],
    ids=["small", "middle", "large"],
)
def test_everybody_gets_it_soon_and_not_many_times(topic: Topic, size: int, copies: float, within_ms: int) -> None:
    world = GossipWorld(seed=3, nodes=120, check_every=16)
    world.run_ms(3_000)
    said_ms = world.clock.now_ms
    name = world.publish(7, topic, size)
    world.run_ms(4_000)
    reached = world.reached(name)
    assert len(reached) == 120
    assert max(reached.values()) - said_ms <= within_ms  # virtual time
    assert world.copies.get(name, 0) <= copies * 120


def test_who_says_bad_things_is_grey_listed_by_all_it_says_them_to() -> None:
    from sim.byzantine.garbler import Garbler

    world = GossipWorld(seed=5, nodes=30, byzantine=[Garbler])
    before = set(world.links[29])
    world.run_ms(6_000)
    assert before
    assert not world.links[29]
    assert all(29 in world.honest[peer].grey for peer in before)
    assert world.grey_between_honest() == []


def test_who_pushes_unasked_more_than_it_may_is_grey_listed_and_costs_a_bounded_number_of_checks() -> None:
    from sim.byzantine.pusher import Pusher

    world = GossipWorld(seed=5, nodes=30, byzantine=[Pusher])
    peers = set(world.links[29])
    names = [world.publish(number, Topic.BLOCK, 50_000) for number in range(3)]
    world.run_ms(60_000)
    assert all(29 in world.honest[peer].grey for peer in peers)
    assert world.grey_between_honest() == []
    assert all(len(world.reached(name)) == 29 for name in names)
    fit = 60 * limits.UNASKED_BYTES_PER_S // 15_003 + limits.UNASKED_BURST_BYTES // 15_003
    assert max(world.honest[peer].checks for peer in peers) <= fit + len(names)


def test_news_that_is_of_no_use_costs_honest_nodes_neither_their_mesh_nor_their_time() -> None:
    """Each of them passes it on before it can know. They must not hold it against each other."""
    from sim.byzantine.inventor import Inventor

    world = GossipWorld(seed=5, nodes=60, byzantine=[Inventor, Inventor], check_every=16)
    world.run_ms(20_000)
    assert sum(len(node.core.mesh) for node in world.honest) >= limits.MESH_MIN * len(world.honest)
    assert world.grey_between_honest() == []
    for number in range(5):
        said_ms = world.clock.now_ms
        name = world.publish(number, Topic.TRANSACTION, 3_600)
        world.run_ms(4_000)
        reached = world.reached(name)
        assert len(reached) == len(world.honest)
        assert max(reached.values()) - said_ms <= 600  # virtual time; 350 where nobody lies


def test_delays_that_lie_cost_at_most_a_copy_a_message() -> None:
    from sim.byzantine.silent import Silent

    class Sleepy(Silent):
        claims_ms = 300

        def heard(self, peer: int, message: GossipMessage) -> list[tuple[int, GossipMessage]]:
            return []  # or it would not be pushed to

    def copies(byzantine: Sequence[type[Silent]]) -> float:
        world = GossipWorld(seed=21, nodes=120, byzantine=byzantine, check_every=16)
        world.run_ms(3_000)
        name = world.publish(7, Topic.TRANSACTION, 3_600)
        world.run_ms(4_000)
        assert len(world.reached(name)) == len(world.honest)
        return world.copies[name] / len(world.honest)

    assert copies([]) < copies([Sleepy] * 30) <= copies([]) + 1


def test_a_partition_heals_by_itself() -> None:
    world = GossipWorld(seed=9, nodes=40)
    world.run_ms(3_000)
    half: Callable[[int, int], bool] = lambda a, b: (a < 20) != (b < 20)  # noqa: E731
    world.wires.faults.cut = half
    world.run_ms(5_000)
    inside = world.publish(3, Topic.BLOCK, 50_000)
    world.run_ms(1_000)
    assert {number < 20 for number in world.reached(inside)} == {True}
    world.wires.faults.cut = lambda _a, _b: False
    world.run_ms(4_000)
    after = world.publish(30, Topic.BLOCK, 50_000)
    world.run_ms(4_000)
    assert len(world.reached(inside)) == 40  # what was said just before the cut ended is told by lazy repair
    assert len(world.reached(after)) == 40
