"""Consensus in simulated validator sets: random histories, forks when too many conspire, and histories that must find a broken core."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from qnode.core.consensus import Consensus
from sim.consensus_histories import play, play_unsafe
from sim.consensus_world import ConsensusWorld
from sim.seeds import Breach

# Each takes a tenth of a second, for it ends when all is well again; `scripts/soak consensus` plays more, and to the end.
SEEDS, PART = 200, 10


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_random_histories(first: int) -> None:
    for seed in range(first, first + PART):
        history = play(seed, to_the_end=False)
        assert not history.stuck, f"{history}; PYTHONPATH=tests python -m sim.consensus_histories --seed {seed}"


# Each has found a fault once: who was left behind in a view, or in a rotation, took too long to learn of it.
FOUND = (36, 65, 94, 107, 122, 151, 170, 195, 220)


def test_what_has_found_a_fault_once_finds_none() -> None:
    for seed in FOUND:
        history = play(seed)
        assert not history.stuck, history


def test_a_seed_is_a_history() -> None:
    assert dataclasses.asdict(play(1_003)) == dataclasses.asdict(play(1_003))


@pytest.mark.parametrize("seed", [0, 1, 5, 7])
def test_a_fork_names_more_than_a_third_and_nobody_who_obeys(seed: int) -> None:
    history = play_unsafe(seed)
    assert history.forks
    assert 3 * sum(history.weights[number] for number in history.accused) > sum(history.weights)
    assert {f"{number} Conspirator" for number in history.accused} <= set(history.evil)


def test_finality_takes_three_delays_and_a_block_a_second() -> None:
    world = ConsensusWorld(seed=3, weights=[1] * 4, one_region=True)
    world.run_ms(20_000)
    assert world.height >= 18
    assert not any(node.accused for node in world.honest)


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
    from dataclasses import replace

    from qustream.wire.consensus import Kind

    for view in list(core.views.values()):
        if view.notarised and not view.own.finalised and view.number >= core.final_view:
            core._sign(view, replace(view.own, finalised=view.notarised), Kind.FINAL, view.notarised)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_core_that_leaves_a_rule_out_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    assert fails(range(12))
