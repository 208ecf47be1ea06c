"""The links of a node, and which of them count (`proto/spec/peers.md`, §2 and §4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qnode.core.peers_events import Purpose

__all__ = ["Links", "PeerLink"]


@dataclass(slots=True)
class PeerLink:
    """A link. `reason`: for one of ours why it was opened, for another's what it is to us, whatever its opener says.

    `assigned`: the seed of an epoch that counts says so; `spare`: it breaks the rule about operators or that about prefixes; `is_outdated`:
    it was assigned in an epoch that is over. `anchor`: for displays."""

    number: int
    peer: bytes
    operator: str
    prefix: str
    ours: bool
    reason: Purpose
    assigned: bool
    since_ms: int
    spare: bool = False
    is_outdated: bool = False
    anchor: bool = False

    @property
    def takes_place(self) -> bool:
        """Whether it holds one of the inbound places."""
        return not self.ours and not self.assigned and self.reason is not Purpose.MESHED

    def __repr__(self) -> str:
        return f"<PeerLink {'>' if self.ours else '<'}{self.peer.hex()[:8]} {'spare' if self.spare else self.reason}>"


class Links:
    """All that stand, by number and by peer: one a peer."""

    __slots__ = ("_by_number", "_by_peer")

    def __init__(self) -> None:
        self._by_number: dict[int, PeerLink] = {}
        self._by_peer: dict[bytes, PeerLink] = {}

    def __len__(self) -> int:
        return len(self._by_peer)

    def __iter__(self) -> Iterator[PeerLink]:
        return iter(self._by_peer.values())

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._by_peer

    def of(self, peer: bytes) -> PeerLink | None:
        return self._by_peer.get(peer)

    def numbered(self, number: int) -> PeerLink | None:
        return self._by_number.get(number)

    def add(self, link: PeerLink) -> None:
        assert link.peer not in self._by_peer, "a peer is linked once"
        assert link.number not in self._by_number, "a number is used once"
        self._by_number[link.number] = self._by_peer[link.peer] = link

    def remove(self, link: PeerLink) -> None:
        del self._by_number[link.number]
        del self._by_peer[link.peer]

    def outbound(self) -> list[PeerLink]:
        """Ours, those between meshed nodes left out: they are beside the eight."""
        return [link for link in self._by_peer.values() if link.ours and link.reason is not Purpose.MESHED]

    def placed(self) -> list[PeerLink]:
        """Those that hold one of the inbound places."""
        return [link for link in self._by_peer.values() if link.takes_place]
