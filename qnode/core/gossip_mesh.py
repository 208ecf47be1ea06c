"""Who is in the mesh: decided once a heartbeat from scores, origins and chance (`proto/spec/gossip.md`, §2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from qnode.core.gossip_limits import MESH_MAX, MESH_MIN, MESH_WANTED, SCORE_OVER
from qnode.core.gossip_link import Link

__all__ = ["dealt", "newcomers", "shuffled", "takes_in", "tend"]

_T = TypeVar("_T")
# The multiplier of Knuth's 64-bit linear congruential generator (MMIX): good enough to deal cards by, and the same everywhere.
_MULTIPLIER, _INCREMENT, _MASK = 6364136223846793005, 1442695040888963407, (1 << 64) - 1


def shuffled(items: Sequence[_T], draw: int) -> list[_T]:
    """`items` in an order that follows from `draw`, 64 random bits."""
    out = list(items)
    for place in range(len(out) - 1, 0, -1):
        draw = (draw * _MULTIPLIER + _INCREMENT) & _MASK
        other = (draw >> 33) % (place + 1)
        out[place], out[other] = out[other], out[place]
    return out


def dealt(items: Sequence[_T], count: int, draw: int) -> list[_T]:
    """The first `count` of them after a shuffle that follows from `draw`."""
    out = list(items)
    count = min(count, len(out))
    for place in range(count):
        draw = (draw * _MULTIPLIER + _INCREMENT) & _MASK
        other = place + (draw >> 33) % (len(out) - place)
        out[place], out[other] = out[other], out[place]
    return out[:count]


def takes_in(link: Link, size: int, now_ms: int) -> bool:
    """Whether a mesh of `size` has room for who asks to be taken in; charged if it asks too early."""
    if now_ms < link.backoff_until_ms:
        link.charge(SCORE_OVER)
        return False
    return link.is_welcome and size < MESH_MAX


def tend(links: Sequence[Link], draw: int, now_ms: int) -> tuple[list[Link], list[Link]]:
    """Whom to take in, and whom to leave out."""
    if _is_well(links):
        return [], []  # nearly always
    prunes = [link for link in links if link.in_mesh and not link.is_bearable]
    mesh = [link for link in links if link.in_mesh and link.is_bearable]
    if len(mesh) > MESH_MAX:
        ranked = sorted(shuffled(mesh, draw), key=lambda link: (link.assigned, link.score), reverse=True)
        kept = _with_enough_of_ours(ranked, MESH_WANTED)
        prunes += [link for link in mesh if link not in kept]
        mesh = kept
    grafts: list[Link] = []
    others = [link for link in links if not link.in_mesh and link.is_welcome and now_ms >= link.backoff_until_ms]
    if len(mesh) < MESH_MIN:
        grafts = sorted(shuffled(others, draw), key=lambda link: link.score, reverse=True)[: MESH_WANTED - len(mesh)]
    mesh += grafts
    ours = sum(link.ours for link in mesh)
    for link in shuffled([link for link in others if link.ours and link not in grafts], draw):
        if ours >= MESH_WANTED // 2 or len(mesh) >= MESH_MAX:
            break
        grafts.append(link)
        mesh.append(link)
        ours += 1
    return grafts, prunes


def newcomers(links: Sequence[Link]) -> list[Link]:
    """Those that have come into the mesh since this was asked last, whoever grafted whom."""
    found = []
    for link in links:
        if link.in_mesh and not link.was_in_mesh:
            found.append(link)
        link.was_in_mesh = link.in_mesh
    return found


def _is_well(links: Sequence[Link]) -> bool:
    """Whether nothing is to be done: asked once a second of every link, so in one pass."""
    size = ours = 0
    for link in links:
        if link.in_mesh:
            if not link.is_bearable:
                return False
            size += 1
            ours += link.ours
    return MESH_MIN <= size <= MESH_MAX and ours >= MESH_WANTED // 2


def _with_enough_of_ours(ranked: Sequence[Link], size: int) -> list[Link]:
    """The best `size`, of which at least half are links we opened, if there are so many."""
    ours = [link for link in ranked if link.ours][: size // 2]
    rest = [link for link in ranked if link not in ours]
    return ours + rest[: size - len(ours)]
