"""All sessions of a node: by number, by peer, and those that are links (`proto/spec/peers.md`, §4 and §10)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

from qnode.net.session import WORK_BURST, WORK_RATE_PER_S, GossipTaker, Session
from qustream.aio.admission import Bucket

__all__ = ["SESSIONS_PEER_MAX", "Hub"]

# A link, a second one that takes its place or loses against it, a feeler, somebody who dials back.
SESSIONS_PEER_MAX = 4
# Peers whose pace is remembered: more than the network has nodes.
PACES_MAX = 8192


class Hub:
    """The sessions that stand. A session that was hung up is not among them any more, though its last words may still be under way."""

    def __init__(self) -> None:
        self._next = 0
        self._sessions: dict[int, Session] = {}
        self._of_peer: dict[bytes, list[Session]] = {}
        self._links: dict[bytes, Session] = {}
        self._paces: OrderedDict[bytes, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    @property
    def links(self) -> Collection[Session]:
        """Those that are links, the oldest first."""
        return self._links.values()

    def number(self) -> int:
        """A number that no session had before."""
        self._next += 1
        return self._next

    def get(self, number: int) -> Session | None:
        """The session of this number, if it stands."""
        return self._sessions.get(number)

    def link_to(self, peer: bytes) -> Session | None:
        """The link to this peer, if there is one."""
        return self._links.get(peer)

    def sessions_with(self, peer: bytes) -> Sequence[Session]:
        """All with this peer: its link, and what may be the next one."""
        return tuple(self._of_peer.get(peer, ()))

    def join(self, session: Session) -> None:
        """A new one. If its peer has too many, the oldest that is no link has to go."""
        theirs = self._of_peer.setdefault(session.peer, [])
        if len(theirs) >= SESSIONS_PEER_MAX:
            oldest = next(other for other in theirs if not other.is_link)  # of one peer at most one is a link
            self.hang_up(oldest, "E-PEER-LIMIT", "more connections than one node needs")
        self._of_peer.setdefault(session.peer, []).append(session)
        self._sessions[session.number] = session
        session.keep_pace(self._pace_of(session))

    def _pace_of(self, session: Session) -> Bucket:
        """One for all sessions of a peer, and of those that are gone: or whoever connects again could begin anew."""
        pace = self._paces.get(session.peer)
        if pace is None:
            pace = self._paces[session.peer] = Bucket(WORK_BURST, WORK_RATE_PER_S, session.opened_s)
        self._paces.move_to_end(session.peer)
        if len(self._paces) > PACES_MAX:
            self._paces.popitem(last=False)
        return pace

    def leave(self, session: Session) -> bool:
        """It is gone; whether it was still there. Harmless when repeated."""
        if self._sessions.pop(session.number, None) is None:
            return False
        theirs = self._of_peer[session.peer]
        theirs.remove(session)
        if not theirs:
            del self._of_peer[session.peer]
        if self._links.get(session.peer) is session:
            del self._links[session.peer]
        return True

    def make_link(self, session: Session, take: GossipTaker) -> None:
        """It is the link to its peer from now on; there is no other."""
        assert session.peer not in self._links, "a peer has one link"
        self._links[session.peer] = session
        session.begin(take)

    def hang_up(self, session: Session, code: str = "", detail: str = "") -> None:
        """End it; it is gone at once."""
        self.leave(session)
        session.hang_up(code, detail)

    def say(self, peer: bytes, body: bytes) -> bool:
        """Queue encoded gossip for a linked peer, without waiting. False: dropped."""
        link = self._links.get(peer)
        return link is not None and link.say(body)
