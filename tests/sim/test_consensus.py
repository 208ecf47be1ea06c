"""Consensus in simulated validator sets: random histories, forks when too many conspire, and histories that must find a broken core."""

from __future__ import annotations

import dataclasses
import random
import statistics
from collections.abc import Callable
from itertools import combinations

import pytest

from qnode.core.consensus import Consensus
from qnode.core.consensus_view import contradicts
from sim.byzantine.validators import Restored, Withholder
from sim.consensus_histories import is_named, play, play_unsafe
from sim.consensus_node import EPOCH_MS
from sim.consensus_world import ConsensusWorld
from sim.seeds import Breach
from sim.wires import Faults

# Each takes a tenth of a second, for it ends when all is well again; `scripts/soak consensus` plays more, and to the end.
SEEDS, PART = 200, 10


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_random_histories(first: int) -> None:
    for seed in range(first, first + PART):
        history = play(seed, to_the_end=False)
        assert not history.stuck, f"{history}; PYTHONPATH=tests python -m sim.consensus_histories --seed {seed}"


def test_a_seed_is_a_history() -> None:
    assert dataclasses.asdict(play(1_003)) == dataclasses.asdict(play(1_003))


@pytest.mark.parametrize("seed", [0, 1, 5, 7])
def test_a_fork_names_more_than_a_third_and_nobody_who_obeys(seed: int) -> None:
    history = play_unsafe(seed)
    assert history.forks
    assert is_named(history)


@pytest.mark.parametrize("count", [4, 20])
def test_finality_takes_three_delays_and_a_block_a_second(count: int) -> None:
    world = ConsensusWorld(seed=3, weights=[1] * count, even_ms=100)
    world.run_ms(20_000)
    assert world.height >= 18
    assert statistics.median(world.finality_us) <= 3.3 * 100_000
    assert not any(node.accused for node in world.honest)


def test_a_hundred_around_the_world_take_well_under_half_a_second() -> None:
    chance = random.Random(1)
    world = ConsensusWorld(seed=1, weights=[chance.randrange(1, 100) for _ in range(100)])
    world.run_ms(3_300)
    assert world.height >= 2
    assert statistics.median(world.finality_us) <= 400_000


@pytest.mark.parametrize("hours", [3, -3])
def test_a_clock_that_is_hours_off_costs_its_own_views_and_nothing_else(hours: int) -> None:
    world = ConsensusWorld(seed=5, weights=[1] * 4, skews={2: hours * 3_600_000})
    world.run_ms(40_000)
    assert all(len(node.disk.chain) >= 20 for node in world.validators)
    latest_ms = max(block.header.time_ms for node in world.honest for block in node.disk.chain)
    assert latest_ms < EPOCH_MS + world.clock.now_ms + 1_000


def test_who_starts_an_old_copy_of_itself_beside_itself_is_named() -> None:
    for seed in range(6):
        world = ConsensusWorld(seed=seed, weights=[1] * 5, evil={1: Restored})
        world.run_ms(25_000)
        twice = world.validators[1]
        assert isinstance(twice, Restored)
        clashes = [said for said in twice.said.values() if any(contradicts(*one, *other) for one, other in combinations(sorted(said), 2))]
        assert clashes, "both led"
        assert all(node.accused == {1} for node in world.honest)


def test_blocks_whose_transactions_come_late_are_voted_for_late() -> None:
    world = ConsensusWorld(seed=6, weights=[1] * 7)
    world.missing = 1_000
    world.run_ms(30_000)
    assert world.height >= 8
    assert any(block.ids for block in world.honest[0].disk.chain)


def heights_beside_a_withholder() -> list[int]:
    """Of five sixteenths of the weight, after messages have been lost."""
    heights = []
    for seed in range(6):
        world = ConsensusWorld(seed=seed, weights=(1, 3, 1, 1, 1, 1, 1, 1, 5, 1), evil={8: Withholder})
        world.wires.faults = Faults(lost=300)
        world.run_ms(12_000)
        world.wires.faults = Faults()
        world.run_ms(20_000)
        heights.append(world.height)
    return heights


def test_who_shows_its_votes_to_a_few_leaves_nobody_behind_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert min(heights_beside_a_withholder()) >= 2
    for name in ("behind", "entered"):
        monkeypatch.setattr(f"qnode.core.consensus_catchup.Catchup.{name}", lambda *_: False)
    assert min(heights_beside_a_withholder()) == 0  # it is the asking that does it


def test_hours_of_nothing_and_then_a_load() -> None:
    world = ConsensusWorld(seed=5, weights=[1] * 4)
    world.is_loaded = False
    world.run_ms(2_400_000)
    idle = world.height
    assert 400 <= idle <= 480
    assert all(node.core.sizes["views"] < 32 for node in world.validators)
    world.is_loaded = True
    world.run_ms(20_000)
    assert world.height >= idle + 14


def test_an_idle_chain_goes_on_with_empty_blocks() -> None:
    world = ConsensusWorld(seed=4, weights=[1] * 4)
    world.is_loaded = False
    world.run_ms(31_000)
    assert 4 <= world.height <= 8
    assert all(block.ids == () for node in world.honest for block in node.disk.chain)


def fails(seeds: range) -> bool:
    for seed in seeds:
        try:
            if play(seed, to_the_end=False).stuck:
                return True
        except (Breach, AssertionError, KeyError):
            return True
    return False


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "votes final for what others notarised": lambda patch: patch.setattr("qnode.core.consensus.Consensus._finals", _finals_of_any),
    "never skips": lambda patch: patch.setattr(Consensus, "_time_out", lambda *_: None),
    "never votes final": lambda patch: patch.setattr(Consensus, "_finals", lambda *_: None),
    "never says anything again": lambda patch: patch.setattr("qnode.core.consensus_catchup.said_again", lambda _core: iter(())),
    "never pulls": lambda patch: patch.setattr("qnode.core.consensus_catchup.wanted", lambda _core: iter(())),
}


def _finals_of_any(core: Consensus) -> None:
    from msgspec.structs import replace

    from qustream.wire.consensus import Kind

    for view in list(core.views.values()):
        if view.notarised and not view.own.finalised and view.number >= core.final_view:
            core._sign(view, replace(view.own, finalised=view.notarised), Kind.FINAL, view.notarised)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_core_that_leaves_a_rule_out_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    assert fails(range(12))
