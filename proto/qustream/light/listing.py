"""Who is said to be a node, and by whom (`proto/spec/light-client.md`, §4).

One teller can hide nodes, invent some, and say false things of those there are. So what is said is kept as it was said, by everybody:
of two tales about one node one may be true. What the chain refutes is struck off, and who was wrong too often is listened to no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from qustream.model.network import NodeClass
from qustream.registry.chain_records import CHAIN_WEIGHT
from qustream.wire.light import ListedNode

__all__ = ["WRONG_MAX", "Listing", "Said"]

# Licences change hands while a list is on its way: so much may be wrong of an honest one's. A liar's tales cost as many proofs and no more.
WRONG_MAX = 64


@dataclass(frozen=True, slots=True)
class Said:
    """A node as somebody lists it: what a ranking needs of it."""

    id: bytes
    node_class: NodeClass
    operator: str
    licence: bytes
    since_epoch: int
    weight: int = CHAIN_WEIGHT
    active: bool = True


class Listing:
    """What several have told. Bounded by what the caller lets each tell."""

    def __init__(self) -> None:
        self._tellers: dict[Said, set[int]] = {}
        self._wrong: Counter[int] = Counter()

    def tell(self, teller: int, nodes: Iterable[ListedNode]) -> None:
        """One more list."""
        for each in nodes:
            said = Said(each.id, each.node_class, each.operator, each.licence, each.since_epoch)
            self._tellers.setdefault(said, set()).add(teller)

    @property
    def said(self) -> list[Said]:
        """All that is not refuted, in order of the ids."""
        return sorted(self._tellers, key=lambda said: said.id)

    def strike(self, said: Said) -> None:
        """The chain says otherwise. Harmless when repeated."""
        for teller in self._tellers.pop(said, ()):
            self._wrong[teller] += 1
            if self._wrong[teller] > WRONG_MAX:
                self._forget(teller)

    @property
    def is_refuted(self) -> bool:
        """Everybody was wrong too often: that there are no nodes follows from none of it."""
        return bool(self._wrong) and not self._tellers and max(self._wrong.values()) > WRONG_MAX

    def _forget(self, teller: int) -> None:
        """What it alone has told goes."""
        for tellers in self._tellers.values():
            tellers.discard(teller)
        self._tellers = {said: tellers for said, tellers in self._tellers.items() if tellers}
