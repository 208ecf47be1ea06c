"""A node that gets a state from others over simulated lines: random histories, one seed is one history, cores that lack something."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from qnode.core import snapshot as core
from qnode.core.snapshot import Snapshot
from qnode.core.snapshot_offer import PlanParts
from qustream.errors import QuStreamError
from sim.snapshot_histories import SnapshotHistory, play
from sim.snapshot_world import LIARS, Server, SnapshotWorld

SEEDS = 120
PART = 30  # seeds a test, so that several processes may share them


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_random_histories(first: int) -> None:
    histories = [play(seed) for seed in range(first, first + PART)]
    for history in histories:
        assert history.done, f"{history}; again: PYTHONPATH=tests python -m sim.snapshot_histories --seed {history.seed}"
    assert any(history.charged for history in histories)
    assert any(history.kills for history in histories)
    assert any(history.kept for history in histories)


def test_a_seed_is_a_history() -> None:
    assert dataclasses.asdict(play(11)) == dataclasses.asdict(play(11))
    assert play(11).events != play(12).events


def nothing(*_: object, **__: object) -> str:
    return ""


def takes_anything(self: PlanParts, nodes: list[object]) -> bool:
    self.nodes += nodes  # type: ignore[arg-type]
    return True


def in_vain(*_: object, **__: object) -> None:
    return None


def believes(self: Snapshot, event: core.events.Checked, now_ms: int) -> None:
    Snapshot.checked(self, core.events.Checked(event.peer, core.Verdict.TRUE), now_ms)


def keeps_anything(self: Snapshot, event: core.events.Taken, now_ms: int) -> None:
    Snapshot.taken_in(self, core.events.Taken(event.peer, event.prefix, core.Verdict.TRUE), now_ms)


def _bad(history: Callable[[], SnapshotHistory]) -> bool:
    try:
        return not history().done
    except (AssertionError, ValueError, KeyError, IndexError, StopIteration, QuStreamError):
        return True


@pytest.mark.parametrize(
    ("where", "missing", "instead"),
    [
        (core, "wrong_with", nothing),
        (PlanParts, "take", takes_anything),
        (Snapshot, "_lie", in_vain),
        (Snapshot, "_rest", in_vain),
        (Snapshot, "_miss", in_vain),
        (Snapshot, "_start_over", in_vain),
    ],
)
def test_a_core_that_leaves_something_out_is_found(where: object, missing: str, instead: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, missing, instead)
    assert any(_bad(lambda seed=seed: play(seed, patience_us=200_000_000)) for seed in range(40))


@pytest.mark.parametrize(("event", "instead"), [(core.events.Checked, believes), (core.events.Began, in_vain)])
def test_a_core_that_hears_wrongly_is_found(event: type, instead: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(core._HANDLERS, event, instead)
    assert any(_bad(lambda seed=seed: play(seed, patience_us=200_000_000)) for seed in range(40))


@pytest.mark.parametrize("kind", sorted(LIARS))
def test_who_lies_is_charged(kind: str) -> None:
    """Alone; with a state that is big enough to be lied about."""
    for seed in range(20):
        world = SnapshotWorld(seed, servers=[Server(0, kind, 100, 60_000)])
        if len(world.states[0].plan.nodes) < 3:
            continue
        world.start()
        while not world.charged:
            world.clock.run(world.clock.now_us + 100_000)
            assert world.clock.now_us < 60_000_000
        return
    raise AssertionError("no state was big enough")


def test_several_give_faster_than_one_and_hardly_anything_twice() -> None:
    def took(count: int) -> float:
        world = SnapshotWorld(5, servers=[Server(number, "honest", 1, 60_000) for number in range(count)])
        world.start()
        while not world.is_done:
            world.clock.run(world.clock.now_us + 100_000)
            assert world.clock.now_us < 600_000_000
        world.check()
        assert world.taken == len(world.places)
        return world.clock.now_us / 1e6

    assert took(4) < 0.6 * took(1)


def test_nobody_who_has_a_state_is_known() -> None:
    world = SnapshotWorld(5, servers=[Server(0, "empty", 100, 60_000)])
    world.start()
    world.clock.run(1_000_000)
    assert world.core is not None
    assert world.core.is_refused
    assert not world.charged
