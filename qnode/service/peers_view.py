"""What a node's network looks like from outside: plain, read-only, made anew when asked (`proto/spec/peers.md`).

Whoever shows it to people reads `Network` and nothing else of the peers. Times are Unix ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from qnode.core.peers import Wanted
from qnode.net.session import Session
from qnode.service.gossip import TopicCount
from qustream.model.network import NodeRecord
from qustream.wire.gossip import Topic
from qustream.wire.peers import DialResult

if TYPE_CHECKING:
    from qnode.service.peers import PeerService

__all__ = ["LinkView", "Network"]


@dataclass(frozen=True, slots=True)
class LinkView:
    """A link. `ours`: this node opened it. `reason`: assigned, chosen or meshed; `spare`: it breaks a rule for want of better ones.
    `since_ms`: Unix ms; `rtt_ms`: −1 while nobody knows; `height`: of the network, as the peer says. Messages and bytes are gossip's."""

    peer: bytes
    record: NodeRecord
    ours: bool
    reason: str
    spare: bool
    anchor: bool
    address: str
    since_ms: int
    rtt_ms: int
    in_mesh: bool
    score: int
    height: int
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int


class Network:
    """The views. Each property is as of now."""

    def __init__(self, service: PeerService) -> None:
        self._service = service

    @property
    def known(self) -> int:
        """Nodes that a link could lead to."""
        return len(self._service.known)

    @property
    def unreached(self) -> int:
        """Of them, those that did not answer when they were last dialled."""
        return self._service.core.unreached

    @property
    def links(self) -> tuple[LinkView, ...]:
        """All that stand, the oldest first."""
        return tuple(view for link in self._service.hub.links if (view := self._view(link)) is not None)

    def _view(self, session: Session) -> LinkView | None:
        record = self._service.known.get(session.peer)
        link = self._service.core.links.of(session.peer)
        if record is None or link is None:
            return None
        gossip = self._service.gossip.core.links.get(session.peer)
        since_s = trio.current_time() - session.linked_s
        return LinkView(
            peer=session.peer, record=record, ours=session.ours, reason=str(link.reason), spare=link.spare, anchor=link.anchor,
            address=session.address, since_ms=self._service.clock_ms() - int(since_s * 1000), rtt_ms=session.connection.round_trip_ms(),
            in_mesh=gossip is not None and gossip.in_mesh, score=gossip.score if gossip is not None else 0, height=session.height,
            messages_in=session.messages_in, messages_out=session.messages_out, bytes_in=session.bytes_in, bytes_out=session.bytes_out,
        )  # fmt: skip

    @property
    def wanted(self) -> Sequence[Wanted]:
        """Nodes we want a link to and have none, the soonest dialled first. Their times are Unix ms, 0 for now."""
        return self._service.core.next_dials

    @property
    def dialled(self) -> Mapping[str, int]:
        """Dials by what came of them: "reached", or a code."""
        return self._service.core.dialled

    @property
    def refused(self) -> Mapping[str, int]:
        """Links that were asked for and refused, by code."""
        return self._service.core.refused

    @property
    def ended(self) -> Mapping[str, int]:
        """Connections of known nodes by what they ended with; empty: in order."""
        return self._service.ended

    @property
    def greylisted(self) -> int:
        """Peers that we want nothing of, now."""
        return self._service.core.sizes["grey"]

    @property
    def is_lonely(self) -> bool:
        """Others are known, and no link has stood for a while."""
        return self._service.core.is_lonely

    @property
    def reach(self) -> str:
        """Whether others reach us: reached, unreachable or unknown."""
        reach = self._service.core.reach
        if reach.is_unreachable:
            return "unreachable"
        return "reached" if reach.is_reached(self._service.steady_ms()) else "unknown"

    @property
    def reached_ms(self) -> int:
        """When a known node last came in; 0 if none has."""
        return self._service.core.reach.reached_ms or 0

    @property
    def seen_at(self) -> tuple[str, ...]:
        """Where peers see us, as they say; each once."""
        return tuple(dict.fromkeys(self._service.seen.values()))

    @property
    def dialled_back(self) -> tuple[DialResult, ...]:
        """What a peer that dialled back last found at each of our addresses."""
        return self._service.dialled_back

    @property
    def topics(self) -> Mapping[Topic, TopicCount]:
        """Gossip's bodies by topic."""
        return self._service.gossip.topics

    @property
    def duplicates(self) -> int:
        """Bodies that were here already."""
        return self._service.gossip.core.duplicates

    @property
    def dropped(self) -> int:
        """Messages lost for want of room, here or on the way out."""
        return self._service.gossip.core.dropped + self._service.gossip.unsent

    @property
    def bad(self) -> int:
        """Bodies that did not check."""
        return self._service.gossip.bad.total()

    @property
    def expelled(self) -> int:
        """Peers that gossip has shown out."""
        return self._service.gossip.expelled

    @property
    def sizes(self) -> Mapping[str, int]:
        """How much of everything bounded there is."""
        service = self._service
        return {"sessions": len(service.hub), **service.core.sizes, **{f"gossip_{k}": n for k, n in service.gossip.core.sizes.items()}}
