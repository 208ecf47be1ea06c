"""Networks of peers, simulated: 200 random histories, attacks on one node, the same twice from one seed, and histories that must find a
broken core."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from qnode.core import peers
from qnode.core import peers_limits as limits
from qnode.core.peers import Peers
from qnode.core.peers_attempts import Attempts
from qnode.core.peers_book import AddressBook
from qnode.core.peers_candidates import Candidates
from qnode.core.peers_dialling import Dialling
from qnode.core.peers_events import Expelled, LinkAsked, LinkLost
from sim.byzantine.address_flooder import NOWHERE, AddressFlooder
from sim.byzantine.refuser import Refuser
from sim.peers_checks import complaints, honest_links
from sim.peers_histories import play, play_eclipse
from sim.peers_world import PeersWorld, Place

SEEDS, ATTACKS = 200, 6
PART = 25  # seeds a test, so that several processes may share them


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_random_histories(first: int) -> None:
    for seed in range(first, first + PART):
        history = play(seed)
        assert not history.wrong, f"{history}; PYTHONPATH=tests python -m sim.peers_histories --seed {seed}"


@pytest.mark.parametrize(("seed", "is_strong"), [*((seed, False) for seed in range(ATTACKS)), (1, True)])
def test_nobody_becomes_all_that_a_node_sees(seed: int, is_strong: bool) -> None:
    attack = play_eclipse(seed, is_strong=is_strong)
    assert attack.held >= attack.evil // 2  # it is an attack
    assert attack.least >= 3
    assert attack.least_again >= 3
    assert attack.back_ms <= 5_000
    assert (attack.anchors > 0) == bool(seed % 2)


def test_a_seed_is_a_history() -> None:
    assert dataclasses.asdict(play(11)) == dataclasses.asdict(play(11))
    assert play(11).events != play(12).events


def nothing(*_: Any, **__: Any) -> None:
    """In place of what a node ought to do."""


def yes(*_: Any, **__: Any) -> bool:
    return True


MUTANTS: tuple[tuple[type, str, Callable[..., Any]], ...] = (
    (Peers, "_settle", nothing), (Attempts, "failed", nothing), (Dialling, "_is_free", yes), (Dialling, "_dial_chosen", nothing),
    (Dialling, "_dial_assigned", nothing), (AddressBook, "learnt", nothing), (Candidates, "changed", nothing),
)  # fmt: skip


@pytest.mark.parametrize(("owner", "name", "instead"), MUTANTS, ids=[f"{owner.__name__}.{name}" for owner, name, _ in MUTANTS])
def test_a_core_that_does_something_else_is_found(
    owner: type, name: str, instead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, instead)
    assert any(fails(seed) for seed in range(12))


@pytest.mark.parametrize("event", [LinkLost, Expelled, LinkAsked])
def test_a_core_that_does_not_hear_something_is_found(event: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers._HANDLERS, event, nothing)
    assert any(fails(seed) for seed in range(12))


def fails(seed: int) -> bool:
    try:
        return bool(play(seed).wrong)
    except Exception:
        return True


def test_two_that_dial_each_other_at_once_have_one_link_that_stands() -> None:
    crossed = 0
    for seed in range(60):
        world = PeersWorld(seed=seed, places=[Place("a", 1), Place("b", 2)])
        world.run_ms(10_000)
        assert complaints(world) == []
        links = {number: dict(node.links) for number, node in world.honest.items()}
        crossed += world.lines.made == 2
        assert world.lines.made <= 2
        world.run_ms(30_000)
        assert links == {number: node.links for number, node in world.honest.items()}
    assert crossed >= 3


def village(count: int, **settings: Any) -> PeersWorld:
    return PeersWorld(seed=3, places=[Place(f"o{number}", number) for number in range(count)], **settings)


def test_a_village_is_linked_in_seconds_and_follows_who_moves() -> None:
    world = village(24)
    world.run_ms(15_000)
    assert min(len(node.core.links.outbound()) for node in world.honest.values()) >= 6
    world.move(5)
    world.run_ms(4_000)
    assert complaints(world) == []


def test_a_node_that_was_cut_off_is_back_within_seconds() -> None:
    world = village(16)
    world.run_ms(15_000)
    world.lines.cut = lambda a, b: 4 in (a, b)
    world.run_ms(180_000)
    assert world.honest[4].core.is_lonely
    assert honest_links(world, 4) == []
    world.lines.cut = lambda _a, _b: False
    world.run_ms(1000 + limits.BACKOFF_ALONE_MAX_MS)
    assert len(honest_links(world, 4)) >= 4
    assert not world.honest[4].core.is_lonely


def test_halves_that_were_apart_for_long_are_one_again() -> None:
    world = village(14, epoch_ms=10_000_000)
    world.run_ms(10_000)
    world.lines.cut = lambda a, b: (a < 7) != (b < 7)
    world.tick_us = 3_000_000
    world.run_ms(900_000)
    assert complaints(world)
    world.lines.cut = lambda _a, _b: False
    world.run_ms(limits.BACKOFF_DUE_MAX_MS * 5 // 4)
    assert complaints(world) == []


def test_an_epoch_begins_without_a_stampede() -> None:
    world = village(20, epoch_ms=200_000, skew_max_ms=0)
    world.run_ms(15_000)
    until_ms = 200_000 - world.now_wall_ms() % 200_000
    world.run_ms(until_ms)
    most = 0
    for _ in range(70):
        world.run_ms(1_000)
        most = max(most, sum(len(node.dialling) for node in world.honest.values()))
        assert min(len(node.core.links.outbound()) for node in world.honest.values()) >= 6
    assert most <= 10  # of 80 that everybody has to make
    assert complaints(world) == []


def test_who_forges_addresses_is_expelled_and_believed_by_nobody() -> None:
    places = [Place(f"o{number}", number) for number in range(11)] + [Place("liar", 50, AddressFlooder)]
    world = PeersWorld(seed=4, places=places)
    world.run_ms(40_000)
    assert sum(11 in node.grey for node in world.honest.values()) >= 3
    for node in world.honest.values():
        assert all(NOWHERE[0] not in node.core.addresses(world.ids[peer]) for peer in world.honest)
    assert complaints(world) == []


def test_who_takes_connections_and_refuses_them_is_asked_ever_more_seldom() -> None:
    places = [Place(f"o{number}", number) for number in range(3)] + [Place("r", 50, Refuser)]
    world = PeersWorld(seed=4, places=places)
    world.run_ms(60_000)
    asked = world.lines.made
    world.tick_us = 3_000_000
    world.run_ms(600_000)
    assert world.lines.made - asked <= 3 * (600 // 90 + 3)


def test_a_node_that_nobody_reaches_knows_it() -> None:
    world = village(8)
    del world.lines.where[world.address[2]]
    world.run_ms(60_000 + limits.DIAL_BACK_FIRST_MS)
    reach = {number: node.core.reach.is_unreachable for number, node in world.honest.items()}
    assert [number for number, is_unreachable in reach.items() if is_unreachable] == [2]
    assert len(honest_links(world, 2)) == 7
