"""Who is known, and what the epoch makes of them (`proto/spec/peers.md`, §2)."""

from __future__ import annotations

from collections.abc import Mapping

from qnode.core.peers_events import Known, NetworkChanged, Purpose
from qnode.core.peers_link import PeerLink
from qustream.rules.peering import assigned_peers, assigning_peers, ring

__all__ = ["Network"]


class Network:
    """The registry as one node sees it. `assigned`: whom the epoch gives it, in order of offsets; `assigning`: who has it assigned, in the
    epochs that count; `meshed`: the others, if it is meshed itself."""

    def __init__(self, own: bytes) -> None:
        self.own = own
        self.epoch = 0
        self.nodes: Mapping[bytes, Known] = {}
        self.operator = ""  # our own
        self.is_listed = False  # the registry has us
        self.assigned: tuple[bytes, ...] = ()
        self.assigning: frozenset[bytes] = frozenset()
        self.meshed: frozenset[bytes] = frozenset()

    def changed(self, event: NetworkChanged) -> None:
        self.nodes, self.epoch = event.nodes, event.epoch
        own = event.nodes.get(self.own)
        self.is_listed, self.operator = own is not None, own.operator if own is not None else ""
        is_meshed = self.own in event.meshed
        self.meshed = frozenset(event.meshed & event.nodes.keys()) - {self.own} if is_meshed else frozenset()
        self._assign(event.seeds)

    def _assign(self, seeds: Mapping[int, bytes]) -> None:
        """Two of one operator would break the rule: the first stays."""
        assigned: dict[str, bytes] = {}
        assigning: set[bytes] = set()
        for epoch, seed in seeds.items():
            if abs(epoch - self.epoch) > 1:
                continue
            standing = ring(seed, self.nodes)
            assigning.update(assigning_peers(seed, standing, self.own))
            if epoch == self.epoch:
                for peer in assigned_peers(seed, standing, self.own):
                    assigned.setdefault(self.nodes[peer].operator, peer)
        assigned.pop(self.operator, None)
        self.assigned, self.assigning = tuple(assigned.values()), frozenset(assigning)

    def is_known(self, peer: bytes) -> bool:
        return peer in self.nodes and peer != self.own

    def purpose(self, peer: bytes) -> Purpose:
        """Why we would open a link to it."""
        if peer in self.meshed:
            return Purpose.MESHED
        return Purpose.ASSIGNED if peer in self.assigned else Purpose.CHOSEN

    def label(self, link: PeerLink) -> None:
        """Say what the link is in this registry and epoch."""
        link.operator = self.nodes[link.peer].operator
        was_assigned = link.is_outdated or (link.ours and link.assigned)
        link.assigned = link.peer in self.assigned or (not link.ours and link.peer in self.assigning)
        link.is_outdated = was_assigned and not link.assigned
        if link.peer in self.meshed:
            link.reason = Purpose.MESHED
        else:
            link.reason = Purpose.ASSIGNED if link.assigned else Purpose.CHOSEN
