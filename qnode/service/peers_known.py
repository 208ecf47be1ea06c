"""Whom a node knows: what the registry and the epoch say, in the core's words (`proto/spec/peers.md`)."""

from __future__ import annotations

from qnode.core.peers_events import Known, NetworkChanged
from qnode.core.peers_records import records_from_ms
from qustream.errors import QuStreamError
from qustream.model.network import NodeClass, NodeRecord
from qustream.registry import Registry, if_known

__all__ = ["KnownNodes"]


class KnownNodes:
    """The active nodes but this one, as of the last `look`. `height`: of the view in which they came to be these, and `epoch`: its number,
    both −1 before there is one; `epoch_began_ms`, `epoch_ms`: when it began and how long it lasts; `records_from_ms`: address records
    issued before count no more; `own`: this node, if it is active; `meshed`: nodes that shall all be linked to each other, set by who
    knows the validators."""

    def __init__(self, registry: Registry, node: bytes) -> None:
        self._registry, self._node = registry, node
        self.height = -1
        self._nodes: dict[bytes, NodeRecord] = {}
        self.meshed: frozenset[bytes] = frozenset()
        self._meshed = self.meshed  # as last told
        self.epoch = -1
        self.epoch_began_ms = self.epoch_ms = self.records_from_ms = 0
        self.own: NodeRecord | None = None

    def __contains__(self, node: object) -> bool:
        return node in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, node: bytes) -> NodeRecord | None:
        """Its record, if it is known."""
        return self._nodes.get(node)

    def look(self, now_ms: int) -> NetworkChanged | None:
        """Ask the registry; what has changed since it was asked last, None if nothing has. A milliseconds' work for thousands of nodes,
        but only when it has."""
        try:
            height, epoch = self._registry.nodes_height, self._registry.epoch(now_ms)
        except QuStreamError:
            return None  # no view, or a clock before genesis: conditions say so, and what was known stands
        if (height, epoch.number) == (self.height, self.epoch) and self.meshed == self._meshed:
            return None
        self._meshed = self.meshed
        if height != self.height:
            active = [node for node_class in NodeClass for node in self._registry.nodes(node_class) if node.active]
            self._nodes = {node.key.id: node for node in active}
            self.own = self._nodes.pop(self._node, None)
            self.height = height
        self.epoch, self.epoch_began_ms, self.epoch_ms = epoch.number, epoch.boundary_ms, epoch.length_ms
        self.records_from_ms = records_from_ms(epoch.boundary_ms, epoch.length_ms)
        numbers = range(max(0, epoch.number - 1), epoch.number + 2)
        listed = dict(self._nodes)
        if self.own is not None:
            listed[self._node] = self.own
        return NetworkChanged(
            epoch.number,
            {number: known.seed for number in numbers if (known := if_known(self._registry.epoch_at, number)) is not None},
            {name: Known(node.operator, node.addresses) for name, node in listed.items()},
            meshed=self.meshed,
            records_from_ms=self.records_from_ms,
        )
