"""The nodes of one view and whom they serve: one rule for every registry (`proto/spec/registry.md`, "Assignments")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from qustream.model.network import Grant, NodeClass, NodeRecord
from qustream.registry.contents import LicensedNode
from qustream.rules.assignment import ranked

__all__ = ["AssignedNodes"]

# Requests in flight on a busy node, with room: an entry is a few hundred bytes, a miss costs a ranking (milliseconds).
ASSIGNMENTS_KEPT = 4096
# A grant lives two epochs, so few are asked for at one time; an entry points to all nodes of a class.
CANDIDATES_KEPT = 16


class AssignedNodes:
    """`nodes` by id, which nobody changes any more; `seed_of`: of an epoch, 32 bytes. Safe for many threads."""

    def __init__(self, nodes: Mapping[bytes, LicensedNode], seed_of: Callable[[int], bytes]) -> None:
        self._nodes, self._seed_of = nodes, seed_of
        ordered = [node.record for _, node in sorted(nodes.items())]
        self._of_class = {each: tuple(record for record in ordered if record.node_class is each) for each in NodeClass}
        self._ranked = lru_cache(maxsize=ASSIGNMENTS_KEPT)(self._rank)
        self._candidates = lru_cache(maxsize=CANDIDATES_KEPT)(self._candidates_at)

    def of_class(self, node_class: NodeClass) -> Sequence[NodeRecord]:
        """All nodes of a class in order of id, active or not."""
        return self._of_class[node_class]

    def assignment(self, grant: Grant, j: int) -> dict[NodeClass, list[NodeRecord]]:
        """As `Registry.assignment`. Errors: those of `seed_of`."""
        return {node_class: list(nodes) for node_class, nodes in self._ranked(grant, j)}

    def _rank(self, grant: Grant, j: int) -> tuple[tuple[NodeClass, tuple[NodeRecord, ...]], ...]:
        seed = self._seed_of(grant.epoch)
        return tuple(
            (node_class, tuple(ranked(self._candidates(node_class, grant.epoch), grant, j, node_class, seed))) for node_class in NodeClass
        )

    def _candidates_at(self, node_class: NodeClass, epoch: int) -> tuple[NodeRecord, ...]:
        """A node that joined later must not displace one that a grant sold earlier is assigned to."""
        since = self._nodes
        return tuple(record for record in self._of_class[node_class] if record.active and since[record.key.id].since_epoch <= epoch)
