"""All histories of small rotations, and cores that leave a rule out, which must not get through them (`proto/spec/model/README.md`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import structs

from qnode.core.consensus import _HANDLERS, Consensus
from qnode.core.consensus_events import RotationBegan, SignState
from qustream.wire.consensus import NO_DIGEST, ChainHeader, Kind
from sim.explore import GOALS, Explorer, Setting
from sim.explore_model import Said
from sim.seeds import Breach
from sim.test_consensus import MUTANTS

# The evil one leads and a node crashes; two views of those who obey; the evil one leads the second view, on top of what may be final.
ONE_VIEW = Setting(leads=(0, 1, 2), views=1, crashes=1)
TWO_VIEWS = Setting(leads=(1, 2, 3), views=2)
EVIL_SECOND = Setting(leads=(1, 0, 2), views=2, variants=1)
CRASH_GOALS = (*GOALS, "said again")
# States that are enough to find a rule that is left out.
MOST = 1_000


def decided(explorer: Explorer) -> set[frozenset[Said]]:
    """All that was ever decided together."""
    return {board.decided for board in explorer.boards}


def test_one_view_with_an_evil_leader_and_a_crash() -> None:
    explorer = Explorer(ONE_VIEW)
    assert explorer.run()
    assert explorer.model.reached >= {*CRASH_GOALS}
    assert len(explorer.model.locals) > 500


def test_two_views_of_two_leaders() -> None:
    explorer = Explorer(TWO_VIEWS)
    assert explorer.run()
    assert explorer.model.reached >= {*GOALS}
    assert len(explorer.seen) > 500


def test_an_evil_leader_on_top_of_what_may_be_final() -> None:
    explorer = Explorer(EVIL_SECOND)
    assert explorer.run()
    assert explorer.model.reached >= {*GOALS}


@pytest.mark.parametrize("setting", [ONE_VIEW, replace(ONE_VIEW, leads=(1, 2, 3))])
def test_nothing_is_lost_by_what_is_put_off(setting: Setting) -> None:
    lazy, plain = Explorer(setting), Explorer(setting, plain=True)
    assert lazy.run()
    assert plain.run()
    assert decided(lazy) == decided(plain)
    assert {local.chain for local in lazy.model.locals} == {local.chain for local in plain.model.locals}
    assert lazy.model.reached == plain.model.reached
    assert 10 * len(lazy.seen) < len(plain.seen)


def test_what_comes_twice_changes_nothing() -> None:
    explorer = Explorer(ONE_VIEW)
    explorer.run(most=1_000)
    model, again = explorer.model, 0
    for (number, coming), follows in list(model._next.items()):
        if coming[0] in ("block", "votes") and follows[0] != number:
            assert model.follow(follows[0], coming)[0] == follows[0], coming
            again += 1
    assert again > 100


def is_found(*settings: Setting) -> str:
    """How: a breach, or what cannot be reached."""
    for setting in settings:
        explorer = Explorer(setting)
        try:
            explorer.run(most=MOST)
        except Breach as breach:
            return str(breach)
        lacks = {*(CRASH_GOALS if setting.crashes else GOALS)} - explorer.model.reached
        if lacks:
            return f"never {lacks}"
    return ""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_core_that_leaves_a_rule_out_does_not_get_through(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    assert is_found(ONE_VIEW, TWO_VIEWS)


def _forgets(patch: pytest.MonkeyPatch) -> None:
    began = Consensus.rotation_began

    def began_anew(self: Consensus, event: RotationBegan, now_ms: int) -> None:
        began(self, structs.replace(event, had=SignState()), now_ms)

    patch.setitem(_HANDLERS, RotationBegan, began_anew)


def _skips_after_final(core: Consensus, now_ms: int) -> None:
    view = core._view(core.view)
    if now_ms >= core._notarisation_due_ms and not view.own.skipped:
        core._sign(view, structs.replace(view.own, skipped=True), Kind.SKIP, NO_DIGEST)


def _finals_after_skip(core: Consensus) -> None:
    for view in list(core.views.values()):
        if view.notarised and view.own.notarised == view.notarised and not view.own.finalised and view.number >= core.final_view:
            core._sign(view, structs.replace(view.own, finalised=view.notarised), Kind.FINAL, view.notarised)


def _notarises_twice(core: Consensus) -> None:
    view = core._view(core.view)
    for digest in view.proposals:
        if digest != view.own.notarised and not view.own.skipped and core.blocks.get(digest):
            core._sign(view, structs.replace(view.own, notarised=digest), Kind.NOTAR, digest)


def _asks_for_no_skips(core: Consensus, header: ChainHeader) -> bool:
    return header.parent_view <= core.final_view or core.views[header.parent_view].notarised == header.parent


UNSAFE: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "forgets after a crash": _forgets,
    "skips after final": lambda patch: patch.setattr(Consensus, "_time_out", _skips_after_final),
    "votes final after skip": lambda patch: patch.setattr(Consensus, "_finals", _finals_after_skip),
    "notarises twice": lambda patch: patch.setattr(Consensus, "_notarise", _notarises_twice),
    "asks for no skips between": lambda patch: patch.setattr("qnode.core.consensus.stands", _asks_for_no_skips),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_a_core_that_is_not_safe_breaches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    UNSAFE[name](monkeypatch)
    assert "after" in is_found(ONE_VIEW, EVIL_SECOND)
