"""The feed's desk: who may have one, who has one, and what the cutter hands over (`proto/spec/entropy-feed.md`, "Feed")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qrngd.bell import Bell
from qrngd.feed.batch import CutUnit, SealedBatch
from qrngd.feed.credit import CreditBook, CreditLine
from qrngd.feed.session import FeedConnection, Parcel, Session, receive_open
from qustream.aio.logs import logger
from qustream.errors import fault
from qustream.wire.feed import FeedHealth

__all__ = ["FeedCounts", "FeedService"]


# Units that have to leave before the cutter looks again, unless none is left: looking costs a tenth of sending one.
RING_UNITS = 8


@dataclass(slots=True)
class FeedCounts:
    """Since the daemon started. `dropped`: feeds cut off for what their node did; `discarded`: units nobody got."""

    opened: int = 0
    refused: int = 0
    dropped: int = 0
    delivered: int = 0
    discarded: int = 0


class FeedService:
    """All open feeds of a server. `may_have`: the allow-list, asked at opening and again by `recheck`. `units_per_minute`: most that one
    node gets, 0 for no cap."""

    def __init__(
        self, *, may_have: Callable[[bytes], bool], health: FeedHealth, clock_ms: Callable[[], int], units_per_minute: int = 0
    ) -> None:
        self.counts = FeedCounts()
        self.changed = Bell()  # credit came, room came, somebody left: the cutter looks again
        self._may_have = may_have
        self._health = health
        self._clock_ms = clock_ms
        self._book = CreditBook(units_per_minute)
        self._sessions: dict[bytes, Session] = {}

    # --- what the cutter asks

    @property
    def wanted_units(self) -> int:
        """Units that could be made now."""
        return self._book.wanted_units(self._clock_ms())

    @property
    def allowance_in_ms(self) -> float:
        """When the cap of a node will let something be made for it; infinite if it keeps nobody waiting."""
        return self._book.allowance_in_ms(self._clock_ms())

    @property
    def released_units(self) -> int:
        """Units that are attested and wait for a transport."""
        return sum(session.waiting for session in self._sessions.values())

    def next_session(self) -> Session | None:
        """Whose turn it is; one credit of the node is taken."""
        node = self._book.next_node(self._clock_ms())
        return None if node is None else self._sessions[node]

    def release(self, batch: SealedBatch[Session]) -> None:
        """Hand over a batch whose attestation is signed."""
        for unit, proof in zip(batch.units, batch.proofs, strict=True):
            if unit.owner.closed:
                self._discard(unit)
            else:
                unit.owner.put(Parcel(batch.attestation, batch.root, unit, proof))

    def take_back(self, unit: CutUnit[Session]) -> None:
        """A unit is thrown away before it was attested; its node may have another instead."""
        if not unit.owner.closed:
            self._book.returned(unit.node)
        self._discard(unit)

    def _discard(self, unit: CutUnit[Session]) -> None:
        unit.wipe()
        self.counts.discarded += 1

    # --- what the status shows

    @property
    def lines(self) -> list[tuple[Session, CreditLine]]:
        """Every open feed and its account."""
        return [(self._sessions[line.node], line) for line in self._book.lines()]

    # --- what happens around it

    def announce(self, health: FeedHealth) -> None:
        """The device's state changed: every node is told."""
        self._health = health
        for session in self._sessions.values():
            session.tell(health)

    def recheck(self) -> None:
        """The allow-list changed: whoever is not on it any more is cut off."""
        for node, session in self._sessions.items():
            if not self._may_have(node):
                session.end(fault("E-FEED-REFUSED", "this node was taken off the allow-list"))

    async def serve(self, connection: FeedConnection, *, peer: bytes | None, transport: str) -> None:
        """Serve one connection to its end. `peer`: the id it has proven; None on a Unix socket, where FeedOpen names it.

        Always raises the coded reason for which the connection ends: E-FEED-REFUSED, E-FEED-CREDIT, E-PEER-LIMIT, E-DEADLINE,
        E-FRAME-ORDER, or the connection's own.
        """
        if peer is not None:
            self._admit(peer)  # before it may make us wait for its first request
        number, opening = await receive_open(connection)
        if peer is not None and opening.node != peer:
            raise fault("E-PEER-IDENTITY", "the feed of another node was asked for")
        self._admit(opening.node)
        older = self._sessions.get(opening.node)
        if older is not None:  # the node lost its connection before we noticed
            if peer is None and older.transport != transport:
                self.counts.refused += 1
                raise fault("E-FEED-REFUSED", "this node is connected and has proven its key, which a Unix socket does not")
            self._close(older)
            older.end(fault("E-PEER-CLOSED", "a newer connection of this node took over"))
        self._book.open(opening.node, opening.credit)
        session = Session(opening.node, connection, transport=transport, since_ms=self._clock_ms())
        self._sessions[opening.node] = session
        self.counts.opened += 1
        try:
            await session.answer(number, self._health)
            self.changed.ring()
            logger("qrngd").debug("feed opened", node=opening.node.hex(), transport=transport)
            reason = await session.run(self._take_credits, self._deliver)
        finally:
            self._close(session)
        self.counts.dropped += reason.code != "E-PEER-CLOSED"
        logger("qrngd").debug("feed closed", node=opening.node.hex(), code=reason.code, reason=reason.detail)
        raise reason

    def _admit(self, node: bytes) -> None:
        if not self._may_have(node):
            self.counts.refused += 1
            raise fault("E-FEED-REFUSED", "this node is not on the allow-list of this QRNG server")

    async def _take_credits(self, session: Session) -> None:
        while not session.closed:
            number, units = await session.next_credit()
            if session.closed:  # meanwhile; the account may be a newer connection's by now
                return
            self._book.grant(session.node, units)
            self.changed.ring()
            await session.answer(number, self._health)

    async def _deliver(self, session: Session) -> None:
        def left(unit: CutUnit[Session], was_sent: bool) -> None:
            unit.wipe()
            if session.closed or not was_sent:
                self.counts.discarded += 1
                return
            self._book.taken(unit.node)
            self.counts.delivered += 1
            if session.waiting % RING_UNITS == 0:
                self.changed.ring()

        await session.deliver(left)

    def _close(self, session: Session) -> None:
        if session.closed:
            return
        self.counts.discarded += session.close()
        if self._sessions.get(session.node) is session:
            del self._sessions[session.node]
            self._book.close(session.node)
        self.changed.ring()
