"""Who comes into the mesh and who goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qnode.core.gossip_limits import MESH_MAX, MESH_MIN, MESH_WANTED
from qnode.core.gossip_link import Link
from qnode.core.gossip_mesh import newcomers, tend


def link(number: int, *, ours: bool = False, assigned: bool = False, in_mesh: bool = False, score: int = 0) -> Link:
    made = Link(number.to_bytes(32, "big"), operator="", ours=ours, assigned=assigned, now_ms=0)
    made.in_mesh, made.score = in_mesh, score
    return made


def after(links: list[Link], draw: int = 5) -> list[Link]:
    grafts, prunes = tend(links, draw, 0)
    assert not set(grafts) & set(prunes)
    return [each for each in links if (each.in_mesh and each not in prunes) or each in grafts]


def test_a_thin_mesh_takes_in_the_best() -> None:
    links = [link(number, score=number) for number in range(20)]
    assert sorted(each.score for each in after(links)) == list(range(20 - MESH_WANTED, 20))


def test_a_fat_mesh_leaves_out_the_worst_but_nobody_assigned() -> None:
    links = [link(number, in_mesh=True, score=number, assigned=number < 4, ours=number < 4) for number in range(15)]
    mesh = after(links)
    assert len(mesh) == MESH_WANTED
    assert set(range(4)) <= {each.score for each in mesh}


def test_others_cannot_fill_the_mesh() -> None:
    links = [link(number, in_mesh=True, score=50) for number in range(MESH_WANTED)] + [link(100 + n, ours=True) for n in range(8)]
    mesh = after(links)
    assert sum(each.ours for each in mesh) == MESH_WANTED // 2
    assert len(mesh) == MESH_MAX


def test_who_is_in_disgrace_goes_and_does_not_come_back() -> None:
    links = [link(1, in_mesh=True, score=-60), link(2, score=-1), link(3)]
    assert [each.peer[-1] for each in after(links)] == [3]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.integers(-100, 100)), max_size=32), st.integers(0, (1 << 64) - 1))
def test_the_mesh_keeps_its_bounds(rows: list[tuple[bool, bool, bool, int]], draw: int) -> None:
    links = [link(n, ours=o, assigned=a, in_mesh=m, score=s) for n, (o, a, m, s) in enumerate(rows)]
    mesh = after(links, draw)
    welcome = [each for each in links if each.is_welcome or (each.in_mesh and each.is_bearable)]
    assert min(MESH_MIN, len(welcome)) <= len(mesh) <= max(MESH_MAX, 0)


def test_a_newcomer_is_new_once_and_again_after_it_was_left_out() -> None:
    old, new = link(1, in_mesh=True), link(2)
    assert newcomers([old, new]) == [old]
    new.in_mesh = True
    assert newcomers([old, new]) == [new]
    assert newcomers([old, new]) == []
    old.in_mesh = False
    assert newcomers([old, new]) == []
    old.in_mesh = True
    assert newcomers([old, new]) == [old]
