"""A node that gets the chain from others over simulated lines: random histories, one seed is one history, cores that lack something."""

from __future__ import annotations

import dataclasses

import pytest

from qnode.core import sync as core
from qnode.core import sync_run
from qnode.core.sync import Sync
from qnode.core.sync_run import Body
from sim.sync_histories import play
from sim.sync_world import LIARS, Peer, SyncWorld

SEEDS = 120
PART = 30  # seeds a test, so that several processes may share them


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_random_histories(first: int) -> None:
    histories = [play(seed) for seed in range(first, first + PART)]
    for history in histories:
        assert history.done, f"{history}; again: PYTHONPATH=tests python -m sim.sync_histories --seed {history.seed}"
    assert any(history.charged for history in histories)
    assert any(history.kills for history in histories)


def test_a_seed_is_a_history() -> None:
    assert dataclasses.asdict(play(11)) == dataclasses.asdict(play(11))
    assert play(11).events != play(12).events


def nothing(*_: object, **__: object) -> str:
    return ""


def anything(*_: object, **__: object) -> bool:
    return True


def in_vain(*_: object, **__: object) -> None:
    return None


def believes(self: Sync, event: object, now_ms: int) -> None:
    if self._run is not None:
        self._run.is_verified = True


@pytest.mark.parametrize(
    ("where", "missing", "instead"),
    [
        (sync_run, "_certified", nothing),
        (sync_run, "fits", anything),
        (core, "fits", anything),
        (Sync, "verified", believes),
        (Sync, "_lie", in_vain),
        (Sync, "_rest", in_vain),
        (Sync, "_ask_watches", in_vain),
        (Sync, "kept", in_vain),
        (Sync, "not_finalised", in_vain),
        (Body, "take", lambda self, numbers: list(numbers)),
    ],
)
def test_a_core_that_leaves_something_out_is_found(where: object, missing: str, instead: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, missing, instead)
    if where is Sync and missing not in ("_lie", "_rest", "_ask_watches"):
        event = {"verified": core.events.Verified, "kept": core.events.Kept, "not_finalised": core.events.NotFinalised}[missing]
        monkeypatch.setitem(core._HANDLERS, event, instead)

    def fails(seed: int) -> bool:
        try:
            return not play(seed, patience_us=200_000_000).done
        except (AssertionError, ValueError, KeyError, RecursionError, IndexError):
            return True

    assert any(fails(seed) for seed in range(40))


def followed(kinds: list[str], *, behind: int, block_us: int = 1_000_000) -> SyncWorld:
    peers = [Peer(number, kind, 100, 60_000, lag=20) for number, kind in enumerate(kinds)]
    world = SyncWorld(5, peers=peers, blocks=behind + 60, head=behind, block_us=block_us)
    world.start()
    while world.height < world.last:
        world.clock.run(world.clock.now_us + 100_000)
        assert world.clock.now_us < 300_000_000
    world.check()
    return world


def test_a_follower_has_each_block_within_two_seconds() -> None:
    for kinds in (["honest"], ["honest", "honest", "behind", "silent"], ["honest", *sorted(LIARS)]):
        world = followed(kinds, behind=0)
        late = sorted(world.late_us[10:])
        assert late[len(late) // 2] < 700_000, kinds  # a way there and back, a certificate, the transactions
        assert late[-3] < 2_000_000, kinds


@pytest.mark.parametrize("kind", sorted(LIARS))
def test_who_lies_is_charged(kind: str) -> None:
    world = SyncWorld(5, peers=[Peer(0, kind, 100, 60_000)], blocks=160, head=100, block_us=1_000_000)
    world.start()
    while not world.charged:
        world.clock.run(world.clock.now_us + 100_000)
        assert world.clock.now_us < 60_000_000
    world.check()


def test_a_giver_that_keeps_blocks_back_is_left() -> None:
    world = followed(["withholder", "withholder", "withholder", "honest"], behind=0)
    late = sorted(world.late_us[30:])  # they stop at twenty
    assert late[len(late) // 2] < 1_000_000


def test_what_is_asked_for_is_hardly_asked_for_twice() -> None:
    world = followed(["honest"] * 6, behind=600)
    blocks = world.last
    assert world.answers < 3.5 * blocks  # bodies of half of them, in parts; runs; and six watches
    assert world.most["bodies"] <= 4
