"""Who is in the mesh: decided once a heartbeat from scores, origins and chance (`proto/spec/gossip.md`, §2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qnode.core.chance import Chance
from qnode.core.gossip_limits import MESH_MAX, MESH_MIN, MESH_WANTED, SCORE_KEPT_MIN, SCORE_OVER
from qnode.core.gossip_link import Link

__all__ = ["Mesh", "newcomers", "takes_in", "tend"]


class Mesh:
    """The links in the mesh and the others, in the order in which they came; the lists are made anew when somebody comes or goes, which is
    seldom, and read with every message."""

    __slots__ = ("_inside", "_left", "_links", "_outside")

    def __init__(self, links: Mapping[bytes, Link]) -> None:
        self._links = links
        self._inside: list[Link] | None = None
        self._outside: list[Link] = []
        self._left: list[Link] = []

    @property
    def inside(self) -> list[Link]:
        return self._sorted() if self._inside is None else self._inside

    @property
    def outside(self) -> list[Link]:
        if self._inside is None:
            self._sorted()
        return self._outside

    def changed(self) -> None:
        """A link has come or gone."""
        self._inside = None

    def put(self, link: Link, *, inside: bool) -> None:
        if link.in_mesh != inside:
            link.in_mesh, self._inside = inside, None
            if not inside:
                self._left.append(link)

    def tended(self, draw: int, now_ms: int) -> tuple[list[Link], list[Link]]:
        """Whom to take in, and whom to leave out: asked once a second, and nearly always nobody."""
        return ([], []) if _is_well(self.inside) else tend(list(self._links.values()), draw, now_ms)

    def newcomers(self) -> list[Link]:
        """Those that have come into the mesh since this was asked last, whoever grafted whom."""
        if self._left:
            newcomers([link for link in self._left if not link.in_mesh])
            self._left.clear()
        return newcomers(self.inside)

    def _sorted(self) -> list[Link]:
        inside = self._inside = [link for link in self._links.values() if link.in_mesh]
        self._outside = [link for link in self._links.values() if not link.in_mesh]
        return inside


def takes_in(link: Link, size: int, now_ms: int) -> bool:
    """Whether a mesh of `size` has room for who asks to be taken in; charged if it asks too early."""
    if now_ms < link.backoff_until_ms:
        link.charge(SCORE_OVER)
        return False
    return link.is_welcome and size < MESH_MAX


def tend(links: Sequence[Link], draw: int, now_ms: int) -> tuple[list[Link], list[Link]]:
    """Whom to take in, and whom to leave out."""
    prunes = [link for link in links if link.in_mesh and not link.is_bearable]
    mesh = [link for link in links if link.in_mesh and link.is_bearable]
    if len(mesh) > MESH_MAX:
        ranked = sorted(_shuffled(mesh, draw), key=lambda link: (link.assigned, link.score), reverse=True)
        kept = _with_enough_of_ours(ranked, MESH_WANTED)
        prunes += [link for link in mesh if link not in kept]
        mesh = kept
    grafts: list[Link] = []
    others = [link for link in links if not link.in_mesh and link.is_welcome and now_ms >= link.backoff_until_ms]
    if len(mesh) < MESH_MIN:
        grafts = sorted(_shuffled(others, draw), key=lambda link: link.score, reverse=True)[: MESH_WANTED - len(mesh)]
    mesh += grafts
    ours = sum(link.ours for link in mesh)
    for link in _shuffled([link for link in others if link.ours and link not in grafts], draw):
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


def _is_well(mesh: Sequence[Link]) -> bool:
    """Whether nothing is to be done."""
    if not MESH_MIN <= len(mesh) <= MESH_MAX:
        return False
    ours = 0
    for link in mesh:
        if link.score < SCORE_KEPT_MIN:
            return False
        ours += link.ours
    return ours >= MESH_WANTED // 2


def _with_enough_of_ours(ranked: Sequence[Link], size: int) -> list[Link]:
    """The best `size`, of which at least half are links we opened, if there are so many."""
    ours = [link for link in ranked if link.ours][: size // 2]
    rest = [link for link in ranked if link not in ours]
    return ours + rest[: size - len(ours)]


def _shuffled(links: Sequence[Link], draw: int) -> list[Link]:
    return Chance(draw).dealt(links, len(links))
