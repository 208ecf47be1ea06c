"""Fetches from several holders in simulated networks: random histories, one seed is one history, cores that lack something."""

from __future__ import annotations

import dataclasses

import pytest

from qnode.core.bulk import Fetch
from sim.bulk_histories import play
from sim.bulk_world import BulkWorld, Holder

SEEDS = 200
PART = 50  # seeds a test, so that several processes may share them


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_random_histories(first: int) -> None:
    histories = [play(seed) for seed in range(first, first + PART)]
    for history in histories:
        assert history.done, f"{history}; again: PYTHONPATH=tests python -m sim.bulk_histories --seed {history.seed}"
    assert any(history.charged for history in histories)
    assert any(history.kills for history in histories)


def test_a_seed_is_a_history() -> None:
    assert dataclasses.asdict(play(11)) == dataclasses.asdict(play(11))
    assert play(11).events != play(12).events


def nothing(*_: object) -> bool:
    return True


def in_vain(*_: object) -> None:
    return None


@pytest.mark.parametrize(
    ("missing", "instead"),
    [("_is_good", nothing), ("_give_back", in_vain), ("_strike", in_vain), ("_ask_on", in_vain), ("_ban", in_vain)],
)
def test_a_core_that_leaves_something_out_is_found(missing: str, instead: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fetch, missing, instead)

    def fails(seed: int) -> bool:
        try:
            return not play(seed).done
        except (AssertionError, ValueError, KeyError, RecursionError):
            return True

    assert any(fails(seed) for seed in range(25))


def test_quick_holders_carry_it_and_the_slowest_does_not_decide_the_end() -> None:
    kinds = [("honest", 100), ("honest", 100), ("slow", 1)]
    world = BulkWorld(3, pieces=200, holders=[Holder(n, kind, mbps, 20_000) for n, (kind, mbps) in enumerate(kinds)])
    world.start()
    while not world.is_done:
        world.clock.run(world.clock.now_us + 100_000)
        assert world.clock.now_us < 30_000_000
    world.check()
    best_us = 200 * 262_144 * 8 / 200  # both quick lines full all the time
    assert world.clock.now_us < 2 * best_us + 2_500_000  # the second ask comes after two seconds
    assert sum(world.sent.values()) <= 200 + 16  # hardly anything twice


def test_a_line_around_the_world_is_filled() -> None:
    world = BulkWorld(4, pieces=200, holders=[Holder(0, "honest", 100, 100_000)])
    world.start()
    while not world.is_done:
        world.clock.run(world.clock.now_us + 100_000)
        assert world.clock.now_us < 30_000_000
    assert world.clock.now_us < 1.35 * (200 * 262_144 * 8 / 100)  # the manifest and the window's growth are the rest
